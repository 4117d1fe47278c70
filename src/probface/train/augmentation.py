"""What happens to a face before a network in training sees it, decided by seed, step and place in the batch alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probface.face.degrade import MIXTURES
from probface.train.backbone_config import AugmentConfig
from probface.types import Image


class Augmentation:
    """The changes of one step, of which a process sees its part.

    Args:
        config: how many images are changed.
        seed, step: of the draw.
        batch: images in the step, over all processes.
        start: place in it of the first image that this object is called for.

    Attributes:
        mirror: (batch - start,) bool, which images are mirrored, from ``start``. The network's device does it: a
            matter of microseconds there, and of a tenth of the loader's time here.
    """

    def __init__(self, config: AugmentConfig, seed: int, step: int, batch: int, start: int = 0) -> None:
        mirror, degrade = np.random.default_rng([seed, step]).random((2, batch))[:, start:]
        self.mirror: NDArray[np.bool_] = mirror < config.mirror
        self._degrade = degrade < config.degraded
        self._draw, self._start = (seed, step), start

    def __call__(self, image: Image, place: int) -> Image:
        """The face at a place, counted from ``start``, degraded where it is its turn."""
        if not self._degrade[place]:
            return image
        return MIXTURES["moderate"](image, np.random.default_rng([*self._draw, self._start + place]))
