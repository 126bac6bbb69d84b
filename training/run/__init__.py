"""A run: its settings, its processes, its folder and checkpoints, what it logs and watches."""
