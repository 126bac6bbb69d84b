"""One file a task, named as in ``python -m training.evaluate TASK``, and what tasks share."""
