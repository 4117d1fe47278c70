"""What a verb and the Python function of the same name both do where nothing is said.

Here, and not in the rooms, because the command line must know it without loading them.
"""

from __future__ import annotations

DEFAULT_MODEL = "sface"
"""Name of the model."""

MAX_PIXELS = 40_000_000
"""Largest number of pixels of an image, against decompression bombs."""

JUDGING_IMAGES = 1500
"""Largest number of images that an export is judged on."""
