"""One file of stories for each port, told to every adapter of it."""
