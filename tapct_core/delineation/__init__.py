"""From strokes and probabilities to labels on the scan's own voxels."""
