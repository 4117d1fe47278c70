"""Sharpness of an aligned face: a measure of quality that needs no network."""

from __future__ import annotations

import cv2

from probface.types import Image


def sharpness(image: Image) -> float:
    """Variance of the Laplacian of the grey image (Pech-Pacheco et al., 2000), in squared grey levels; 0 or more.

    It grows with the size of an image: compare only images of one size, such as aligned faces.

    Args:
        image: RGB uint8 (height, width, 3).
    """
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
