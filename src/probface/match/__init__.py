"""Exact search and whole matrices of scores, faster than the formula: the same results on every path."""
