import cv2
import numpy as np
from scipy.ndimage import convolve

from photos import portrait
from probface.face.sharpness import sharpness

LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])


def test_it_is_the_variance_of_the_laplacian() -> None:
    image = portrait(112)
    grey = np.rint(image.astype(np.float64) @ [0.299, 0.587, 0.114])
    by_hand = convolve(grey, LAPLACIAN, mode="mirror").var()
    assert abs(sharpness(image) / by_hand - 1) < 0.01  # OpenCV's grey is rounded from whole-number weights


def test_blur_lowers_it_to_nothing() -> None:
    image = portrait(112)
    found = [sharpness(cv2.GaussianBlur(image, (0, 0), width)) for width in (0.5, 1, 2, 4)]
    assert found == sorted(found, reverse=True)
    assert sharpness(image) > found[0]
    assert sharpness(np.full((112, 112, 3), 90, np.uint8)) == 0
