"""Seeded image degradations, each with a strength in [0, 1], for training and for judging.

A recognition network is trained mostly on good images. What it does with bad ones is what an uncertainty must
foretell, so bad ones are made here: each *kind* maps ``(image, strength, rng)`` to an image of the same shape.
Strength 0 returns the image unchanged; strength 1 leaves hardly anything to recognise. In between the physical
parameter moves so that equal steps of strength look like equal steps to the eye:

=============== ======================================================= ===========================
kind            parameter at strength ``s`` (``side``: shorter edge)     at 112 pixels, s = 1
=============== ======================================================= ===========================
gaussian_blur   standard deviation ``s * 0.08 * side``                  9 px
motion_blur     length of a line kernel at a random angle               30 px
resample        shrink to ``side * (8 / 112) ** s`` and enlarge again   8 px face
jpeg            quality ``95 * (2 / 95) ** s``                          quality 2
noise           additive Gaussian, standard deviation ``60 * s``        60 grey levels
low_light       gain ``0.05 ** s``, then sensor noise ``8 * s``         1/20 of the light
occlusion       one square of a random grey or colour, ``0.6 s * side`` 67 px
=============== ======================================================= ===========================

Images are RGB uint8 (height, width, 3), as everywhere in the package. The same generator state gives the same image.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.types import Image

DegradationFn: TypeAlias = Callable[[Image, float, np.random.Generator], Image]


def gaussian_blur(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Blur by a Gaussian of standard deviation ``strength * 0.08 * shorter edge`` (9 pixels of 112 at strength 1)."""
    sigma = strength * 0.08 * min(image.shape[:2])
    return _uint8(cv2.GaussianBlur(image, (0, 0), sigma)) if sigma > 0 else image


def motion_blur(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Blur along a straight line at a random angle; 30 of 112 pixels long at strength 1."""
    length = 1 + strength * 0.26 * min(image.shape[:2])
    angle = rng.uniform(0, np.pi)
    radius = int(np.ceil(length / 2))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    # Dense points on the segment, spread bilinearly: lengths between whole pixels differ, too.
    for offset in np.linspace(-(length - 1) / 2, (length - 1) / 2, 8 * radius + 1):
        x, y = radius + offset * np.cos(angle), radius + offset * np.sin(angle)
        column, row = int(np.floor(x)), int(np.floor(y))
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (1 - abs(x - column - dx)) * (1 - abs(y - row - dy))
            if weight > 0:
                kernel[row + dy, column + dx] += weight
    return _uint8(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101))


def resample(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Shrink by area averaging to ``(8 / 112) ** strength`` of the size, then enlarge (bilinear or bicubic)."""
    height, width = image.shape[:2]
    ratio = (8 / 112) ** strength
    small = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    enlarge = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    return _uint8(
        cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=enlarge)
    )


