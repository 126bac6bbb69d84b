"""The run folder, which makes every task resumable and shared among ranks, and its progress line."""
