"""The losses of the paper and of its baseline, one idea to a file."""
