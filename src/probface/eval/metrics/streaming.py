"""Exact operating points of hundreds of millions of scores: a few passes over them, and flat memory.

float32 takes two passes, float64 three, whatever the scores are and however many are equal. The memory is that of the
counts (:mod:`probface.eval.metrics.score_digits`): for each rate, and for the equal error rate, 1 MiB if the scores are
float32 and 64 MiB if float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from probface.errors import InvalidValue
from probface.eval.metrics.score_digits import (
    Counts,
    Descent,
    Flags,
    Progress,
    ScoreBlocks,
    ScoreReader,
    count_first,
    count_next,
    falling_keys,
    highest_values,
)
from probface.eval.metrics.verification import Roc
from probface.score.calibration import allowed_false_matches, require_impostors

MOST_RATES = 16
"""Rates in one call; bounds the memory."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What one threshold does.

    Attributes:
        fmr: the rate asked.
        threshold: as :func:`probface.score.calibration.threshold_at` gives it.
        false_matches: how many impostors are above it.
        tmr: share of the genuine above it.
    """

    fmr: float
    threshold: float
    false_matches: int
    tmr: float


@dataclass(frozen=True, slots=True, eq=False)
class StreamedRates:
    """What the passes found.

    Attributes:
        genuine: how many genuine scores there are.
        impostors: how many impostor scores.
        points: one for each rate asked, in that order; exact.
        eer: as :func:`probface.eval.metrics.verification.eer` gives it; exact.
        curve: some of the points of the ROC, each exact: one at every step of the scores' upper bits, 1/128 (float32)
            or 1/256 (float64) of a power of two. FMR and TMR at any threshold between two of them lie between theirs.
        passes: how often the blocks were read.
    """

    genuine: int
    impostors: int
    points: tuple[OperatingPoint, ...]
    eer: float
    curve: Roc
    passes: int


def operating_points(
    blocks: ScoreBlocks, fmrs: Sequence[float], *, allow_few: bool = False, progress: Progress | None = None
) -> StreamedRates:
    """TMR at several false-match rates, the equal error rate and a coarse ROC.

    Equal to the bit to what :func:`~probface.eval.metrics.verification.tmr_at_fmr` and
    :func:`~probface.eval.metrics.verification.eer` make of all the scores at once.

    Args:
        blocks: read two or three times.
        fmrs: rates in [0, 1), at most 16.
        allow_few: answer even where there are fewer than 10 / FMR impostors.
        progress: called after each block.

    Raises:
        InsufficientData: fewer than 10 / FMR impostors.
        InvalidValue: a kind is missing, a score is not finite (the message names block and row), a rate outside [0, 1),
            blocks that can be read only once or change between the passes.
    """
    if len(fmrs) > MOST_RATES or not all(0 <= fmr < 1 for fmr in fmrs):
        raise InvalidValue(f"FMR {tuple(fmrs)}: must be at most {MOST_RATES} rates, each at least 0 and below 1")
    reader = ScoreReader(blocks, progress)
    counts = count_first(reader)
    genuine = int(counts[1].sum())
    impostors = int(counts[0].sum()) - genuine
    _check_kinds(genuine, impostors, () if allow_few else fmrs)
    equal = Descent(lambda false, true: false / impostors + true / genuine - 1 >= 0)
    rates = [Descent(_more_than(allowed_false_matches(impostors, fmr))) for fmr in fmrs]
    _descend(reader, counts, [equal, *rates])
    points = tuple(
        OperatingPoint(fmr, rate.value(reader.dtype), rate.impostors[0], rate.genuine[0] / genuine)
        for fmr, rate in zip(fmrs, rates, strict=True)
    )
    curve = _curve(counts[:, 0], reader)
    return StreamedRates(genuine, impostors, points, _eer(equal, genuine, impostors), curve, reader.passes)


def _check_kinds(genuine: int, impostors: int, fmrs: Sequence[float]) -> None:
    for kind, found in (("genuine", genuine), ("impostor", impostors)):
        if not found:
            raise InvalidValue(f"{kind} scores: none among {genuine + impostors}; need both kinds")
    for fmr in fmrs:
        require_impostors(impostors, fmr)


def _more_than(allowed: int) -> Callable[[Counts, Counts], Flags]:
    """The line of a false-match rate: one impostor more would be too many, so this score is the threshold."""
    return lambda false, _: false > allowed


def _descend(reader: ScoreReader, counts: Counts, descents: Sequence[Descent]) -> None:
    """All passes but the first; descents that share a prefix share its counts."""
    prefixes = np.zeros(1, np.uint64)
    for level in range(len(reader.digits)):
        if level > 0:
            prefixes = np.unique(np.array([descent.prefix for descent in descents], np.uint64))
            counts = count_next(reader, level, prefixes)
        for descent in descents:
            slot = int(np.searchsorted(prefixes, np.uint64(descent.prefix)))
            descent.step(counts[0, slot], counts[1, slot], reader.passes)


def _curve(counts: Counts, reader: ScoreReader) -> Roc:
    """The operating points between the values of the upper bits."""
    keys = falling_keys(counts[0], 0, 0)
    genuine, impostors = counts[1, keys], counts[0, keys] - counts[1, keys]
    return Roc(
        threshold=np.append(highest_values(keys, reader), -np.inf),
        fmr=np.concatenate([[0.0], np.cumsum(impostors) / impostors.sum()]),
        tmr=np.concatenate([[0.0], np.cumsum(genuine) / genuine.sum()]),
    )


def _eer(equal: Descent, genuine: int, impostors: int) -> float:
    """Where FMR = FNMR on the line between the two points of the ROC on either side."""
    (fmr, tmr), (next_fmr, next_tmr) = ((equal.impostors[i] / impostors, equal.genuine[i] / genuine) for i in (0, 1))
    excess, next_excess = fmr + tmr - 1, next_fmr + next_tmr - 1
    return fmr + -excess / (next_excess - excess) * (next_fmr - fmr)
