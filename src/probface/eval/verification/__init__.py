"""Judging one-to-one comparison: from embeddings and comparisons to the parts of a report."""
