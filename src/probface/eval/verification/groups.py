"""Error rates of groups of subjects at one threshold for all (:mod:`probface.eval.metrics.groups`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from probface.eval.metrics.bootstrap import Interval
from probface.eval.metrics.groups import GroupRates, group_fmr, group_fnmr
from probface.eval.results import Figure, Section
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import insufficient
from probface.eval.verification.thresholds import Decision
from probface.eval.verification.trial import Trial

TEXT = (
    "FMR of a group: comparisons of two of its subjects; FNMR: genuine comparisons of its subjects; one threshold for "
    "all. The largest ratio is above 1 by chance alone; an interval that reaches below 1 is no sign of a difference. "
    "The interval keeps the two groups that the data chose, so one above 1 is weaker evidence than it seems. A "
    "difference may come from a group's pictures and from who was compared, not from the people."
)


def group_section(
    decided: list[tuple[Trial, Decision]], groups: Mapping[str, str], options: JudgeOptions
) -> tuple[Section, tuple[str, ...]]:
    """FMR and FNMR of each group for every system, the largest ratios, and notes."""
    figures: list[Figure] = []
    notes: dict[str, None] = {}
    for trial, decision in decided:
        fmr, fnmr = _rates(trial, groups, decision, options)
        figures += _figures(trial, "FMR", fmr, decision)
        figures += _figures(trial, "FNMR", fnmr, decision)
        if fmr.unlabelled:
            notes[f"Groups: {fmr.unlabelled:,} subjects are in none and take no part."] = None
    return Section("Groups", TEXT, tuple(figures)), tuple(notes)


def _rates(
    trial: Trial, groups: Mapping[str, str], decision: Decision, options: JudgeOptions
) -> tuple[GroupRates, GroupRates]:
    comparisons = trial.comparisons.without_unused_images()
    numbers = comparisons.subject_numbers
    subject = dict(zip(numbers.tolist(), comparisons.subjects, strict=True))
    labels = [groups.get(subject[number]) for number in range(len(subject))]
    genuine = comparisons.genuine
    first, second = numbers[comparisons.first], numbers[comparisons.second]
    how = {"resamples": options.resamples, "seed": options.seed}
    fmr = group_fmr(
        trial.impostor_scores,
        first[~genuine],
        second[~genuine],
        labels,
        decision.threshold,
        **how,
        confidence=options.confidence,
    )
    fnmr = group_fnmr(
        trial.genuine_scores, first[genuine], labels, decision.threshold, **how, confidence=options.confidence
    )
    return fmr, fnmr


def _figures(trial: Trial, name: Literal["FMR", "FNMR"], rates: GroupRates, decision: Decision) -> list[Figure]:
    at = {"fmr": decision.fmr}
    figures = []
    for group in rates.groups:
        rate = group.rate
        count = {"impostor": group.comparisons} if name == "FMR" else {"genuine": group.comparisons}
        figures.append(
            Figure(
                name,
                trial.key,
                None if rate is None else rate.estimate,
                None if rate is None else rate.low,
                None if rate is None else rate.high,
                dict(at),
                group.group,
                better="lower",
                genuine=count.get("genuine", 0),
                impostor=count.get("impostor", 0),
                note=group.note,
            )
        )
    between = rates.differential
    if between is None:
        note = insufficient("fewer than two groups have a rate")
        figures.append(Figure(f"largest {name} ratio", trial.key, None, at=dict(at), unit="ratio", note=note))
        return figures
    by = f"{between.highest} / {between.lowest}"
    figures.append(_ratio(f"largest {name} ratio", trial, between.ratio, dict(at), by))
    by = f"{between.highest} / geometric mean"
    figures.append(_ratio(f"highest {name} over mean", trial, between.over_mean, dict(at), by))
    return figures


def _ratio(name: str, trial: Trial, found: Interval, at: dict[str, float], by: str) -> Figure:
    value, low, high = (number if math.isfinite(number) else None for number in (found.estimate, found.low, found.high))
    note = ""
    if value is None:
        low, note = None, insufficient("the lowest group has no error")
    elif high is None:
        note = "the interval has no upper end: the lowest group has no error in some resamples"
    return Figure(name, trial.key, value, low, high, at, by, "ratio", "lower", note=note)
