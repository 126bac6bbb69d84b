"""The Segment widget: strokes, the segmentation that follows them, what becomes of it."""
