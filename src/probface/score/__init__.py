"""Scores: how alike two faces are. One formula of the paper to a file, over numpy and torch arrays alike."""
