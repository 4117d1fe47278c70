"""The road walked once, for the command line and Python callers alike: detect, verify, embed."""
