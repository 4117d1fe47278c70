"""Error rates of one-to-many search (ISO/IEC 19795-1, in NIST's notation), by one rule: above the threshold.

A search compares a probe with a gallery of N subjects. It is mated where the probe's subject is enrolled. A subject
with several references has the score of the best of them.

    FNIR(N, R, T) = share of mated searches whose mate is not among the R best, or not above T
    FPIR(N, T)    = share of non-mated searches that have any candidate above T
    CMC(R)        = 1 - FNIR(N, R, no threshold);    DIR(R, T) = 1 - FNIR(N, R, T)

Ties count against the system: the mate's rank is 1 plus the number of other subjects with an equal or a higher score.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import InsufficientData, InvalidValue
from probface.score.calibration import measurable, threshold_at, trials_needed

Numbers = NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class Searches:
    """What P mated and Q non-mated searches in one gallery found; all that the rates depend on.

    Attributes:
        mate_score: (P,) float64, finite: the mate's, in the order of the mated probes.
        mate_rank: (P,) int64, 1..N: the mate's, behind equal scores of others.
        top_score: (Q,) float64, finite: the best candidate's, in the order of the non-mated probes.
        subjects: N, how many the gallery holds.
    """

    mate_score: NDArray[np.float64]
    mate_rank: NDArray[np.int64]
    top_score: NDArray[np.float64]
    subjects: int

    def __post_init__(self) -> None:
        if self.mate_score.ndim != 1 or self.mate_rank.shape != self.mate_score.shape or self.top_score.ndim != 1:
            raise InvalidValue(
                f"searches of shapes {self.mate_score.shape}, {self.mate_rank.shape} and {self.top_score.shape}: must "
                "be (P,) scores and (P,) ranks of mates, and (Q,) best scores of non-mated searches"
            )
        if len(self.mate_score) + len(self.top_score) == 0:
            raise InvalidValue("0 searches: need at least one")
        for scores in (self.mate_score, self.top_score):
            bad = scores[~np.isfinite(scores)]
            if len(bad):
                raise InvalidValue(f"search score {bad[0]}: must be finite; leave out what cannot be scored")
        wrong = self.mate_rank[(self.mate_rank < 1) | (self.mate_rank > self.subjects)]
        if len(wrong):
            raise InvalidValue(f"rank {wrong[0]} of a mate: must be in 1..{self.subjects}, the subjects of the gallery")

    @classmethod
    def of(cls, blocks: Iterable[NDArray[np.floating]], references: Numbers, probes: Numbers) -> Searches:
        """Reduce the score matrix of P + Q probes against G references, a few rows at a time.

        One block is held at once, beside what the searches found. A probe is mated where its subject has a reference:
        ``np.isin(probes, references)``.

        Args:
            blocks: (B, G) finite scores each, rows in the order of the probes.
            references: (G,) number of the subject of each reference.
            probes: (P + Q,) number of the subject of each probe.

        Raises:
            InvalidValue: no reference, no probe, blocks of other shapes or with another number of rows in all, or a
                score that is not finite.
        """
        if references.ndim != 1 or probes.ndim != 1 or len(references) == 0 or len(probes) == 0:
            raise InvalidValue(
                f"{references.shape} references, {probes.shape} probes: need (G,) and (P,), both above 0"
            )
        enrolled, layers = _layers(references)
        by_number = np.argsort(enrolled)
        column = by_number[np.minimum(np.searchsorted(enrolled[by_number], probes), len(enrolled) - 1)]
        mated = enrolled[column] == probes
        mate_score = np.empty(len(probes), np.float64)  # of non-mated probes: the top score
        mate_rank = np.zeros(len(probes), np.int64)
        done = 0
        for block in blocks:
            rows = slice(done, done + len(block))
            done += len(block)
            _check_block(block, rows, len(references), len(probes))
            best = _best_of_subjects(block, layers)
            mates = best[np.arange(len(best)), column[rows]]
            mate_score[rows] = np.where(mated[rows], mates, best.max(axis=1))
            mate_rank[rows] = np.count_nonzero(best >= mates[:, None], axis=1)  # the mate itself is counted: 1 is first
        if done != len(probes):
            raise InvalidValue(f"{done} rows of scores for {len(probes)} probes: need one for each")
        return cls(mate_score[mated], mate_rank[mated], mate_score[~mated], len(enrolled))


@dataclass(frozen=True, slots=True, eq=False)
class OpenSetCurve:
    """All operating points of searches at one rank, from the strictest; ``1 - fnir`` is DIR.

    Attributes:
        threshold: (K,) float64, every distinct score that can decide, falling, and -inf.
        fpir: (K,) float64, from 0 to 1, never falling.
        fnir: (K,) float64, from 1 to the share of mates beyond the rank, never rising.
    """

    threshold: NDArray[np.float64]
    fpir: NDArray[np.float64]
    fnir: NDArray[np.float64]


def cmc(searches: Searches, ranks: Numbers) -> NDArray[np.float64]:
    """Cumulative match characteristic: for each of (K,) ranks, the share of mated searches with the mate within it.

    Raises:
        InvalidValue: no mated search, or a rank below 1.
    """
    if len(ranks) and ranks.min() < 1:
        raise InvalidValue(f"rank {ranks.min()}: must be at least 1")
    shares: NDArray[np.float64] = np.searchsorted(np.sort(searches.mate_rank), ranks, side="right") / _mated(searches)
    return shares


def fnir(searches: Searches, *, rank: int | None, threshold: float) -> float:
    """FNIR(N, R, T): share of mated searches whose mate is not among the ``rank`` best, or not above ``threshold``.

    Args:
        searches: at least one mated.
        rank: R, at least 1; None for no limit.
        threshold: T; -inf for none.

    Raises:
        InvalidValue: no mated search, or a rank below 1.
    """
    total = _mated(searches)
    return (total - int(np.count_nonzero(_hits(searches, rank) > threshold))) / total


def fpir(searches: Searches, threshold: float) -> float:
    """FPIR(N, T): share of non-mated searches with a candidate above ``threshold``.

    Raises:
        InvalidValue: no non-mated search.
    """
    return int(np.count_nonzero(searches.top_score > threshold)) / _non_mated(searches)


def threshold_at_fpir(searches: Searches, at: float, *, allow_few: bool = False) -> float:
    """The smallest score of a best candidate such that FPIR at it is at most ``at``.

    Args:
        searches: at least one non-mated.
        at: FPIR, in (0, 1).
        allow_few: answer even where there are fewer than 10 / FPIR non-mated searches.

    Raises:
        InsufficientData: fewer than 10 / FPIR non-mated searches.
        InvalidValue: no non-mated search, or a rate outside (0, 1).
    """
    if not 0 < at < 1:
        raise InvalidValue(f"FPIR {at}: must be between 0 and 1")
    count = _non_mated(searches)
    if not allow_few:
        require_non_mated(count, at)
    return threshold_at(searches.top_score, at)


def require_non_mated(count: int, fpir: float) -> None:
    """Refuse a rate that ``count`` non-mated searches cannot measure.

    Raises:
        InsufficientData: fewer than 10 / FPIR.
    """
    if not measurable(count, fpir):
        raise InsufficientData(
            f"FPIR {fpir:g} needs at least {trials_needed(fpir):,} non-mated searches, found {count:,}; "
            "ask for a larger rate, or bring more people who are not enrolled"
        )


def fnir_at_fpir(searches: Searches, at: float, *, rank: int | None = 1, allow_few: bool = False) -> float:
    """FNIR at the threshold that lets at most the share ``at`` of non-mated searches find anybody; 1 - DIR.

    Raises:
        InsufficientData: fewer than 10 / FPIR non-mated searches, unless ``allow_few``.
        InvalidValue: a kind of search is missing, a rate outside (0, 1), or a rank below 1.
    """
    return fnir(searches, rank=rank, threshold=threshold_at_fpir(searches, at, allow_few=allow_few))


def open_set_curve(searches: Searches, *, rank: int | None = 1) -> OpenSetCurve:
    """FNIR against FPIR at every threshold.

    Raises:
        InvalidValue: a kind of search is missing, or a rank below 1.
    """
    hits, tops = np.sort(_hits(searches, rank)), np.sort(searches.top_score)
    mated, non_mated = _mated(searches), _non_mated(searches)
    threshold = np.append(np.unique(np.concatenate([hits, tops]))[::-1], -np.inf)
    return OpenSetCurve(
        threshold=threshold,
        fpir=(non_mated - np.searchsorted(tops, threshold, side="right")) / non_mated,
        fnir=(mated - len(hits) + np.searchsorted(hits, threshold, side="right")) / mated,
    )


def _layers(references: Numbers) -> tuple[Numbers, list[NDArray[np.int64]]]:
    """(N,) subjects, who has most references first, and the columns of the first reference of each, the second, ..."""
    enrolled, starts, counts = np.unique(np.sort(references), return_index=True, return_counts=True)
    most_first = np.argsort(-counts, kind="stable")
    starts, counts = starts[most_first], counts[most_first]
    columns = np.argsort(references, kind="stable")
    have = [int(np.searchsorted(-counts, -k)) for k in range(counts[0])]  # how many have more than k
    return enrolled[most_first], [columns[starts[:n] + k] for k, n in enumerate(have)]


def _best_of_subjects(block: NDArray[np.floating], layers: list[NDArray[np.int64]]) -> NDArray[np.floating]:
    """(B, N) the best score among each subject's references; several times faster than ``np.maximum.reduceat``."""
    best = block.take(layers[0], axis=1)
    for columns in layers[1:]:
        part = best[:, : len(columns)]
        np.maximum(part, block.take(columns, axis=1), out=part)
    return best


