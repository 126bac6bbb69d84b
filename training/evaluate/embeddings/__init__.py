"""Rows of a table (an encoder and its input plan), and their frozen features, made once."""
