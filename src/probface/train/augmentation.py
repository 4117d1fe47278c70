"""What happens to a face before a network in training sees it, decided by seed, step and place in the batch alone."""

from __future__ import annotations

import numpy as np

from probface.face.degrade import MIXTURES
from probface.train.backbone_config import AugmentConfig
from probface.train.features import mirrored
from probface.types import Image


class Augmentation:
    """The changes of one step, of which a process sees its part.

    Args:
        config: how many images are changed.
        seed, step: of the draw.
        batch: images in the step, over all processes.
        start: place in it of the first image that this object is called for.
    """

    def __init__(self, config: AugmentConfig, seed: int, step: int, batch: int, start: int = 0) -> None:
        mirror, degrade = np.random.default_rng([seed, step]).random((2, batch))
        self._mirror, self._degrade = mirror < config.mirror, degrade < config.degraded
        self._draw, self._start = (seed, step), start

    def __call__(self, image: Image, place: int) -> Image:
        """The face at a place, counted from ``start``, as the network will see it."""
        place += self._start
        if self._degrade[place]:
            image = MIXTURES["moderate"](image, np.random.default_rng([*self._draw, place]))
        return mirrored(image) if self._mirror[place] else image
