"""Made-up people whose aligned faces differ by noise and light."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from photos import save


def write_people_images(root: Path, people: Sequence[str], *, images: int = 3, seed: int = 0) -> Path:
    """``root/person/2.png``: smooth random patterns, 112 x 112."""
    rng = np.random.default_rng(seed)
    for name in people:
        pattern = cv2.resize(rng.uniform(0, 255, (7, 7, 3)), (112, 112), interpolation=cv2.INTER_CUBIC)
        for image in range(images):
            face = pattern * rng.uniform(0.8, 1.2) + rng.normal(0, 12, pattern.shape)
            save(root / name / f"{image}.png", np.clip(face, 0, 255).astype(np.uint8))
    return root
