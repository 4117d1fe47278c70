"""Faces whose places a protocol's lists give: by their landmarks, or by a box to look into."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from probface.errors import InvalidValue, NoFace
from probface.types import Image

MARGIN = 0.5
"""Of the longer edge of a box, added on every side before a face is looked for: the detector wants to see the head."""


@dataclass(frozen=True, slots=True)
class GivenLandmarks:
    """Where the lists have the five landmarks; nothing is detected.

    Attributes:
        points: (x, y) in pixels, in the order of :class:`probface.types.Face`.
        detector_score: of the detector that found them, 0 or more.
    """

    points: tuple[tuple[float, float], ...]
    detector_score: float

    def __post_init__(self) -> None:
        numbers = (*(value for point in self.points for value in point), self.detector_score)
        if [len(point) for point in self.points] != [2] * 5 or not all(map(math.isfinite, numbers)):
            raise InvalidValue(f"landmarks {self.points}, score {self.detector_score}: need five (x, y), all finite")


@dataclass(frozen=True, slots=True)
class GivenBox:
    """The box that a face is in, in pixels; its landmarks are looked for there. Width and height are above 0."""

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        numbers = (self.x, self.y, self.width, self.height)
        if not (all(map(math.isfinite, numbers)) and self.width > 0 and self.height > 0):
            raise InvalidValue(f"box {numbers}: need finite x, y, width and height, the last two above 0")


GivenFace: TypeAlias = GivenLandmarks | GivenBox


def around(image: Image, box: GivenBox, name: str) -> Image:
    """The part of an image that a box with :data:`MARGIN` covers.

    Raises:
        NoFace: the box lies outside the image; ``name`` is the image's.
    """
    margin = MARGIN * max(box.width, box.height)
    left, top = max(0, math.floor(box.x - margin)), max(0, math.floor(box.y - margin))
    right, bottom = math.ceil(box.x + box.width + margin), math.ceil(box.y + box.height + margin)
    part = image[top : max(bottom, 0), left : max(right, 0)]
    if part.size == 0:
        raise NoFace(
            f"image {name}: {image.shape[0]} x {image.shape[1]} pixels (height x width), its box {box} lies "
            "outside; correct the list"
        )
    return np.ascontiguousarray(part)


def given_digest(face: GivenFace) -> str:
    """SHA-256 of what is given."""
    return hashlib.sha256(repr(face).encode()).hexdigest()
