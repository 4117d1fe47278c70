"""A threshold chosen on one list of comparisons and judged on another, as in LFW's view 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probface.eval.candidate import Candidate
from probface.eval.comparisons import Comparisons
from probface.eval.metrics.verification import best_accuracy
from probface.eval.results import Section
from probface.eval.verification.accuracy import FoldShare
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import Rate, figure
from probface.eval.verification.trial import Selections, Trial

TEXT = (
    "The threshold that is best on the development list decides the list to judge by. The interval is over subjects, "
    "the threshold as it is."
)


def transferred_accuracy(
    candidates: Sequence[Candidate],
    development: Comparisons,
    judged: Comparisons,
    options: JudgeOptions | None = None,
    *,
    title: str = "View 1",
) -> Section:
    """Accuracy of each candidate on ``judged`` at the threshold of the fewest errors on ``development``.

    Comparisons with people who trained a candidate's head take no part in judging; that they take part in choosing its
    threshold does the figure no harm, and the note counts them.

    Args:
        candidates: as for :func:`probface.eval.verification.judge.judge`.
        development: comparisons that the threshold is chosen on.
        judged: those that it decides.
        options: seed, resamples and confidence of the intervals.
        title: of the section.

    Raises:
        DataError, InvalidValue: as :func:`probface.eval.verification.judge.judge`.
    """
    options = options or JudgeOptions()
    everyone, selections = Selections(development), Selections(judged)
    figures = []
    for candidate in candidates:
        label = candidate.system.label
        setting = Trial.of(candidate, everyone.without(frozenset(), label))
        trial = Trial.of(candidate, selections.without(candidate.trained, label))
        figures.append(figure(trial, _accuracy(setting, trial, options), options))
    return Section(title, TEXT, tuple(figures))


def _accuracy(setting: Trial, judged: Trial, options: JudgeOptions) -> Rate:
    threshold = best_accuracy(setting.scores, setting.comparisons.genuine).threshold
    right = (judged.scores > threshold) == judged.comparisons.genuine
    share = FoldShare(right, np.zeros(len(right), np.int64), judged.draws.first, judged.draws.second)
    note = f"threshold {threshold:.6g} from {len(setting.scores)} comparisons"
    known = int(setting.comparisons.of_subjects(judged.candidate.trained).sum())
    if known:
        note += f", {known} of them with people who trained the head"
    found = judged.draws.resample(share, options)
    return Rate("accuracy", found, by="threshold of the development list", better="higher", note=note)
