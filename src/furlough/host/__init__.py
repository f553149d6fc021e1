"""The program that is copied to hosts. Nothing here imports the rest, nor is imported by it."""
