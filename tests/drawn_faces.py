"""Embeddings of made-up people: directions drawn around each person's own, less sure ones farther away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probface.eval.face_table import DETECTOR_SCORE, NORM, FaceTable
from probface.types import Embeddings


def drawn_faces(names: Sequence[str], people: Sequence[object], *, seed: int = 0, dim: int = 8) -> FaceTable:
    """A face for each name, with norm and detector score; ``people`` says who is on each."""
    rng = np.random.default_rng(seed)
    _, who = np.unique([str(person) for person in people], return_inverse=True)
    sigma_sq = rng.uniform(0.05, 0.6, (len(names), 1))
    centres = rng.normal(size=(who.max() + 1, dim))
    mu = centres[who] / np.linalg.norm(centres[who], axis=1, keepdims=True)
    mu += np.sqrt(sigma_sq / dim) * rng.normal(size=mu.shape)
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    measures = {NORM: rng.uniform(5, 20, len(names)), DETECTOR_SCORE: rng.uniform(0.6, 1, len(names))}
    return FaceTable(tuple(names), Embeddings(mu.astype(np.float32), sigma_sq.astype(np.float32)), measures)


def write_faces(path: Path, table: FaceTable) -> Path:
    """The table as ready embeddings."""
    np.savez(
        path,
        path=np.array(table.names),
        mu=table.embeddings.mu,
        sigma_sq=table.embeddings.sigma_sq,
        norm=table.measures[NORM],
        detector_score=table.measures[DETECTOR_SCORE],
    )
    return path
