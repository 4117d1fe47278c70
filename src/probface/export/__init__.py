"""Trained models into files that others read, and others' files into ours."""
