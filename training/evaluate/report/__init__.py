"""What a task leaves behind, and the page that is made of it."""
