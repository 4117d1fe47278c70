"""Embeddings and galleries that the tests of the PostgreSQL engine share."""

from __future__ import annotations

import hashlib

import numpy as np

from probface.gallery.records import GallerySettings, ModelBinding, NewReferences
from probface.types import Embeddings


def binding(dim: int = 8, width: int = 1, name: str = "tiny") -> ModelBinding:
    return ModelBinding(name, hashlib.sha256(name.encode()).hexdigest(), dim, width)


def settings(dim: int = 8, width: int = 1, *, keep_images: bool = False) -> GallerySettings:
    return GallerySettings(binding(dim, width), keep_images=keep_images)


def faces(seed: int, rows: int, dim: int = 8, width: int = 1) -> Embeddings:
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(rows, dim))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return Embeddings(mu.astype(np.float32), rng.uniform(0.1, 2, (rows, width)).astype(np.float32))


def people(names: str, seed: int = 0, dim: int = 8, width: int = 1) -> NewReferences:
    """One reference for each of the names, which are separated by space."""
    split = tuple(names.split())
    return NewReferences.unlabelled(split, faces(seed, len(split), dim, width))
