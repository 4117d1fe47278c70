"""Identity-balanced batches: P people times K images, drawn afresh for every step from (seed, step) alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError


def shuffled(images: int, batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """The batch of one step when every image comes once in an epoch: numbers of images, (batch,).

    Each epoch is a permutation drawn from (seed, epoch); its last incomplete batch is left out.
    """
    epoch, place = divmod(step, images // batch)
    return _permutation(images, seed, epoch)[place * batch : (place + 1) * batch]


@lru_cache(maxsize=2)
def _permutation(images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(images)


class BalancedSampler:
    """Draws batches of ``people`` x ``images``; cost O(batch) a step, however many people there are.

    A batch depends on the seed and the step number only, so that training resumes anywhere with the same batches.

    Args:
        labels: (N,) the person of each image; any integers.
        shares: the share of the batch for each variant (a cached copy of every image), normalised here.
        people: different people in a batch.
        images: images of each; with replacement only where a person has fewer.
        seed: of the draw.

    Raises:
        DataError: fewer people with two images or more than a batch needs.
    """

    def __init__(
        self, labels: NDArray[np.int64], shares: Sequence[float], *, people: int, images: int, seed: int
    ) -> None:
        order = np.argsort(labels, kind="stable")
        _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        enough = counts >= 2
        if enough.sum() < people:
            raise DataError(
                f"{enough.sum()} people have two images or more: a batch needs {people}; "
                "bring more people, or set optimiser.people lower"
            )
        self._order, self._starts, self._counts = order, starts[enough], counts[enough]
        self._cumulative = np.cumsum(shares) / np.sum(shares)
        self._people, self._images, self._seed = people, images, seed

    def __call__(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The batch of one step: (B,) image rows, (B,) variants in ascending order, (B,) labels 0..people-1."""
        rng = np.random.default_rng([self._seed, step])
        chosen = rng.choice(len(self._starts), self._people, replace=False, shuffle=False)
        rows = self._starts[chosen, None] + self._some_of(
            self._counts[chosen], rng.random((self._people, self._images))
        )
        variants = np.searchsorted(self._cumulative, rng.random(rows.size), side="right")
        variants = np.minimum(variants, len(self._cumulative) - 1)
        by_variant = np.argsort(variants, kind="stable")
        labels = np.repeat(np.arange(self._people), self._images)
        return self._order[rows.ravel()[by_variant]], variants[by_variant], labels[by_variant]

    def _some_of(self, counts: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """(P, K) places below each of (P,) counts, all different where there are K: each is drawn among those left."""
        enough = counts >= self._images
        places = np.empty(uniform.shape, np.int64)
        for i in range(self._images):
            left = np.where(enough, counts - i, counts)
            place = (uniform[:, i] * left).astype(np.int64)
            for taken in np.sort(places[:, :i], axis=1).T:
                place += enough & (place >= taken)
            places[:, i] = place
        return places
