"""Lesion follow-up in napari: two time points side by side, proposals to decide on, measurements and response."""
