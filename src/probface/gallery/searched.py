"""What a gallery is searched in at one generation: the main index, and a small one of what has changed since."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probface.gallery.records import Templates
from probface.gallery.template_rows import Ids, rows_of
from probface.match.exact import SearchIndex
from probface.types import Embeddings, Metric

REFERENCES_AHEAD = 4
"""Where every reference is searched for itself: so many of them are asked for to find one identity, at first."""

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """An index and whose its rows are.

    Attributes:
        index: of the rows, ordered by identity.
        identities: (M,) id of each row, ascending.
        gone: ids whose rows are left out, ascending.
        rows: how many are searched.
        people: identities that these are of.
    """

    index: SearchIndex
    identities: Ids
    gone: Ids
    rows: int
    people: int

    @classmethod
    def of(cls, index: SearchIndex, identities: Ids) -> Part:
        """All rows."""
        people = int(np.count_nonzero(np.diff(identities))) + 1
        return cls(index, identities, np.empty(0, np.int64), len(index), people)

    def without(self, identities: Ids) -> tuple[Part, Ids]:
        """This without some identities, and the rows that are to be excluded for it to hold."""
        new = np.setdiff1d(identities, self.gone)
        rows = rows_of(self.identities, new)
        if not len(rows):
            return self, rows
        new = np.unique(self.identities[rows])
        gone = np.union1d(self.gone, new)
        return replace(self, gone=gone, rows=self.rows - len(rows), people=self.people - len(new)), rows

    def first_rows(self) -> Ids:
        """The first row of each identity that is searched."""
        first = np.flatnonzero(np.diff(self.identities, prepend=-1))
        return first[~np.isin(self.identities[first], self.gone)]

    def best(
        self, probes: Embeddings, top: int, metric: Metric, threads: int, templates: Templates
    ) -> tuple[Scores, Ids]:
        """Scores and identities, best first, ties to the lower id; ``top`` columns, or as many as there are people."""
        top = min(top, self.people)
        if templates == "fused":
            return self._search(probes, top, metric, threads)
        scores, identities = np.empty((len(probes), top)), np.empty((len(probes), top), np.int64)
        left, k = np.arange(len(probes)), top * REFERENCES_AHEAD
        while len(left):
            found = self._search(probes if len(left) == len(probes) else probes[left], k, metric, threads)
            scores[left], identities[left] = distinct(*found, top)
            if k >= len(self.index):
                break
            left, k = left[identities[left, -1] < 0], 2 * k
        return scores, identities

    def _search(self, probes: Embeddings, k: int, metric: Metric, threads: int) -> tuple[Scores, Ids]:
        """Scores and identities of the best rows; -1 where another process erased rows a moment ago, and k are gone."""
        found = self.index.search(probes, k, metric=metric, threads=threads)
        return found.scores, np.where(found.indices >= 0, self.identities[found.indices], -1)


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """A gallery at one generation.

    An identity is in one part only, so that the best of the parts are the best of the whole.

    Attributes:
        generation: of the store.
        highest: no identity above this id was there at that generation, as far as is known. What is here above it may
            be newer than the generation, and is loaded again.
        model: digest of the model of the vectors.
        templates: what a row is.
        main: derived in one go; None where there was nothing.
        tail: what has changed since, and what is new; None where nothing did.
    """

    generation: int
    highest: int
    model: str
    templates: Templates
    main: Part | None
    tail: Part | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Those that there are."""
        return tuple(part for part in (self.main, self.tail) if part is not None)

    @property
    def rows(self) -> int:
        """How many templates are searched."""
        return sum(part.rows for part in self.parts)

    @property
    def people(self) -> int:
        """How many identities there are."""
        return sum(part.people for part in self.parts)

    def best(self, probes: Embeddings, top: int, metric: Metric, threads: int = 0) -> tuple[Scores, Ids]:
        """The best identities of each probe.

        Returns:
            Scores and ids of identities, best first, ties to the lower id; ``top`` columns, or as many as there are
            people.
        """
        found = [part.best(probes, top, metric, threads, self.templates) for part in self.parts if part.people]
        if len(found) == 1:
            return found[0]
        if not found:
            return np.empty((len(probes), 0)), np.empty((len(probes), 0), np.int64)
        scores = np.concatenate([part[0] for part in found], axis=1)
        ids = np.concatenate([part[1] for part in found], axis=1)
        order = np.lexsort((ids, -scores), axis=1)[:, :top]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)


def distinct(scores: Scores, ids: Ids, top: int) -> tuple[Scores, Ids]:
    """The first ``top`` different ids of each row, with their first scores; -inf and -1 after them.

    Args:
        scores: (N, K), best first.
        ids: (N, K); -1 for none.
        top: 1 or more.
    """
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, 1)
    new = np.ones(ids.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty(ids.shape, bool)
    np.put_along_axis(first, order, new & (ordered >= 0), 1)
    place = np.cumsum(first, axis=1) - 1
    row, column = np.nonzero(first & (place < top))
    best, whose = np.full((len(ids), top), -np.inf), np.full((len(ids), top), -1, np.int64)
    best[row, place[row, column]], whose[row, place[row, column]] = scores[row, column], ids[row, column]
    return best, whose
