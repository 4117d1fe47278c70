"""How good a likelihood ratio each score gives, on people who had no part in its calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probface.errors import InsufficientData, InvalidValue
from probface.eval.metrics.bootstrap import Weights
from probface.eval.metrics.likelihood_ratio import fit_calibration, min_cllr, reliability
from probface.eval.results import Chart, ChartAxis, Figure, Section, Series
from probface.eval.verification.draws import Numbers
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import Rate, figure, insufficient
from probface.eval.verification.trial import Trial

TEXT = (
    "A score becomes a likelihood ratio by an affine map that was fitted on one half of the subjects; it is judged on "
    "the other half, and the halves change places. Comparisons between the halves are left out. Cllr is the cost of "
    "the log likelihood ratio in bits: 0 is perfect, 1 tells nothing. Min Cllr is what remains with the best monotone "
    "map: the difference of the two is due to calibration."
)
CHART_TEXT = (
    "Of the comparisons that were given a posterior, which share was genuine, with genuine and impostor comparisons "
    "weighted alike? On the diagonal the likelihood ratios mean what they say."
)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Likelihood ratios of people who had no part in their calibration.

    Attributes:
        genuine, impostor: natural-log likelihood ratios, (G,) and (M,).
        rows: (G + M,) of the comparisons, the genuine ones first.
    """

    genuine: NDArray[np.float64]
    impostor: NDArray[np.float64]
    rows: NDArray[np.int64]


def calibration_section(trials: list[Trial], options: JudgeOptions) -> Section:
    """Cllr, min Cllr and a reliability diagram of every system."""
    figures: list[Figure] = []
    series: list[Series] = [Series("perfect", (0.0, 1.0), (0.0, 1.0))]
    for trial in trials:
        try:
            held_out = cross_fitted(trial, options.seed)
        except (InsufficientData, InvalidValue) as error:
            note = insufficient(error) if isinstance(error, InsufficientData) else str(error)
            rates = [Rate(name, None, unit="bits", better="lower", note=note) for name in ("Cllr", "min Cllr")]
            figures += [figure(trial, rate, options) for rate in rates]
            continue
        figures += _figures(trial, held_out, options)
        diagram = reliability(held_out.genuine, held_out.impostor)
        points = tuple(diagram.predicted.tolist()), tuple(diagram.observed.tolist())
        series.append(Series(trial.label, *points, trial.key))
    axes = ChartAxis("posterior given", percent=True), ChartAxis("genuine", percent=True)
    charts = (Chart("reliability", "Reliability", CHART_TEXT, *axes, tuple(series)),) if len(series) > 1 else ()
    return Section("Likelihood ratios", TEXT, tuple(figures), charts)


def cross_fitted(trial: Trial, seed: int) -> HeldOut:
    """Calibrate on each half of the people, judge on the other.

    Raises:
        InsufficientData: a half lacks a kind of comparison, or its two kinds do not overlap.
        InvalidValue: genuine scores are not the higher ones in a half.
    """
    halves, labels = trial.draws.halves(seed), trial.comparisons.genuine
    rows = {
        (half, kind): np.flatnonzero((halves == half) & (labels == kind)) for half in (0, 1) for kind in (True, False)
    }
    for (_, kind), found in rows.items():
        if not len(found):
            raise InsufficientData(
                f"half of the people have no {'genuine' if kind else 'impostor'} comparison among them; bring more"
            )
    maps = [fit_calibration(trial.scores[rows[half, True]], trial.scores[rows[half, False]]) for half in (0, 1)]
    genuine, impostor = (
        np.concatenate([maps[1 - half].llr(trial.scores[rows[half, kind]]) for half in (0, 1)])
        for kind in (True, False)
    )
    return HeldOut(genuine, impostor, np.concatenate([rows[half, kind] for kind in (True, False) for half in (0, 1)]))


class WeightedCllr:
    """Cllr of weighted people, the likelihood ratios as they are.

    Args:
        genuine: (G,) natural-log likelihood ratios.
        impostor: (M,) likewise.
        first, second: (G + M,) numbers of the two people, the genuine comparisons first.
    """

    def __init__(
        self, genuine: NDArray[np.float64], impostor: NDArray[np.float64], first: Numbers, second: Numbers
    ) -> None:
        count = len(genuine)
        self._genuine = _by_people(np.logaddexp(0, -genuine), first[:count], second[:count])
        self._impostor = _by_people(np.logaddexp(0, impostor), first[count:], second[count:])

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(1,) bits."""
        own, costs, counts = self._genuine[0], *self._genuine[2:]
        missed = _mean(weights[own], costs, counts)
        one, other, costs, counts = self._impostor
        return np.array([(missed + _mean(weights[one] * weights[other], costs, counts)) / (2 * math.log(2))])


def _by_people(
    costs: NDArray[np.float64], first: Numbers, second: Numbers
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Each two people once: their numbers, the sum of their comparisons' costs, and how many there are."""
    low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second).astype(np.int64)
    base = int(high.max()) + 1
    keys, inverse, counts = np.unique(low * base + high, return_inverse=True, return_counts=True)
    return keys // base, keys % base, np.bincount(inverse, costs).astype(np.float64), counts.astype(np.int64)


def _mean(weight: Weights, costs: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    total = int(weight @ counts)
    if total == 0:
        raise InsufficientData("a resample without a comparison to count; bring more people")
    return float(weight @ costs) / total


def _figures(trial: Trial, held_out: HeldOut, options: JudgeOptions) -> list[Figure]:
    first, second = trial.draws.first[held_out.rows], trial.draws.second[held_out.rows]
    found = trial.draws.resample(WeightedCllr(held_out.genuine, held_out.impostor, first, second), options)
    least = min_cllr(held_out.genuine, held_out.impostor)
    cost = figure(trial, Rate("Cllr", found, unit="bits", better="lower"), options)
    best = Figure("min Cllr", trial.key, least, unit="bits", better="lower")
    genuine, impostor = len(held_out.genuine), len(held_out.impostor)
    return [replace(one, genuine=genuine, impostor=impostor) for one in (cost, best)]
