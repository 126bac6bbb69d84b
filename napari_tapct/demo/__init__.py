"""The plugin at work on the packaged samples: ``python -m napari_tapct.demo`` opens it, or writes pictures of it."""
