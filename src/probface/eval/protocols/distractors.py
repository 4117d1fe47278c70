"""MegaFace-style identification: every probe against one mate and M distractors, for growing M.

Each ordered pair of two images of one person is a search: one image is the probe, the other the only mate among M
distractors (Kemelmacher-Shlizerman et al., CVPR 2016). The mate's rank is one more than the number of distractors that
score as high or higher. Distractors are drawn at random, each smaller set within the larger ones, several times over.

Every probe is scored with every distractor once, in blocks, and of each draw only its few best distractors are kept:
memory grows with the number of distractors by some 20 bytes a draw. The highest of all scores are kept, too, for
thresholds at a false-match rate over all pairs of a probe and a distractor.

A matrix product rounds one pair differently in different places. So the few distractors that are kept are scored once
more, pair by pair as the mates are: a copy of the mate among them is exactly as high, and counts against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InsufficientData, InvalidValue
from probface.eval.face_table import FaceTable
from probface.match.matrix import score_matrix
from probface.score.by_metric import paired_scores
from probface.score.calibration import allowed_false_matches, require_impostors
from probface.types import FloatArray, Metric

SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
BLOCK_PROBES, BLOCK_DISTRACTORS = 1024, 4096
"""Sides of a block of scores."""
LARGEST_FMR, LEAST_KEPT = 1e-4, 1 << 20
"""Of the scores with distractors the highest are kept: that share of them, or so many if that is more."""


@dataclass(frozen=True, slots=True, eq=False)
class DistractorScores:
    """What S probes scored with their mates and with distractors.

    Attributes:
        sizes: (L,) numbers of distractors, rising.
        subjects: (S,) int64, number of each probe's person, 0 .. people - 1.
        probe, mate: (Q,) int64, rows of the probes of each search.
        mate_scores: (Q,) float32.
        best: (draws, L, S, R) float32, the R best distractors of each probe, falling; -inf where there are fewer. Equal
            pairs have equal scores here and in ``mate_scores``.
        impostors: number of all pairs of a probe and a distractor.
        highest: (H,) float32, the highest of their scores, falling; up to the rounding of matrix products.
    """

    sizes: tuple[int, ...]
    subjects: NDArray[np.int64]
    probe: NDArray[np.int64]
    mate: NDArray[np.int64]
    mate_scores: FloatArray
    best: FloatArray
    impostors: int
    highest: FloatArray

    def ranks(self, draw: int, level: int) -> NDArray[np.int64]:
        """(Q,) rank of the mate among ``sizes[level]`` distractors, from 1; R + 1 stands for R + 1 and beyond."""
        ahead = self.best[draw, level][self.probe] >= self.mate_scores[:, None]
        ranks: NDArray[np.int64] = 1 + np.count_nonzero(ahead, axis=1)
        return ranks

    def rank_rates(self, rank: int = 1) -> NDArray[np.float64]:
        """(L, draws) share of the searches whose mate is among the ``rank`` best.

        Raises:
            InvalidValue: a rank outside 1..R.
        """
        draws, levels, _, kept = self.best.shape
        if not 1 <= rank <= kept:
            raise InvalidValue(f"rank {rank}: must be in 1..{kept}; score with a larger max_rank")
        return np.array([[np.mean(self.ranks(d, level) <= rank) for d in range(draws)] for level in range(levels)])

    def threshold(self, fmr: float, *, allow_few: bool = False) -> float:
        """The smallest distractor score that a share of at most ``fmr`` of all of them is above.

        Raises:
            InsufficientData: fewer than 10 / FMR pairs of a probe and a distractor, unless few are allowed.
            InvalidValue: a rate that is not above 0, or so large that the scores above it were not kept.
        """
        if not allow_few:
            require_impostors(self.impostors, fmr)
        allowed = allowed_false_matches(self.impostors, fmr)
        if not (fmr > 0 and allowed < len(self.highest)):
            kept = len(self.highest) / self.impostors
            raise InvalidValue(
                f"FMR {fmr}: must be above 0 and below {kept:.3g}, the share of the scores that are kept"
            )
        return float(self.highest[allowed])

    def tmr(self, fmr: float, *, allow_few: bool = False) -> float:
        """Share of the pairs of one person above the threshold; raises as :meth:`threshold`."""
        # Each pair is searched both ways, with one score: the share is that of the pairs.
        return float(np.mean(self.mate_scores > self.threshold(fmr, allow_few=allow_few)))


def search_distractors(
    probes: FaceTable,
    people: Sequence[str],
    distractors: FaceTable,
    metric: Metric,
    *,
    distractor_people: Sequence[str] = (),
    sizes: Sequence[int] = SIZES,
    draws: int = 3,
    seed: int = 0,
    max_rank: int = 10,
) -> DistractorScores:
    """Score probes, mates and distractors.

    Args:
        probes: S images; those of people with one image alone are impostors to the distractors, and never searched.
        people: (S,) who is on each.
        distractors: M images, whose embeddings may be mapped from disk.
        metric: the score.
        distractor_people: (M,) who is on each distractor, where that is known.
        sizes: how many distractors; those above M are left out, and M itself ends the list.
        draws: how many times distractors are drawn.
        seed: of the draws.
        max_rank: R, the ranks that are told apart.

    Raises:
        DataError: a distractor is a probe by name, or shows one of the probes' people.
        InsufficientData: nobody has two images.
        InvalidValue: shapes differ, no distractor, sizes, draws or ranks below 1, or an unknown metric.
    """
    _check(probes, people, distractors, distractor_people)
    levels = _levels(sizes, len(distractors), draws, max_rank)
    subjects = np.unique(np.array(people, np.str_), return_inverse=True)[1].astype(np.int64)
    probe, mate = _searches(subjects)
    rng = np.random.default_rng(seed)
    # The annulus of each distractor in each draw: the first level whose set it is in.
    places = np.stack([rng.permutation(len(distractors)) for _ in range(draws)])
    annuli = np.searchsorted(np.array(levels), places, side="right").astype(np.int32)
    impostors = len(probes) * len(distractors)
    best = _Best.empty((draws, len(levels), len(probes), max_rank))
    highest = _Highest(max(math.floor(LARGEST_FMR * impostors) + 2, LEAST_KEPT))
    for rows, columns, scores in _score_blocks(probes, distractors, metric):
        highest.add(scores)
        for draw in range(draws):
            for level in range(len(levels)):
                inside = np.flatnonzero(annuli[draw, columns] == level)
                if len(inside):
                    best.of(draw, level, rows).keep(scores[:, inside], columns.start + inside)
    every = slice(len(probes))
    for level in range(1, len(levels)):  # from annuli to whole sets
        for draw in range(draws):
            smaller = best.of(draw, level - 1, every)
            best.of(draw, level, every).keep(smaller.scores, smaller.columns)
    mate_scores = _paired(probes, probe, probes, mate, metric)
    exact = best.scored_by_pairs(probes, distractors, metric)
    return DistractorScores(levels, subjects, probe, mate, mate_scores, exact, impostors, highest.falling())


def _check(probes: FaceTable, people: Sequence[str], distractors: FaceTable, others: Sequence[str]) -> None:
    if len(people) != len(probes) or (others and len(others) != len(distractors)):
        raise InvalidValue(
            f"{len(probes)} probes with {len(people)} people, {len(distractors)} distractors with {len(others)}: need "
            "one person for each image"
        )
    shared = distractors.missing(probes.names)
    if len(shared) < len(probes):
        name = min(frozenset(probes.names).difference(shared))
        raise DataError(
            f"distractor {name!r}: is a probe, too ({len(probes) - len(shared)} such images); leave it out of the "
            "distractors"
        )
    both = frozenset(people).intersection(others)
    if both:
        raise DataError(
            f"distractors: {min(both)!r} is one of the probes' people ({len(both)} such people); leave their images "
            "out of the distractors"
        )


def _levels(sizes: Sequence[int], count: int, draws: int, max_rank: int) -> tuple[int, ...]:
    if count < 1 or draws < 1 or max_rank < 1 or not sizes or min(sizes) < 1:
        raise InvalidValue(
            f"{count} distractors, sizes {tuple(sizes)}, {draws} draws, max_rank {max_rank}: all must be 1 or more"
        )
    return (*sorted({size for size in sizes if size < count}), count)


def _searches(subjects: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All ordered pairs of two images of one person."""
    order = np.argsort(subjects, kind="stable")
    first, second = [], []
    for images in np.split(order, np.flatnonzero(np.diff(subjects[order])) + 1):
        one, other = np.nonzero(~np.eye(len(images), dtype=np.bool_))
        first.append(images[one])
        second.append(images[other])
    probe, mate = np.concatenate(first), np.concatenate(second)
    if not len(probe):
        raise InsufficientData(
            f"{len(subjects)} probes: nobody has two images, a search needs a mate; bring more images"
        )
    return probe, mate


