"""IJB 1:1: millions of pairs of templates to scores, and TMR at the field's false-match rates.

The field's scripts read the ROC at the point whose false-match rate is nearest to the one asked; here it is never above
(:func:`probface.score.calibration.threshold_at`). With IJB-C's 15.6 million impostor pairs the two differ by a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from probface.errors import DataError, InsufficientData, InvalidValue
from probface.eval.metrics.verification import tmr_at_fmr
from probface.eval.protocols.templates import Templates
from probface.readers.ijb_pairs import IjbPairs
from probface.score.by_metric import paired_scores
from probface.types import FloatArray, Metric

FMRS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
BLOCK_ELEMENTS = 1 << 21
"""Of the gathered means of one side, in float32: 8 MiB."""


@dataclass(frozen=True, slots=True, eq=False)
class TemplateScores:
    """P comparisons of templates.

    Attributes:
        scores: (P,) float32.
        genuine: (P,) bool, whether the two show one subject.
        first, second: (P,) int32, numbers of the two subjects, 0 .. subjects - 1; equal where genuine.
        subjects: how many there are.
    """

    scores: FloatArray
    genuine: NDArray[np.bool_]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    subjects: int

    def __post_init__(self) -> None:
        shapes = {array.shape for array in (self.scores, self.genuine, self.first, self.second)}
        if len(shapes) != 1 or self.scores.ndim != 1:
            raise InvalidValue(f"scores, labels and subjects of shapes {sorted(shapes)}: must all be (P,)")

    def __len__(self) -> int:
        return len(self.scores)

    def tmr(self, fmr: float, *, allow_few: bool = False) -> float:
        """TMR at a false-match rate; raises as :func:`probface.eval.metrics.verification.tmr_at_fmr`."""
        return tmr_at_fmr(self.scores[self.genuine], self.scores[~self.genuine], fmr, allow_few=allow_few)

    def tmrs(self, fmrs: Sequence[float] = FMRS) -> tuple[float | None, ...]:
        """TMR at each rate; None where there are fewer than 10 / FMR impostor pairs."""
        genuine, impostor = self.scores[self.genuine], self.scores[~self.genuine]
        found: list[float | None] = []
        for fmr in fmrs:
            try:
                found.append(tmr_at_fmr(genuine, impostor, fmr))
            except InsufficientData:
                found.append(None)
        return tuple(found)


def score_ijb_pairs(templates: Templates, pairs: IjbPairs, metric: Metric) -> TemplateScores:
    """Score the 1:1 protocol; beyond the result, memory is that of a block of pairs.

    Raises:
        DataError: a template is not there, or two of one subject are labelled as impostors.
        InvalidValue: an unknown metric, or FastMLS of D variances.
    """
    who, count = template_subjects(templates, pairs)
    return score_templates(templates, pairs.first, pairs.second, pairs.genuine, who, count, metric)


def template_subjects(templates: Templates, pairs: IjbPairs) -> tuple[NDArray[np.int32], int]:
    """(T,) number of each template's subject, and how many subjects there are.

    The lists of 1:1 do not tell subjects: templates that genuine pairs join, directly or over others, are of one.

    Raises:
        DataError: a template of the pairs is not there.
    """
    one, other = (templates.rows(side[pairs.genuine]) for side in (pairs.first, pairs.second))
    joined = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(templates), len(templates)))
    count, who = connected_components(joined, directed=False)
    return who.astype(np.int32), int(count)


def score_templates(
    templates: Templates,
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    genuine: NDArray[np.bool_],
    who: NDArray[np.int32],
    subjects: int,
    metric: Metric,
) -> TemplateScores:
    """Score P pairs of templates, block by block.

    Args:
        templates: T of them.
        first: (P,) ids of the one templates.
        second: (P,) ids of the others.
        genuine: (P,) labels.
        who: (T,) number of each template's subject, 0 .. subjects - 1.
        subjects: how many there are.
        metric: the score.

    Raises:
        DataError: a template is not there, or a label contradicts the subjects.
        InvalidValue: an unknown metric, or FastMLS of D variances.
    """
    scores = np.empty(len(genuine), np.float32)
    people = np.empty((2, len(genuine)), np.int32)
    step = max(1, BLOCK_ELEMENTS // templates.embeddings.dim)
    for start in range(0, len(genuine), step):
        block = slice(start, start + step)
        one, other = templates.rows(first[block]), templates.rows(second[block])
        people[:, block] = who[one], who[other]
        scores[block] = paired_scores(templates.embeddings[one], templates.embeddings[other], metric)
    wrong = np.flatnonzero((people[0] == people[1]) != genuine)
    if len(wrong):
        a, b = first[wrong[0]], second[wrong[0]]
        said, are = ("one subject", "two") if genuine[wrong[0]] else ("two subjects", "one")
        raise DataError(
            f"templates {a} and {b}: labelled as {said}, while the other pairs or lists make them {are} ({len(wrong)} "
            "such pairs); correct the labels of the list"
        )
    return TemplateScores(scores, genuine, people[0], people[1], subjects)
