"""What is measured of a segmentation or a classification, and how sure it is. Arrays in, numbers out."""
