"""Every image against every other: the comparisons that thresholds and low false-match rates are measured on.

One image may be there in several states (clean, degraded). An image is never compared with its own copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.score.by_metric import score_matrix
from probface.types import Embeddings, FloatArray, Metric

BLOCK_ROWS = 512


@dataclass(frozen=True, slots=True, eq=False)
class CrossPairs:
    """All unordered pairs (i < j) of N faces that are not of one image, row by row.

    Attributes:
        people: (N,) int64, who each face is.
        images: (N,) int64, the image that each face was made from; equal for the copies of one.
        genuine: (P,) bool, whether the two faces of a pair are of one person.
    """

    people: NDArray[np.int64]
    images: NDArray[np.int64]
    genuine: NDArray[np.bool_]

    @classmethod
    def of(cls, people: NDArray[np.int64], images: NDArray[np.int64]) -> CrossPairs:
        """Enumerate the pairs of N faces.

        Raises:
            InvalidValue: the arrays differ in length, or hold no pair.
        """
        people, images = np.asarray(people, np.int64), np.asarray(images, np.int64)
        if people.shape != images.shape or people.ndim != 1:
            raise InvalidValue(f"people {people.shape} and images {images.shape}: must both be (N,)")
        blocks = [(people[rows, None] == people[None, :])[keep] for rows, keep in _blocks(images)]
        genuine = np.concatenate(blocks) if blocks else np.empty(0, np.bool_)
        if genuine.size == 0:
            raise InvalidValue(f"{len(people)} faces of {len(np.unique(images))} images: need two images or more")
        return cls(people, images, genuine)

    def scores(self, embeddings: Embeddings, metric: Metric) -> FloatArray:
        """(P,) float32 scores of the pairs, in the order of ``genuine``.

        Raises:
            InvalidValue: unknown metric, or another number of faces.
        """
        if len(embeddings) != len(self.people):
            raise InvalidValue(f"{len(embeddings)} embeddings for {len(self.people)} faces: need one for each")
        out = np.empty(self.genuine.shape, np.float32)
        done = 0
        for rows, keep in _blocks(self.images):
            scores = score_matrix(embeddings[rows], embeddings, metric)[keep]
            out[done : done + len(scores)] = scores
            done += len(scores)
        return out

    def faces_of(self, pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The two face numbers, i < j, of some pairs, given by their ascending numbers; memory is that of the few."""
        first, second, done = [], [], 0
        for rows, keep in _blocks(self.images):
            end = done + int(np.count_nonzero(keep))
            low, high = np.searchsorted(pairs, [done, end])
            if low < high:
                i, j = np.nonzero(keep)
                chosen = pairs[low:high] - done
                first.append(i[chosen] + rows.start)
                second.append(j[chosen])
            done = end
        none = [np.empty(0, np.int64)]
        return np.concatenate(first or none), np.concatenate(second or none)

    def indices(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The two (P,) face numbers of each pair, i < j."""
        first, second = [], []
        for rows, keep in _blocks(self.images):
            i, j = np.nonzero(keep)
            first.append((i + rows.start).astype(np.int32))
            second.append(j.astype(np.int32))
        return np.concatenate(first), np.concatenate(second)


def _blocks(images: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Rows of the pair matrix, with the mask of the pairs that count."""
    columns = np.arange(len(images))
    for start in range(0, len(images), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(images)))
        yield rows, (columns[None, :] > columns[rows, None]) & (images[None, :] != images[rows, None])
