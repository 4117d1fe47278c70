"""Embeddings that spread like those of faces, for measurements: several images of each person, some sharper."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probface.types import Embeddings, FloatArray

IMAGES = 10
"""References to an identity, on average."""
_ROWS = 50_000


def synthetic_faces(probes: int, references: int, dim: int, *, seed: int = 0) -> tuple[Embeddings, Embeddings]:
    """Probes, half of them of people in the gallery and half of strangers, and references.

    The cosine of two images of one person is about 0.6 where both are sharp; ``sigma_sq`` is lognormal about 0.3.
    """
    rng = np.random.default_rng(seed)
    people = rng.standard_normal((max(1, references // IMAGES), dim), dtype=np.float32)
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    enrolled = _images(rng, people, rng.integers(0, len(people), references))
    known = _images(rng, people, rng.integers(0, len(people), probes - probes // 2))
    strangers = rng.standard_normal((probes // 2, dim), dtype=np.float32)
    strangers /= np.linalg.norm(strangers, axis=1, keepdims=True)
    sigma_sq = _sigma_sq(rng, len(strangers))
    return Embeddings.concatenate([Embeddings(strangers, sigma_sq), known]), enrolled


def _images(rng: np.random.Generator, people: FloatArray, whose: NDArray[np.int64]) -> Embeddings:
    sigma_sq = _sigma_sq(rng, len(whose))
    mu = np.empty((len(whose), people.shape[1]), np.float32)
    for start in range(0, len(whose), _ROWS):
        rows = slice(start, start + _ROWS)
        noise = rng.standard_normal(mu[rows].shape, dtype=np.float32)
        noise *= np.sqrt(2 * sigma_sq[rows]) / np.linalg.norm(noise, axis=1, keepdims=True)
        mu[rows] = people[whose[rows]] + noise
        mu[rows] /= np.linalg.norm(mu[rows], axis=1, keepdims=True)
    return Embeddings(mu, sigma_sq)


def _sigma_sq(rng: np.random.Generator, rows: int) -> FloatArray:
    values = np.clip(np.exp(rng.normal(np.log(0.3), 0.35, (rows, 1))), 0.05, 1.5)
    return values.astype(np.float32)
