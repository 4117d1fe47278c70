"""Risk-controlled recognition as the paper has it: reject by variance, and fit the threshold to what is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from probface.eval.face_table import UNCERTAINTY
from probface.eval.metrics.weighted import BestErrorRate
from probface.eval.results import Chart, ChartAxis, Section, Series
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import Rate, figure, insufficient, kept_of
from probface.eval.verification.trial import Trial

TEXT = (
    "The comparisons, genuine and impostor, whose larger variance is the largest are rejected, and the threshold is "
    "fitted to the others: the paper's table. Which comparisons go is settled once; resamples weigh those that stay. "
    "Where impostors far outnumber genuine comparisons, accuracy speaks mostly of impostors."
)
CHART_TEXT = "Higher is better."


def risk_section(trials: list[Trial], options: JudgeOptions) -> Section:
    """Accuracy of each system whose variance differs between images, at each share rejected."""
    figures, series = [], []
    for trial in trials:
        if not trial.tells_uncertainty:
            continue
        rates = _rates(trial, options)
        figures += [figure(trial, rate, options) for rate in rates]
        points = [(rate.at["rejected"], float(rate.found.estimate[0])) for rate in rates if rate.found is not None]
        series.append(Series(trial.label, tuple(x for x, _ in points), tuple(y for _, y in points), trial.key))
    axes = ChartAxis("comparisons rejected", percent=True), ChartAxis("accuracy", percent=True)
    charts = (Chart("risk", "Risk-controlled accuracy", CHART_TEXT, *axes, tuple(series)),) if series else ()
    return Section("Risk control", TEXT, tuple(figures), charts)


def _rates(trial: Trial, options: JudgeOptions) -> list[Rate]:
    # The surest first; of equally sure ones the later are rejected first.
    order = np.argsort(-trial.pair_quality(UNCERTAINTY), kind="stable")
    rates = []
    for share in options.rejected:
        kept = order[: kept_of(len(order), share)]
        at, labels = {"rejected": share}, trial.comparisons.genuine[kept]
        genuine = int(np.count_nonzero(labels))
        rate = Rate("accuracy", None, at, UNCERTAINTY, better="higher", genuine=genuine, impostor=len(kept) - genuine)
        if genuine in (0, len(kept)):
            rates.append(replace(rate, note=insufficient("only one kind of comparison is left")))
            continue
        errors = BestErrorRate(trial.scores[kept], trial.draws.first[kept], trial.draws.second[kept])
        found = trial.draws.resample(lambda weights, errors=errors: 1 - errors(weights), options)  # type: ignore[misc]
        rates.append(replace(rate, found=found))
    return rates
