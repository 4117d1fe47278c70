"""The comparisons that were decided wrongly by the widest margin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probface.eval.results import ErrorKind, WorstError
from probface.eval.verification.thresholds import Decision
from probface.eval.verification.trial import Trial
from probface.score.cosine import cosine


def worst_errors(trial: Trial, decision: Decision, count: int) -> tuple[WorstError, ...]:
    """The false matches of the highest score, then the false non-matches of the lowest; up to ``count`` of each.

    An image is in one error of a system alone, so that a single bad photo does not fill the list.
    """
    genuine, matched = trial.comparisons.genuine, trial.scores > decision.threshold
    false_matches, false_non_matches = np.flatnonzero(matched & ~genuine), np.flatnonzero(genuine & ~matched)
    by_margin: tuple[tuple[ErrorKind, NDArray[np.int64]], ...] = (
        ("false match", false_matches[np.argsort(-trial.scores[false_matches], kind="stable")]),
        ("false non-match", false_non_matches[np.argsort(trial.scores[false_non_matches], kind="stable")]),
    )
    seen: set[int] = set()
    return tuple(
        _error(trial, decision, kind, pair)
        for kind, pairs in by_margin
        for pair in _of_new_images(trial, pairs, count, seen)
    )


def _of_new_images(trial: Trial, pairs: NDArray[np.int64], count: int, seen: set[int]) -> list[int]:
    """The first ``count`` pairs of images that are not in ``seen``, which grows by theirs."""
    chosen: list[int] = []
    for pair in pairs:
        images = {int(trial.comparisons.first[pair]), int(trial.comparisons.second[pair])}
        if len(chosen) == count:
            break
        if not images & seen:
            seen |= images
            chosen.append(int(pair))
    return chosen


def _error(trial: Trial, decision: Decision, kind: ErrorKind, pair: int) -> WorstError:
    comparisons, faces = trial.comparisons, trial.candidate.faces
    images = comparisons.first[pair], comparisons.second[pair]
    names = comparisons.names[images[0]], comparisons.names[images[1]]
    both = faces.embeddings[faces.rows(names)]
    variances = [
        None if comparisons.subjects[image] in trial.candidate.taught else float(whole)
        for image, whole in zip(images, both.sigma_sq.sum(axis=1, dtype=np.float64), strict=True)
    ]
    return WorstError(
        kind=kind,
        system=trial.key,
        a=names[0],
        b=names[1],
        score=float(trial.scores[pair]),
        threshold=decision.threshold,
        fmr=decision.fmr,
        cosine=float(cosine(both.mu[:1], both.mu[1:])[0]),
        sigma_sq_a=variances[0],
        sigma_sq_b=variances[1],
    )
