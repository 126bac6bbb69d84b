"""The face for people: readers, the label writer, sample data and widgets for napari.

Nothing is imported here: napari reads the manifest (``napari.yaml``) and imports a command's module
when somebody uses it, so that torch and scikit-learn wait until they are needed.
"""
