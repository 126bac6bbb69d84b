"""The study that is worked on: every change with its way back, opening, saving, recovery after a crash."""