def _score_blocks(
    probes: FaceTable, distractors: FaceTable, metric: Metric
) -> Iterator[tuple[slice, slice, FloatArray]]:
    """Every probe with every distractor; distractors are read once."""
    for start in range(0, len(distractors), BLOCK_DISTRACTORS):
        columns = slice(start, min(start + BLOCK_DISTRACTORS, len(distractors)))
        part = distractors.embeddings[columns]
        for first in range(0, len(probes), BLOCK_PROBES):
            rows = slice(first, min(first + BLOCK_PROBES, len(probes)))
            yield rows, columns, score_matrix(probes.embeddings[rows], part, metric)


def _paired(
    one: FaceTable, first: NDArray[np.integer], other: FaceTable, second: NDArray[np.integer], metric: Metric
) -> FloatArray:
    """(Q,) float32 scores of rows of one table with rows of another."""
    out = np.empty(len(first), np.float32)
    for start in range(0, len(first), BLOCK_DISTRACTORS):
        block = slice(start, start + BLOCK_DISTRACTORS)
        out[block] = paired_scores(one.embeddings[first[block]], other.embeddings[second[block]], metric)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Best:
    """The R best distractors of each probe, in no order.

    Attributes:
        scores: (..., S, R) float32; -inf where there are fewer.
        columns: (..., S, R) int32, which distractors they are; -1 where there are fewer.
    """

    scores: FloatArray
    columns: NDArray[np.int32]

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> _Best:
        return cls(np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int32))

    def of(self, draw: int, level: int, rows: slice) -> _Best:
        """Some probes in one draw and at one level; what it keeps is kept here."""
        return _Best(self.scores[draw, level, rows], self.columns[draw, level, rows])

    def keep(self, found: FloatArray, columns: NDArray[np.integer]) -> None:
        """Leave in (S, R) the best of what each row holds and of what was found, (S, M); columns (M,) or (S, M)."""
        count = self.scores.shape[1]
        # Soon a block has nothing new for most probes, and the maximum is all that it costs.
        rows = np.flatnonzero(found.max(axis=1) > self.scores.min(axis=1))
        both = np.concatenate([self.scores[rows], found[rows]], axis=1)
        chosen = np.argpartition(both, both.shape[1] - count, axis=1)[:, -count:]
        held = np.take_along_axis(self.columns[rows], np.minimum(chosen, count - 1), axis=1)
        new = np.broadcast_to(columns, found.shape)[rows[:, None], np.maximum(chosen - count, 0)]
        self.scores[rows] = np.take_along_axis(both, chosen, axis=1)
        self.columns[rows] = np.where(chosen < count, held, new)

    def scored_by_pairs(self, probes: FaceTable, distractors: FaceTable, metric: Metric) -> FloatArray:
        """(..., S, R) scores, falling, each made as those of the mates are."""
        there = self.columns >= 0
        rows = np.broadcast_to(np.arange(len(probes))[:, None], there.shape)[there]
        # The draws and levels have many pairs in common.
        pairs, places = np.unique(rows * len(distractors) + self.columns[there], return_inverse=True)
        probe, distractor = np.divmod(pairs, len(distractors))
        scores = np.full(there.shape, -np.inf, np.float32)
        scores[there] = _paired(probes, probe, distractors, distractor, metric)[places]
        return -np.sort(-scores)


class _Highest:
    """The ``count`` highest of many scores; holds at most twice as many, ``spare`` and a block."""

    def __init__(self, count: int, spare: int = 1 << 20) -> None:
        self._count, self._limit = count, 2 * count + spare
        self._parts: list[FloatArray] = []
        self._held, self._floor = 0, np.float32(-np.inf)

    def add(self, scores: FloatArray) -> None:
        above = scores[scores > self._floor] if self._held >= self._count else scores.ravel().copy()
        self._parts.append(above)
        self._held += len(above)
        if self._held > self._limit:
            self._shrink()

    def falling(self) -> FloatArray:
        self._shrink()
        return np.sort(self._parts[0])[::-1].copy()

    def _shrink(self) -> None:
        scores = np.concatenate(self._parts)
        if len(scores) > self._count:
            scores = np.partition(scores, len(scores) - self._count)[-self._count :]
            self._floor = scores.min()
        self._parts, self._held = [scores], len(scores)
