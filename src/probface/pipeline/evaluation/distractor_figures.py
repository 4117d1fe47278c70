"""What searches among distractors found, as figures and a chart over the number of distractors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probface.errors import InsufficientData
from probface.eval.metrics.bootstrap import Resampled, Weights, difference, resample
from probface.eval.protocols.distractors import DistractorScores
from probface.eval.results import INSUFFICIENT, Chart, ChartAxis, Figure, Section, Series, System
from probface.eval.verification.operating_points import shortage
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import column
from probface.score.calibration import allowed_false_matches

RANKS = (1, 10)

TEXT = (
    "Each ordered pair of two images of one person is a search: one image is the probe, the other its only mate among "
    "M distractors, who are drawn at random several times. Rank rate: the share of the searches whose mate is among so "
    "many best. TMR is at the threshold that a share FMR of all comparisons of a probe with a distractor is above. "
    "Intervals resample the probes' people; the distractors and the threshold stay."
)
CHART_TEXT = "Higher is better. The flatter the line, the less a system minds a larger gallery."


@dataclass(frozen=True, slots=True, eq=False)
class Among:
    """What one system found.

    Attributes:
        system: the system.
        scores: of its probes with mates and distractors.
        names, people: (S,) of the probes.
    """

    system: System
    scores: DistractorScores
    names: tuple[str, ...]
    people: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One figure: its share of each search (the mean over the draws), or why there is none."""

    name: str
    at: dict[str, float]
    hits: NDArray[np.float64] | None
    impostors: int = 0
    note: str = ""


def distractor_section(among: Sequence[Among], options: JudgeOptions) -> Section:
    """Rank rates at each number of distractors, TMR, and differences from the first system on common probes."""
    rows = [_rows(one.scores, options.fmrs) for one in among]
    figures = []
    for one, its in zip(among, rows, strict=True):
        everyone = np.ones(len(one.scores.probe), np.bool_)
        found = _resampled(one, its, everyone, options)
        figures += _figures(one.system, its, found, len(one.scores.probe), options)
    for one, its in zip(among[1:], rows[1:], strict=True):
        figures += _differences((among[0], rows[0]), (one, its), options)
    axes = ChartAxis("distractors", "log"), ChartAxis("rank-1 rate", percent=True)
    chart = Chart("distractors", "Rank 1 among distractors", CHART_TEXT, *axes, tuple(map(_series, among)))
    return Section("Identification among distractors", TEXT, tuple(figures), (chart,))


def _rows(scores: DistractorScores, fmrs: Sequence[float]) -> list[_Row]:
    draws, kept = scores.best.shape[0], scores.best.shape[3]
    rows = []
    for rank in (rank for rank in RANKS if rank <= kept):
        rates = scores.rank_rates(rank)
        for level, size in enumerate(scores.sizes):
            hits = np.mean([scores.ranks(draw, level) <= rank for draw in range(draws)], axis=0)
            low, high = 100 * float(rates[level].min()), 100 * float(rates[level].max())
            note = f"{draws} draws: {low:.2f} to {high:.2f} %" if low < high else ""
            rows.append(_Row("rank rate", {"rank": float(rank), "distractors": float(size)}, hits, note=note))
    for fmr in fmrs:
        few = shortage(scores.impostors, fmr)
        if few:
            rows.append(_Row("TMR", {"fmr": fmr}, None, scores.impostors, few))
        elif allowed_false_matches(scores.impostors, fmr) < len(scores.highest):  # larger ones were not kept
            hits = (scores.mate_scores > scores.threshold(fmr)).astype(np.float64)
            rows.append(_Row("TMR", {"fmr": fmr}, hits, scores.impostors))
    return rows


def _resampled(one: Among, rows: Sequence[_Row], searches: NDArray[np.bool_], options: JudgeOptions) -> Resampled:
    """Each row that has a value, on some of the searches."""
    people, who = np.unique(np.array(one.people)[one.scores.probe[searches]], return_inverse=True)
    counts = np.bincount(who, minlength=len(people))
    sums = np.stack(
        [np.bincount(who, row.hits[searches], minlength=len(people)) for row in rows if row.hits is not None]
    )

    def statistic(weights: Weights) -> NDArray[np.float64]:
        rates: NDArray[np.float64] = (sums @ weights) / float(counts @ weights)
        return rates

    if len(people) < 2:
        alone = statistic(np.ones(1, np.int64))
        return Resampled(alone, np.full((1, len(alone)), np.nan), (1, options.seed))
    return resample(statistic, len(people), resamples=options.resamples, seed=options.seed)


def _figures(
    system: System, rows: Sequence[_Row], found: Resampled, searches: int, options: JudgeOptions
) -> list[Figure]:
    figures, place = [], 0
    for row in rows:
        # A pair of images is searched both ways, and is one comparison.
        genuine = searches if row.name == "rank rate" else searches // 2
        figure = Figure(
            row.name,
            system.key,
            None,
            at=row.at,
            better="higher",
            genuine=genuine,
            impostor=row.impostors,
            note=row.note or INSUFFICIENT,
        )
        if row.hits is not None:
            figure = _with_value(replace(figure, value=0.0, note=row.note), column(found, place), options)
            place += 1
        figures.append(figure)
    return figures


def _with_value(figure: Figure, found: Resampled, options: JudgeOptions) -> Figure:
    figure = replace(figure, value=float(found.estimate[0]))
    try:
        (interval,) = found.intervals(options.confidence)
    except InsufficientData:
        return replace(figure, note="; ".join(filter(None, (figure.note, "no interval: one person alone"))))
    return replace(figure, low=interval.low, high=interval.high)


def _differences(
    first: tuple[Among, Sequence[_Row]], later: tuple[Among, Sequence[_Row]], options: JudgeOptions
) -> list[Figure]:
    """On the searches that both systems made: people who trained one of them are in none."""
    sides = []
    for (one, rows), other in ((first, later[0]), (later, first[0])):
        common = np.isin(np.array(one.people), np.array(other.people))
        searches = common[one.scores.probe]
        if not searches.any():
            return []
        sides.append((one, rows, searches))
    keys = [{(row.name, tuple(row.at.items())) for row in rows if row.hits is not None} for _, rows, _ in sides]
    both = keys[0] & keys[1]
    chosen = [
        [row for row in rows if (row.name, tuple(row.at.items())) in both and row.hits is not None]
        for _, rows, _ in sides
    ]
    if not both:
        return []
    ours, theirs = (
        _resampled(one, rows, searches, options) for (one, _, searches), rows in zip(sides, chosen, strict=True)
    )
    more = difference(theirs, ours)
    count = int(sides[1][2].sum())
    partly = any(count < len(one.scores.probe) for one, _, _ in sides)
    note = f"on the {count:,} searches that both made" if partly else ""
    figures = _figures(later[0].system, [replace(row, note=note) for row in chosen[1]], more, count, options)
    return [replace(figure, relation="difference", against=first[0].system.key) for figure in figures]


def _series(one: Among) -> Series:
    rates = one.scores.rank_rates(1).mean(axis=1)
    return Series(one.system.label, tuple(map(float, one.scores.sizes)), tuple(map(float, rates)), one.system.key)
