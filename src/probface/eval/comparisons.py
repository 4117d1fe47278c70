"""The comparisons that a protocol asks for: pairs of images, who is on them, and in which fold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """P pairs of N images.

    Attributes:
        names: (N,) of the images.
        subjects: (N,) who is on each image. Where a protocol does not tell, every image has a subject of its own but
            for the two of a genuine pair; intervals then resample pairs.
        first, second: (P,) int64, rows of the two images.
        genuine: (P,) bool, whether they show one subject.
        folds: (P,) int64, or None where the protocol has none.
    """

    names: tuple[str, ...]
    subjects: tuple[str, ...]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    genuine: NDArray[np.bool_]
    folds: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count = len(self.genuine)
        if self.first.shape != (count,) or self.second.shape != (count,):
            raise InvalidValue(f"{count} labels for {self.first.shape} and {self.second.shape} images: need one each")
        if self.folds is not None and self.folds.shape != (count,):
            raise InvalidValue(f"folds of shape {self.folds.shape}: must be ({count},)")
        if len(self.subjects) != len(self.names):
            raise InvalidValue(f"{len(self.subjects)} subjects for {len(self.names)} images: need one for each")
        if count and not self.genuine.any():
            raise DataError(f"all {count} pairs are impostors': a protocol needs both kinds; check the labels")
        if count and self.genuine.all():
            raise DataError(f"all {count} pairs are genuine: a protocol needs both kinds; check the labels")

    def __len__(self) -> int:
        return len(self.genuine)

    def select(self, keep: NDArray[np.bool_]) -> Comparisons:
        """Some of the pairs; the images stay."""
        folds = None if self.folds is None else self.folds[keep]
        return replace(self, first=self.first[keep], second=self.second[keep], genuine=self.genuine[keep], folds=folds)

    def without_unused_images(self) -> Comparisons:
        """The same pairs; images that are in none of them are gone."""
        used = np.unique(np.concatenate([self.first, self.second]))
        place = np.zeros(len(self.names), np.int64)
        place[used] = np.arange(len(used))
        return replace(
            self,
            names=tuple(self.names[row] for row in used),
            subjects=tuple(self.subjects[row] for row in used),
            first=place[self.first],
            second=place[self.second],
        )

    def of_subjects(self, subjects: Iterable[str]) -> NDArray[np.bool_]:
        """(P,) whether one of these people is in the pair."""
        theirs = frozenset(subjects)
        on = np.array([subject in theirs for subject in self.subjects], np.bool_)
        return on[self.first] | on[self.second]

    def with_images(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """(P,) whether one of these images is in the pair."""
        those = frozenset(names)
        on = np.array([name in those for name in self.names], np.bool_)
        return on[self.first] | on[self.second]

    @property
    def subject_numbers(self) -> NDArray[np.int64]:
        """(N,) the subjects as numbers from 0, without gaps, in the order of their names."""
        return np.unique(np.array(self.subjects, np.str_), return_inverse=True)[1].astype(np.int64)

    def duplicate(self) -> tuple[str, str] | None:
        """Two images that are compared twice, in either order, or None."""
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        keys = low * len(self.names) + high
        kept, where, counts = np.unique(keys, return_index=True, return_counts=True)
        del kept
        again = np.flatnonzero(counts > 1)
        if not len(again):
            return None
        pair = where[again[0]]
        return self.names[self.first[pair]], self.names[self.second[pair]]
