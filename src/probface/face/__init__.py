"""From bytes to an aligned face: decoding, detection, alignment, and degradations for training and judging."""
