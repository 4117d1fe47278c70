"""Curves of one-to-one comparison: ROC, DET, and how the scores of both kinds lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probface.eval.metrics.histogram import score_shares
from probface.eval.results import Chart, ChartAxis, Series
from probface.eval.verification.trial import Trial
from probface.score.calibration import EXPECTED_FALSE_MATCHES

CURVE_POINTS = 200
HISTOGRAM_BINS = 80

ROC_TEXT = (
    "Higher is better. A curve begins at the left where ten false matches are expected: below it the comparisons are "
    "too few for a rate."
)
DET_TEXT = "Lower is better. Both axes are logarithmic, so that small error rates can be told apart."
HISTOGRAM_TEXT = (
    "Share of the comparisons of each kind in bins of equal width, at their middles; scores beyond the ends are in the "
    "outer bins. The less the two overlap, the better."
)


def verification_charts(trials: list[Trial]) -> tuple[Chart, ...]:
    """ROC and DET of all systems, and a histogram of each."""
    roc, det = [], []
    for trial in trials:
        fmr, tmr = operating_curve(trial)
        if len(fmr):
            roc.append(Series(trial.label, tuple(fmr.tolist()), tuple(tmr.tolist()), trial.key))
        some = tmr < 1  # a logarithmic axis has no 0
        if some.any():
            det.append(Series(trial.label, tuple(fmr[some].tolist()), tuple((1 - tmr[some]).tolist()), trial.key))
    fmr_axis = ChartAxis("FMR", "log", percent=True)
    charts = []
    if roc:
        charts.append(Chart("roc", "ROC", ROC_TEXT, fmr_axis, ChartAxis("TMR", percent=True), tuple(roc)))
    if det:
        charts.append(Chart("det", "DET", DET_TEXT, fmr_axis, ChartAxis("FNMR", "log", percent=True), tuple(det)))
    return (*charts, *map(score_histogram, trials))


def operating_curve(trial: Trial) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K,) FMR, rising, and (K,) TMR, at thresholds for about even steps of log FMR from 10 / M to 1."""
    genuine, impostor = np.sort(trial.genuine_scores), np.sort(trial.impostor_scores)
    count = len(impostor)
    if count <= EXPECTED_FALSE_MATCHES:
        return np.empty(0), np.empty(0)
    allowed = np.floor(np.geomspace(EXPECTED_FALSE_MATCHES, count, CURVE_POINTS) + 1e-9).astype(np.int64)
    # Below the lowest score all match; elsewhere the threshold is the score that the rule takes.
    ranks = count - 1 - allowed
    thresholds = np.unique(np.where(ranks >= 0, impostor[ranks], -np.inf))[::-1]
    matched, recognised = (len(s) - np.searchsorted(s, thresholds, side="right") for s in (impostor, genuine))
    measured = matched >= EXPECTED_FALSE_MATCHES  # ties at the top leave fewer above
    return matched[measured] / count, recognised[measured] / len(genuine)


def score_histogram(trial: Trial) -> Chart:
    """Scores of both kinds of a system."""
    found = score_shares(trial.genuine_scores, trial.impostor_scores, HISTOGRAM_BINS)
    middles = tuple(((found.edges[1:] + found.edges[:-1]) / 2).tolist())
    series = [
        Series(label, middles, tuple(shares.tolist()), trial.key)
        for label, shares in (("genuine", found.genuine), ("impostor", found.impostor))
    ]
    title = f"Scores of {trial.label}"
    return Chart(
        "histogram", title, HISTOGRAM_TEXT, ChartAxis("score"), ChartAxis("comparisons", percent=True), tuple(series)
    )
