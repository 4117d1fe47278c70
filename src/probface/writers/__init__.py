"""Images and labels to the files of the field, one format to a file, and nothing else."""
