"""What staging storage holds, and how it is read and written."""
