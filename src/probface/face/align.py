"""Faces cut out as recognition networks were trained to see them: eyes, nose and mouth at fixed places.

The only copy of the five-point templates. A wrong template is the commonest silent error in face recognition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from probface.errors import InvalidValue
from probface.face.image import check_image
from probface.types import Image


@dataclass(frozen=True, slots=True)
class Template:
    """Where the five landmarks belong.

    Attributes:
        points: (x, y) of the eyes, the nose tip and the mouth corners, in the order of ``Face.landmarks``.
        height, width: of the image that they are given for, in pixels.
    """

    points: tuple[tuple[float, float], ...]
    height: int
    width: int

    def scaled(self, height: int, width: int) -> NDArray[np.float64]:
        """(5, 2) points for an image of another size; each axis is stretched by itself."""
        return np.asarray(self.points) * [width / self.width, height / self.height]


_ARCFACE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))

TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        "arcface": Template(_ARCFACE, 112, 112),
        "arcface-96": Template(tuple((x - 8, y) for x, y in _ARCFACE), 112, 96),
    }
)
"""``arcface``: InsightFace's 112 x 112, also SFace's. ``arcface-96``: the same cut to 96 wide and 112 high."""


WARP_LIMIT = 32_766
"""OpenCV 4 warps no image with a longer edge."""


def similarity_transform(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The rotation, uniform scale and shift that take ``source`` nearest to ``target`` (Umeyama 1991, least squares).

    Args:
        source: (K, 2) points.
        target: (K, 2) points.

    Returns:
        (2, 3) matrix M: ``M @ [x, y, 1]`` maps a source point. Never a reflection.

    Raises:
        InvalidValue: fewer than two points, different shapes, or points that all coincide or are not finite.
    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 2 or len(a) < 2:
        raise InvalidValue(f"points of shapes {a.shape} and {b.shape}: need the same (K, 2), K 2 or more")
    for points in (a, b):
        if not np.isfinite(points).all() or not 1e-6 < np.ptp(points, axis=0).max() < 1e100:
            raise InvalidValue(f"landmarks {points.tolist()}: must be finite and apart from each other")
    centre_a, centre_b = a.mean(axis=0), b.mean(axis=0)
    # In the plane the best rotation and scale are one complex number: sum conj(a) b / sum |a|^2.
    za, zb = ((a - centre_a) @ [1, 1j]), ((b - centre_b) @ [1, 1j])
    turn = (za.conj() * zb).sum() / (za.conj() * za).real.sum()
    rotation = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([rotation, centre_b - rotation @ centre_a])


def align(
    image: Image,
    landmarks: Sequence[tuple[float, float]],
    template: str = "arcface",
    size: tuple[int, int] = (112, 112),
) -> Image:
    """Cut out a face so that its landmarks lie where the template wants them.

    Args:
        image: RGB uint8, (height, width, 3).
        landmarks: five (x, y) points in the order of ``Face.landmarks``.
        template: a name in :data:`TEMPLATES`.
        size: (height, width) of the result; the template is scaled to it.

    Returns:
        RGB uint8, (height, width, 3), bilinear; black beyond the image. Where the face is more than twice as large as
        the result, the image is first shrunk by area averaging: bilinear sampling alone would skip pixels (aliasing).

    Raises:
        InvalidValue: unknown template, a size below 1, landmarks that all coincide, or an image not RGB uint8.
    """
    if min(size) < 1:
        raise InvalidValue(f"size {size}: must be (height, width), each 1 or more")
    if template not in TEMPLATES:
        raise InvalidValue(f"template {template!r}: must be one of {', '.join(TEMPLATES)}")
    image = check_image(image)
    target = TEMPLATES[template].scaled(*size)
    matrix = similarity_transform(landmarks, target)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:
        image, matrix = _shrink(image, matrix, 2 * scale)
    if max(image.shape[:2]) > WARP_LIMIT:
        image, matrix = _cut(image, matrix, size)
    return np.asarray(cv2.warpAffine(image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR), np.uint8)


def resize_aligned(image: Image, size: tuple[int, int], name: str) -> Image:
    """An aligned face at the size that a network takes: 112 x 112 to 96 x 96, as the reference code trains.

    Args:
        image: RGB uint8 (height, width, 3).
        size: (height, width).
        name: what to call the image in the message.

    Raises:
        InvalidValue: the image has other proportions, so it was aligned otherwise.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    if abs(height * size[1] - width * size[0]) > max(size):
        raise InvalidValue(
            f"aligned image {name}: {height} x {width} pixels (height x width), the model takes {size[0]} x {size[1]}; "
            "cut it to those proportions"
        )
    method = cv2.INTER_AREA if height > 2 * size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=method), np.uint8)


def _shrink(image: Image, matrix: NDArray[np.float64], ratio: float) -> tuple[Image, NDArray[np.float64]]:
    """The image at ``ratio`` of its size, and the same mapping from there; pixel centres stay where they are."""
    height, width = image.shape[:2]
    small = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    x, y = width / small[0], height / small[1]
    back = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    return np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8), matrix @ back


def _cut(image: Image, matrix: NDArray[np.float64], size: tuple[int, int]) -> tuple[Image, NDArray[np.float64]]:
    """The part of the image that the result shows, and the same mapping from there."""
    height, width = size
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ inverse.T
    limits = np.array([image.shape[1] - 1, image.shape[0] - 1])
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - 2, 0, limits)  # two pixels for the interpolation
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, 0, limits)
    shifted = matrix @ [[1, 0, left], [0, 1, top], [0, 0, 1]]
    return np.ascontiguousarray(image[top : bottom + 1, left : right + 1]), shifted
