"""What the student is asked: small functions of tensors, each with its paper, none knows of a model."""
