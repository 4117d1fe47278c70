"""The table that users take a threshold from, and the one threshold that other parts decide by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probface.eval.metrics.weighted import TmrAtFmr
from probface.eval.results import MeasuredThreshold
from probface.eval.verification.operating_points import affordable, shortage
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import Rate, column, figure
from probface.eval.verification.trial import Trial


@dataclass(frozen=True, slots=True)
class Decision:
    """The threshold of a system where one must do: the false-match rate that it was set at, and the score."""

    fmr: float
    threshold: float


def decision(trial: Trial, options: JudgeOptions) -> Decision | None:
    """The threshold at ``options.fmr``, or at the next larger rate that there are impostors for; None for none."""
    larger = sorted({options.fmr, *(fmr for fmr in options.fmrs if fmr > options.fmr)})
    found = affordable(trial.impostor, tuple(larger))
    if not found:
        return None
    threshold = trial.impostors.thresholds(trial.draws.everyone, np.array(found[:1]))[0]
    return Decision(found[0], float(threshold))


def threshold_table(trial: Trial, options: JudgeOptions) -> list[MeasuredThreshold]:
    """A row for each rate. The interval is of the false-match rate at the threshold as it stands."""
    fmrs = affordable(trial.impostor, options.fmrs)
    rows = []
    if fmrs:
        everyone, rates = trial.draws.everyone, np.array(fmrs)
        thresholds = trial.impostors.thresholds(everyone, rates)
        tmr = TmrAtFmr(trial.genuine_scores, trial.genuine_person, trial.impostors, rates)(everyone)
        false_matches = trial.impostors.rank(thresholds)
        met = trial.draws.resample(lambda weights: trial.impostors.shares(weights, false_matches), options)
        for place, fmr in enumerate(fmrs):
            row = figure(trial, Rate("FMR", column(met, place)), options)
            rows.append(
                MeasuredThreshold(
                    system=trial.key,
                    fmr=fmr,
                    threshold=float(thresholds[place]),
                    fmr_low=row.low,
                    fmr_high=row.high,
                    tmr=float(tmr[place]),
                    impostor=trial.impostor,
                    false_matches=int(false_matches[place]),
                    note=row.note,
                )
            )
    rows += [
        MeasuredThreshold(trial.key, fmr, None, None, None, None, trial.impostor, 0, shortage(trial.impostor, fmr))
        for fmr in options.fmrs
        if fmr not in fmrs
    ]
    return rows
