"""The paper's frozen-feature evaluation: ``python -m training.evaluate segmentation|classification|...``.

A task reads a data set, embeds its cases for every row, fits heads on frozen features and scores them. From the ground
up, a file imports from its own folder and those above it:

runs/        the run folder: one JSON a finished case, so that everything resumes and shards
datasets/    what is evaluated: cases, labels, splits, and a reader for each layout
metrics/     overlap, ranking, intervals and tests, on arrays
heads/       what is trained on frozen features, and nested cross-validation
embeddings/  rows of a table (an encoder and its input plan) and their frozen features, made once
report/      tables, curves, and the page
tasks/       one file a task
"""
