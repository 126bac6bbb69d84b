"""The paper's frozen-feature evaluation: ``python -m training.evaluate segmentation|classification|...``.

cases.py     what is evaluated: cases, data sets, splits
run.py       the run folder: one JSON a finished case, so that everything resumes and shards
features.py  rows of a table (an encoder and its input plan) and their frozen embeddings, made once

A task reads a data set, embeds its cases for every row, fits heads on frozen features and scores them.
"""
