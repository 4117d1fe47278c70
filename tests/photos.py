"""Photographs to test with: one public-domain portrait, in many states."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow
from skimage.data import astronaut


def portrait(size: int = 512, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """The portrait as a square photo."""
    kind = cv2.INTER_AREA if size < 512 else cv2.INTER_CUBIC
    photo = cv2.resize(astronaut(), (size, size), interpolation=kind).astype(float)
    return np.clip(photo + np.random.default_rng(seed).normal(0, noise, photo.shape), 0, 255).astype(np.uint8)


def far_away(face_pixels: int) -> np.ndarray:
    """A photo of 600 x 600 pixels in which the face is but so many pixels high."""
    photo = np.full((600, 600, 3), 90, np.uint8)
    small = portrait(round(512 * face_pixels / 114))
    photo[100 : 100 + len(small), 100 : 100 + len(small)] = small
    return photo


def save(path: Path, photo: np.ndarray) -> Path:
    """Write a photo in the format that its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(photo).save(path)
    return path


def folder_of_photos(folder: Path, count: int) -> Path:
    """``count`` photos with a face, one without, and a file that is no image."""
    for number in range(count):
        save(folder / f"photo-{number:02d}.png", portrait(300 + 7 * number, noise=3.0 * number, seed=number))
    save(folder / "wall.png", np.full((300, 300, 3), 120, np.uint8))
    (folder / "text.jpg").write_text("no image")
    return folder
