"""A small folder data set: made-up people whose aligned faces differ by noise and light."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from probface.face.image import encode_png


def write_people(root: Path, people: int, images: int = 3, seed: int = 0) -> Path:
    """``root/person-07/2.png``: smooth random patterns, 112 x 112."""
    rng = np.random.default_rng(seed)
    for person in range(people):
        folder = root / f"person-{person:02d}"
        folder.mkdir(parents=True)
        pattern = cv2.resize(rng.uniform(0, 255, (7, 7, 3)), (112, 112), interpolation=cv2.INTER_CUBIC)
        for image in range(images):
            face = pattern * rng.uniform(0.8, 1.2) + rng.normal(0, 12, pattern.shape)
            (folder / f"{image}.png").write_bytes(encode_png(np.clip(face, 0, 255).astype(np.uint8)))
    return root