def _check_block(block: NDArray[np.floating], rows: slice, references: int, probes: int) -> None:
    if block.ndim != 2 or block.shape[1] != references or rows.stop > probes:
        raise InvalidValue(
            f"block of shape {block.shape} for probes {rows.start}..{rows.stop - 1}: must be (B, {references}), "
            f"{probes} rows in all blocks together"
        )
    if not np.isfinite(block).all():
        raise InvalidValue(f"scores of probes {rows.start}..{rows.stop - 1}: must be finite, every one")


def _hits(searches: Searches, rank: int | None) -> NDArray[np.float64]:
    """Scores of the mates that are among the ``rank`` best."""
    if rank is None:
        return searches.mate_score
    if rank < 1:
        raise InvalidValue(f"rank {rank}: must be at least 1, or None for no limit")
    return searches.mate_score[searches.mate_rank <= rank]


def _mated(searches: Searches) -> int:
    if len(searches.mate_score) == 0:
        raise InvalidValue("0 mated searches: need at least one; enrol some of the probes' subjects")
    return len(searches.mate_score)


def _non_mated(searches: Searches) -> int:
    if len(searches.top_score) == 0:
        raise InvalidValue(
            "0 non-mated searches: need at least one; leave some of the probes' subjects out of the gallery"
        )
    return len(searches.top_score)
