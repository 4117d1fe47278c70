"""Faces whose scores are known: pairs in the plane, and noisy people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from probface.eval.candidate import Candidate
from probface.eval.comparisons import Comparisons
from probface.eval.face_table import FaceTable
from probface.eval.results import System
from probface.types import Embeddings, Metric

Listed = tuple[FaceTable, Comparisons]


@pytest.fixture(scope="session")
def listed() -> Callable[..., Listed]:
    """A list of pairs of two images each, ``a0`` and ``b0`` the first, whose cosines are given."""

    def make(
        cosines: Sequence[float],
        genuine: Sequence[bool],
        *,
        folds: Sequence[int] | None = None,
        subjects: Sequence[tuple[str, str]] | None = None,
        sigma_sq: Sequence[tuple[float, float]] | None = None,
    ) -> Listed:
        count = len(cosines)
        cos = np.repeat(np.asarray(cosines, np.float64), 2)
        cos[::2] = 1
        mu = np.stack([cos, np.sqrt(1 - cos**2)], axis=1).astype(np.float32)
        variance = np.full((2 * count, 1), 0.25) if sigma_sq is None else np.reshape(sigma_sq, (2 * count, 1))
        names = tuple(f"{side}{pair}" for pair in range(count) for side in "ab")
        who = subjects or [(f"p{pair}", f"p{pair}" if same else f"q{pair}") for pair, same in enumerate(genuine)]
        comparisons = Comparisons(
            names,
            tuple(name for both in who for name in both),
            np.arange(0, 2 * count, 2),
            np.arange(1, 2 * count, 2),
            np.array(genuine, np.bool_),
            None if folds is None else np.array(folds, np.int64),
        )
        return FaceTable(names, Embeddings(mu, variance.astype(np.float32))), comparisons

    return make


@pytest.fixture(scope="session")
def crowd() -> Callable[..., Listed]:
    """All pairs of noisy images of people; the noisier an image, the larger its variance. Two further measures."""

    def make(people: int = 40, images: int = 120, seed: int = 0) -> Listed:
        rng = np.random.default_rng(seed)
        person = np.concatenate([np.arange(people), rng.integers(0, people, images - people)])
        noise = rng.uniform(0.02, 0.3, (images, 1))
        mu = rng.normal(size=(people, 16))[person] / 4 + noise * rng.normal(size=(images, 16))
        mu /= np.linalg.norm(mu, axis=1, keepdims=True)
        names = tuple(f"image {row:03d}" for row in range(images))
        table = FaceTable(
            names,
            Embeddings(mu.astype(np.float32), (16 * noise**2).astype(np.float32)),
            {"chance": rng.random(images), "steps": np.rint(5 * (1 - noise[:, 0]))},
        )
        first, second = np.triu_indices(images, 1)
        subjects = tuple(f"person {number:02d}" for number in person)
        return table, Comparisons(names, subjects, first, second, person[first] == person[second])

    return make


@pytest.fixture(scope="session")
def candidate() -> Callable[..., Candidate]:
    """One of a metric, named after it."""

    def make(table: FaceTable, metric: Metric = "cosine", *, key: str = "", trained: Sequence[str] = ()) -> Candidate:
        name = key or metric
        return Candidate(System(name, name.upper(), "model", "", metric), table, frozenset(trained))

    return make
