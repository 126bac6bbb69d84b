"""What is trained on frozen features, and by which cases."""
