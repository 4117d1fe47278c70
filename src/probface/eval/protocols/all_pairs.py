"""Every pair of labelled images, each once: tens of millions of comparisons in one pass of score blocks.

Faces are sorted by person, so that the genuine pairs lie beside the diagonal; of the matrix only the blocks on and
right of the diagonal are computed. Genuine scores are kept, of the impostors only the tail that decides the thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.eval.metrics.impostor_tail import ImpostorTail
from probface.eval.metrics.streaming import OperatingPoint
from probface.match.matrix import score_matrix
from probface.score.calibration import require_impostors
from probface.types import Embeddings, FloatArray, Metric

ROWS = 256
"""Of a block; the part of it below the diagonal is computed in vain."""


@dataclass(frozen=True, slots=True)
class PairRates:
    """Verification over all pairs.

    Attributes:
        genuine: how many pairs are of one person.
        impostors: how many are of two.
        points: one for each rate asked, in that order; exact.
    """

    genuine: int
    impostors: int
    points: tuple[OperatingPoint, ...]


def all_pair_rates(
    faces: Embeddings,
    labels: NDArray[np.integer],
    fmrs: Sequence[float],
    metric: Metric = "fastmls",
    *,
    allow_few: bool = False,
    threads: int = 0,
) -> PairRates:
    """TMR at false-match rates over all N (N - 1) / 2 pairs.

    Args:
        faces: N.
        labels: (N,) number of the person in each.
        fmrs: one or more rates in [0, 1); the memory grows with the highest, FMR times the number of pairs.
        metric: the score.
        allow_few: answer even where there are fewer than 10 / FMR impostor pairs.
        threads: of the compiled code; 0 for all cores.

    Raises:
        InsufficientData: fewer than 10 / FMR impostor pairs.
        InvalidValue: shapes differ, a kind of pair or a rate is missing, a rate outside [0, 1), a score that is not
            finite, or a metric that does not go with the faces.
    """
    if labels.shape != (len(faces),) or len(fmrs) == 0:
        raise InvalidValue(f"labels of shape {labels.shape}, {len(fmrs)} rates: need ({len(faces)},) labels and a rate")
    order = np.argsort(labels, kind="stable")
    faces, labels = faces[order], labels[order]
    ends = np.searchsorted(labels, labels, side="right")  # (N,) where the person of each face ends
    genuine = int((ends - np.arange(len(faces)) - 1).sum())
    impostors = len(faces) * (len(faces) - 1) // 2 - genuine
    if genuine == 0 or impostors == 0:
        raise InvalidValue(f"{genuine} genuine and {impostors} impostor pairs: need both kinds")
    for fmr in () if allow_few else fmrs:
        require_impostors(impostors, fmr)
    tail = ImpostorTail(impostors, max(fmrs))
    scores = _genuine_scores(faces, ends, tail, metric, threads)
    points = []
    for fmr in fmrs:
        threshold = tail.threshold(fmr)
        tmr = float(np.mean(scores > threshold))
        points.append(OperatingPoint(fmr, threshold, tail.false_matches(threshold), tmr))
    return PairRates(genuine, impostors, tuple(points))


def _genuine_scores(
    faces: Embeddings, ends: NDArray[np.intp], tail: ImpostorTail, metric: Metric, threads: int
) -> FloatArray:
    """The scores of the genuine pairs; those of the impostor pairs go into the tail."""
    buffer = np.empty(ROWS * len(faces), np.float32)
    kept = []
    for start in range(0, len(faces), ROWS):
        rows, columns = faces[start : start + ROWS], faces[start:]
        out = buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))
        block = score_matrix(rows, columns, metric, out=out, threads=threads)
        if not np.isfinite(block).all():
            raise InvalidValue(f"{metric} scores of faces {start}..{start + len(rows) - 1}: must be finite, every one")
        here = np.arange(len(rows))
        own = ends[start : start + len(rows)] - start  # the columns from here on are other people
        square = np.arange(own.max())
        of_person = square < own[:, None]
        near = block[:, : len(square)]
        kept.append(near[of_person & (square > here[:, None])])
        near[of_person] = -np.inf  # the pair itself, its mirror image below the diagonal, and the genuine pairs
        tail.add(block.reshape(-1))
    return np.concatenate(kept)
