"""A data set in the form of LFW: made-up people whose aligned faces differ by noise and light."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from photos import save
from probface.readers.lfw import image_name


def write_small_lfw(root: Path, people: list[str], *, images: int = 3, folds: int = 2, seed: int = 0) -> Path:
    """``lfw/Name/Name_0001.jpg``, ``people.txt``, and all genuine pairs with as many impostors in ``pairs.txt``.

    Each fold has as many people as the others.
    """
    rng = np.random.default_rng(seed)
    for name in people:
        pattern = cv2.resize(rng.uniform(0, 255, (7, 7, 3)), (112, 112), interpolation=cv2.INTER_CUBIC)
        for number in range(1, images + 1):
            face = pattern * rng.uniform(0.7, 1.3) + rng.normal(0, 40, pattern.shape)
            path = root / "lfw" / f"{image_name(name, number)}.jpg"
            save(path, np.clip(face, 0, 255).astype(np.uint8))
    parts = [people[fold::folds] for fold in range(folds)]
    listed = [f"{len(part)}\n" + "".join(f"{name}\t{images}\n" for name in part) for part in parts]
    (root / "people.txt").write_text(f"{folds}\n" + "".join(listed))
    blocks = [_pairs(part, images) for part in parts]
    (root / "pairs.txt").write_text(f"{folds}\t{len(blocks[0]) // 2}\n" + "".join(map("".join, blocks)))
    return root


def _pairs(people: list[str], images: int) -> list[str]:
    genuine = [f"{name}\t{a}\t{b}\n" for name in people for a, b in combinations(range(1, images + 1), 2)]
    others = [
        f"{one}\t{a}\t{other}\t{b}\n"
        for one, other in combinations(people, 2)
        for a in range(1, images + 1)
        for b in range(1, images + 1)
    ]
    return genuine + others[: len(genuine)]
