"""From a resampled statistic to a row of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from probface.errors import InsufficientData
from probface.eval.metrics.bootstrap import Resampled
from probface.eval.results import INSUFFICIENT, Figure, Relation, Unit
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.trial import Trial


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """A figure of one system before it is written down, so that it can be compared with another's.

    Attributes:
        name, at, by, unit, better, note: as in :class:`probface.eval.results.Figure`.
        found: one figure, resampled; None where there are too few comparisons, and ``note`` says so.
        genuine, impostor: how many comparisons it rests on; None: all of the trial's.
    """

    name: str
    found: Resampled | None
    at: Mapping[str, float] = field(default_factory=dict)
    by: str = ""
    unit: Unit = "share"
    better: Literal["higher", "lower"] | None = None
    note: str = ""
    genuine: int | None = None
    impostor: int | None = None


def column(found: Resampled, place: int) -> Resampled:
    """One of the figures of a statistic."""
    return Resampled(found.estimate[place : place + 1], found.values[:, place : place + 1], found.draws)


def kept_of(count: int, rejected: float) -> int:
    """How many of ``count`` comparisons stay where a share of them is rejected."""
    return count - math.floor(rejected * count + 1e-9)


def insufficient(error: InsufficientData | str) -> str:
    """The note of a figure that the data cannot give."""
    return f"{INSUFFICIENT}: {error}"


def figure(
    trial: Trial, rate: Rate, options: JudgeOptions, *, relation: Relation = "value", against: str | None = None
) -> Figure:
    """Write a rate down with its interval."""
    value, low, high, note = _value(rate.found, rate.note, options)
    return Figure(
        name=rate.name,
        system=trial.key,
        value=value,
        low=low,
        high=high,
        at=dict(rate.at),
        by=rate.by,
        unit=rate.unit,
        better=rate.better,
        relation=relation,
        against=against,
        genuine=trial.genuine if rate.genuine is None else rate.genuine,
        impostor=trial.impostor if rate.impostor is None else rate.impostor,
        note=note,
    )


def _value(
    found: Resampled | None, note: str, options: JudgeOptions
) -> tuple[float | None, float | None, float | None, str]:
    """Value, ends of the interval, and what there is to say."""
    if found is None:
        return None, None, None, note
    estimate = float(found.estimate[0])
    if not math.isfinite(estimate):
        return None, None, None, _joined(note, insufficient("division by 0, there is no error to compare with"))
    undefined = int(np.isnan(found.values).sum())
    if undefined:
        missing = f"no interval: {undefined} of {len(found.values)} resamples leave nothing to count"
        return estimate, None, None, _joined(note, missing)
    (interval,) = found.intervals(options.confidence)
    if not math.isfinite(interval.high):
        return estimate, interval.low, None, _joined(note, "the interval has no upper end: some resamples divide by 0")
    return estimate, interval.low, interval.high, note


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
