"""Files to (image bytes, label), one format to a file, and nothing else."""
