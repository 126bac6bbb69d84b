"""What learns: the student and its teacher, their heads, the optimiser and how its numbers move."""
