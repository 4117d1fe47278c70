"""Error versus discard (ISO/IEC 29794-1): which quality measure knows best where the errors are?

The quality of a comparison is the lower of its two images'. Every measure sets the same share of the genuine
comparisons aside, those of the lowest quality; FNMR of the others is counted at one threshold, that of a false-match
rate before anything was set aside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probface.eval.face_table import UNCERTAINTY
from probface.eval.metrics.bootstrap import Resampled, Weights, ratio
from probface.eval.metrics.risk import partial_auc
from probface.eval.metrics.weighted import DiscardCurve
from probface.eval.results import Chart, ChartAxis, Figure, Section, Series
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import Rate, column, figure, kept_of
from probface.eval.verification.thresholds import Decision
from probface.eval.verification.trial import Trial

UPTO = 0.30
"""End of the partial area."""
GRID = np.linspace(0, UPTO, 61)

TEXT = (
    "The genuine comparisons of the lowest quality are set aside; the threshold stays where it was. A useful quality "
    "makes FNMR fall fast. The partial area under the curve, up to 30 % set aside, puts that in one number: smaller is "
    "better, and a ratio below 1 says that sigma^2 is the better of the two. Each resample sets the threshold anew."
)
CHART_TEXT = "Lower is better; a flat line knows nothing of the errors."


def discard_section(decided: list[tuple[Trial, Decision]], options: JudgeOptions) -> Section:
    """Every system by every measure of its faces, sigma^2 first."""
    figures: list[Figure] = []
    charts: list[Chart] = []
    for trial, decision in decided:
        found = {
            measure: _resampled(trial, measure, decision, options)
            for measure in (UNCERTAINTY, *trial.candidate.faces.measures)
            if measure != UNCERTAINTY or trial.tells_uncertainty
        }
        if not found:
            continue
        figures += _figures(trial, found, decision, options)
        charts.append(_chart(trial, found, decision))
    return Section("Error versus discard", TEXT, tuple(figures), tuple(charts))


def _shares(options: JudgeOptions) -> NDArray[np.float64]:
    """Those of the chart, then those of the table."""
    return np.concatenate([GRID, options.rejected])


def _resampled(trial: Trial, measure: str, decision: Decision, options: JudgeOptions) -> Resampled:
    """FNMR at each of :func:`_shares`, and the partial area last."""
    curve = DiscardCurve(
        trial.genuine_scores,
        trial.pair_quality(measure)[trial.comparisons.genuine],
        trial.genuine_person,
        trial.impostors,
        decision.fmr,
        _shares(options),
    )

    def statistic(weights: Weights) -> NDArray[np.float64]:
        fnmr = curve(weights)
        return np.append(fnmr, partial_auc(GRID, fnmr[: len(GRID)], UPTO))

    return trial.draws.resample(statistic, options)


def _figures(trial: Trial, found: dict[str, Resampled], decision: Decision, options: JudgeOptions) -> list[Figure]:
    area = len(GRID) + len(options.rejected)
    figures = []
    for measure, one in found.items():
        for place, share in enumerate(options.rejected, len(GRID)):
            at = {"fmr": decision.fmr, "rejected": share}
            kept = kept_of(trial.genuine, share)  # the impostors set the threshold, all of them
            rate = Rate("FNMR", column(one, place), at, measure, better="lower", genuine=kept)
            figures.append(figure(trial, rate, options))
        at = {"fmr": decision.fmr, "rejected": UPTO}
        rate = Rate("partial AUC", column(one, area), at, measure, "area", "lower")
        figures.append(figure(trial, rate, options))
        if measure != UNCERTAINTY and UNCERTAINTY in found:
            both = ratio(column(found[UNCERTAINTY], area), column(one, area))
            rate = Rate("partial AUC, sigma^2's over this measure's", both, at, measure, "ratio", "lower")
            figures.append(figure(trial, rate, options))
    return figures


def _chart(trial: Trial, found: dict[str, Resampled], decision: Decision) -> Chart:
    x = tuple(GRID.tolist())
    series = tuple(
        Series(measure, x, tuple(one.estimate[: len(GRID)].tolist()), trial.key) for measure, one in found.items()
    )
    return Chart(
        "edc",
        f"Error versus discard, {trial.label}, threshold at FMR {decision.fmr:g}",
        CHART_TEXT,
        ChartAxis("comparisons set aside", percent=True),
        ChartAxis("FNMR", percent=True),
        series,
    )