def jpeg(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Encode as JPEG of quality ``95 * (2 / 95) ** strength`` and decode again."""
    quality = max(1, round(95 * (2 / 95) ** strength))
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(_uint8(decoded)[..., ::-1])


def noise(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Add independent Gaussian noise of standard deviation ``60 * strength`` grey levels to every value."""
    return _clip(image + rng.normal(0, 60 * strength, image.shape))


def low_light(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Keep ``0.05 ** strength`` of the light, then add sensor noise of ``8 * strength`` grey levels."""
    return _clip(image * 0.05**strength + rng.normal(0, 8 * strength, image.shape))


def occlusion(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Cover a square of edge ``0.6 * strength * shorter edge`` at a random place with one random colour."""
    height, width = image.shape[:2]
    edge = round(0.6 * strength * min(height, width))
    top, left = int(rng.integers(0, height - edge + 1)), int(rng.integers(0, width - edge + 1))
    covered = image.copy()
    covered[top : top + edge, left : left + edge] = rng.integers(0, 256, 3)
    return covered


KINDS: MappingProxyType[str, DegradationFn] = MappingProxyType(
    {
        function.__name__: function
        for function in (gaussian_blur, motion_blur, resample, jpeg, noise, low_light, occlusion)
    }
)


def degrade(image: Image, kind: str, strength: float, rng: np.random.Generator) -> Image:
    """Degrade one image.

    Args:
        image: RGB uint8, (height, width, 3).
        kind: a name in :data:`KINDS`.
        strength: in [0, 1]; 0 returns the image unchanged.
        rng: source of the random choices (angle, place, colour, noise).

    Raises:
        InvalidValue: unknown kind, or strength outside [0, 1].
    """
    if kind not in KINDS:
        raise InvalidValue(f"degradation {kind!r}: not a known kind; choose one of {', '.join(KINDS)}")
    if not 0 <= strength <= 1:
        raise InvalidValue(f"strength {strength!r}: must be in [0, 1]; clip or rescale it")
    return image if strength == 0 else KINDS[kind](image, strength, rng)


@dataclass(frozen=True, slots=True)
class Step:
    """One kind with the range that its strength is drawn from, uniformly, and its weight within a mixture."""

    kind: str
    low: float
    high: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidValue(f"degradation {self.kind!r}: not a known kind; choose one of {', '.join(KINDS)}")
        if not 0 <= self.low <= self.high <= 1:
            raise InvalidValue(f"{self.kind} strengths ({self.low}, {self.high}): need 0 <= low <= high <= 1")
        if not self.weight > 0:
            raise InvalidValue(f"{self.kind} weight {self.weight}: must be positive")


@dataclass(frozen=True, slots=True)
class Mixture:
    """Random degradations: ``rounds`` times, draw one of ``steps`` by weight and a strength from its range.

    Two rounds make compositions (a small *and* noisy face). The steps of one image are never of the same kind.
    """

    name: str
    steps: tuple[Step, ...]
    rounds: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= len({step.kind for step in self.steps}):
            raise InvalidValue(f"mixture {self.name!r}: rounds {self.rounds} needs as many different kinds")

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """The (kind, strength) pairs for one image, in the order in which they are applied."""
        left, drawn = list(self.steps), []
        for _ in range(self.rounds):
            weights = np.array([step.weight for step in left])
            step = left[int(rng.choice(len(left), p=weights / weights.sum()))]
            drawn.append((step.kind, float(rng.uniform(step.low, step.high))))
            left = [other for other in left if other.kind != step.kind]
        return drawn

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Degrade ``image`` (RGB uint8, (height, width, 3)); the same generator state gives the same image."""
        for kind, strength in self.draw(rng):
            image = degrade(image, kind, strength, rng)
        return image


_MODERATE: Sequence[Step] = (
    Step("gaussian_blur", 0.11, 0.56, weight=0.20),  # 1 to 5 px of 112
    Step("motion_blur", 0.10, 0.50, weight=0.10),  # 4 to 15 px
    Step("resample", 0.21, 0.74, weight=0.35),  # a face of 64 down to 16 px
    Step("jpeg", 0.22, 0.72, weight=0.10),  # quality 40 to 6
    Step("noise", 0.17, 0.83, weight=0.10),  # 10 to 50 grey levels
    Step("low_light", 0.31, 0.77, weight=0.05),  # 0.4 to 0.1 of the light
    Step("occlusion", 0.30, 0.74, weight=0.10),  # 20 to 50 px
)

MODERATE = Mixture("moderate", tuple(_MODERATE))
"""Bad, and mostly still recognisable: one kind an image. The judge of "degraded" figures, unless said otherwise."""

COMPOSED = Mixture("composed", tuple(_MODERATE), rounds=2)
"""Two kinds of :data:`MODERATE`, one after the other."""

EXTREME = Mixture("extreme", (Step("resample", 0.74, 1.0), Step("gaussian_blur", 0.56, 1.0)))
"""Hardly recognisable: faces of 8 to 16 pixels, or Gaussian blur of 5 to 9 pixels (at 112)."""

MIXTURES: MappingProxyType[str, Mixture] = MappingProxyType({m.name: m for m in (MODERATE, COMPOSED, EXTREME)})


def image_rng(seed: int, state: str, copy: int, name: str) -> np.random.Generator:
    """The generator that degrades one image: it depends on these four alone, so every run gives the same pixels.

    Args:
        seed: of the whole set.
        state: name of the mixture.
        copy: number of the copy, where an image is degraded several times.
        name: of the image.
    """
    label = name.encode("utf-8", "surrogateescape")
    return np.random.default_rng([seed, zlib.crc32(state.encode()), copy, zlib.crc32(label)])


def _uint8(image: object) -> Image:
    return np.asarray(image, np.uint8)


def _clip(values: NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
