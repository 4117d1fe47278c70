"""Searches in galleries as figures and charts: rank rates, TPIR, CMC and the open-set curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probface.errors import InsufficientData
from probface.eval.metrics.bootstrap import Resampled, Weights, difference, resample
from probface.eval.metrics.identification import cmc, open_set_curve, require_non_mated
from probface.eval.metrics.weighted_search import SearchRates
from probface.eval.protocols.ijb_identification import FPIRS, RANKS, GallerySearch
from probface.eval.results import INSUFFICIENT, Chart, ChartAxis, Figure, Section, Series, System
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import column, insufficient
from probface.score.calibration import EXPECTED_FALSE_MATCHES

CHART_RANKS = np.unique(np.geomspace(1, 100, 30).astype(np.int64))
CURVE_POINTS = 200
MEAN = "both galleries"

TEXT = (
    "Every probe is searched in both galleries; each gallery has about half of the subjects. Rank rate: the share of "
    "the mated searches whose mate is among so many best. TPIR is 1 - FNIR: the mate is first, and above the threshold "
    "that lets at most that share of the non-mated searches find anybody. For both galleries, a rank rate is over all "
    "mated searches, and TPIR is the mean of the two. Intervals resample the probes' subjects."
)
CMC_TEXT = "Higher is better: how far down the list of candidates the mate is found, without a threshold."
DIR_TEXT = (
    "Higher is better: mates found first and above the threshold, at the share of non-mated searches that find "
    "anybody. A curve begins at the left where ten such false positives are expected."
)


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """What one system found in the galleries.

    Attributes:
        system: the system.
        galleries: one or more, of the same probes.
    """

    system: System
    galleries: Sequence[GallerySearch]


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the table: what, where, and why not."""

    name: str
    at: dict[str, float]
    by: str
    mated: int
    non_mated: int
    note: str = ""


def identification_section(searched: Sequence[Searched], options: JudgeOptions) -> Section:
    """Rank rates and TPIR in each gallery and in all, differences from the first system, CMC and open-set curves."""
    found = [_resampled(one, options) for one in searched]
    figures = []
    for one, rates in zip(searched, found, strict=True):
        figures += [
            _figure(one.system, row, column(rates, place), options) for place, row in enumerate(_rows(one.galleries))
        ]
    for one, rates in zip(searched[1:], found[1:], strict=True):
        more = difference(rates, found[0])
        figures += [
            replace(
                _figure(one.system, row, column(more, place), options),
                relation="difference",
                against=searched[0].system.key,
            )
            for place, row in enumerate(_rows(one.galleries))
            if not row.note
        ]
    charts: list[Chart] = []
    for place in range(len(searched[0].galleries)):
        charts += [_cmc(searched, place), *_open_set(searched, place)]
    return Section("Identification", TEXT, tuple(figures), tuple(charts))


def _rows(galleries: Sequence[GallerySearch]) -> list[_Row]:
    """In the order of the statistic: gallery by gallery, then all; rank rates, then TPIR."""
    rows = []
    for each in (*galleries, None):
        counted = galleries if each is None else (each,)
        mated, others = (sum(len(_subjects(one)[kind]) for one in counted) for kind in (0, 1))
        fewest = min(len(one.other_subjects) for one in counted)
        by = MEAN if each is None else f"gallery {each.gallery}"
        rows += [_Row("rank rate", {"rank": float(rank)}, by, mated, 0) for rank in RANKS]
        rows += [_Row("TPIR", {"fpir": fpir}, by, mated, others, search_shortage(fewest, fpir)) for fpir in FPIRS]
    return rows


def search_shortage(non_mated: int, fpir: float) -> str:
    """Why TPIR cannot be measured at a rate by so many non-mated searches; empty where it can."""
    try:
        require_non_mated(non_mated, fpir)
    except InsufficientData as error:
        return insufficient(error)
    return ""


def _subjects(found: GallerySearch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return found.mated_subjects, found.other_subjects


def _resampled(one: Searched, options: JudgeOptions) -> Resampled:
    """The rates of :func:`_rows`."""
    people = np.unique(np.concatenate([side for each in one.galleries for side in _subjects(each)]))
    rates, mated = [], []
    for each in one.galleries:
        ours, others = (np.searchsorted(people, side) for side in _subjects(each))
        rates.append(SearchRates(each.searches, ours, others, RANKS, FPIRS))
        mated.append(ours)

    def statistic(weights: Weights) -> NDArray[np.float64]:
        found = np.stack([each(weights) for each in rates])  # (galleries, ranks and FPIRs)
        counts = np.array([weights[ours].sum() for ours in mated])
        ranks = counts @ found[:, : len(RANKS)] / counts.sum()
        return np.concatenate([found.ravel(), ranks, found[:, len(RANKS) :].mean(axis=0)])

    return resample(statistic, len(people), resamples=options.resamples, seed=options.seed)


def _figure(system: System, row: _Row, found: Resampled, options: JudgeOptions) -> Figure:
    figure = Figure(
        row.name,
        system.key,
        None,
        at=row.at,
        by=row.by,
        better="higher",
        genuine=row.mated,
        impostor=row.non_mated,
        note=row.note or INSUFFICIENT,
    )
    if row.note:
        return figure
    figure = replace(figure, value=float(found.estimate[0]), note="")
    try:
        (interval,) = found.intervals(options.confidence)
    except InsufficientData as error:
        return replace(figure, note=f"no interval: {error}")
    return replace(figure, low=interval.low, high=interval.high)


def _cmc(searched: Sequence[Searched], place: int) -> Chart:
    series = []
    for one in searched:
        found = one.galleries[place].searches
        ranks = CHART_RANKS[max(found.subjects, 1) >= CHART_RANKS]
        shares = cmc(found, ranks)
        series.append(Series(one.system.label, tuple(map(float, ranks)), tuple(map(float, shares)), one.system.key))
    title = f"CMC, gallery {searched[0].galleries[place].gallery}"
    return Chart("cmc", title, CMC_TEXT, ChartAxis("rank", "log"), ChartAxis("rank rate", percent=True), tuple(series))


def _open_set(searched: Sequence[Searched], place: int) -> tuple[Chart, ...]:
    """One chart, or none where there are too few non-mated searches for a curve."""
    series = []
    for one in searched:
        found = one.galleries[place].searches
        count = len(found.top_score)
        if count <= EXPECTED_FALSE_MATCHES:
            continue
        curve = open_set_curve(found, rank=1)
        wanted = np.geomspace(EXPECTED_FALSE_MATCHES / count, 1, CURVE_POINTS)
        # The last point that is not above each rate, once.
        points = np.unique(np.searchsorted(curve.fpir, wanted + 1e-12, side="right") - 1)
        points = points[curve.fpir[points] > 0]
        fpir, tpir = curve.fpir[points], 1 - curve.fnir[points]
        series.append(Series(one.system.label, tuple(fpir.tolist()), tuple(tpir.tolist()), one.system.key))
    if not series:
        return ()
    title = f"Open-set identification, gallery {searched[0].galleries[place].gallery}"
    axes = ChartAxis("FPIR", "log", percent=True), ChartAxis("TPIR", percent=True)
    return (Chart("dir", title, DIR_TEXT, *axes, tuple(series)),)
