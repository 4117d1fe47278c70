"""The quality ladder: faces from the surest to the least sure, for the eye to judge."""

from __future__ import annotations

import numpy as np

from probface.eval.results import LadderFace
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.trial import Trial
from probface.score.quality import quality


def quality_ladder(trial: Trial, options: JudgeOptions) -> tuple[LadderFace, ...]:
    """Faces at even ranks of sigma^2 among the images in the comparisons, both ends among them.

    Of equal variances the earlier name comes first. There are fewer rungs where there are fewer images. Their quality
    is on the scale of the model that gave the variances.
    """
    comparisons = trial.comparisons
    used = np.unique(np.concatenate([np.unique(comparisons.first), np.unique(comparisons.second)]))
    names = [comparisons.names[image] for image in used]
    faces = trial.candidate.faces
    scale = trial.candidate.quality
    sigma_sq = faces.embeddings.sigma_sq[faces.rows(names)]
    whole = sigma_sq.sum(axis=1, dtype=np.float64)
    order = np.lexsort((np.array(names, np.str_), whole))
    count = min(options.ladder, len(order))
    rungs = order[np.rint(np.linspace(0, len(order) - 1, count)).astype(np.int64)] if count else order[:0]
    grades = [None] * len(rungs) if scale is None else quality(sigma_sq[rungs], scale).tolist()
    return tuple(LadderFace(names[row], float(whole[row]), grade) for row, grade in zip(rungs, grades, strict=True))
