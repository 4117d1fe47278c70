"""What BLUFR found, as figures over its trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probface.eval.protocols.blufr import BlufrOptions, BlufrResult
from probface.eval.results import Figure, Section, System
from probface.eval.verification.operating_points import affordable, shortage
from probface.eval.verification.options import JudgeOptions
from probface.pipeline.evaluation.identification import search_shortage
from probface.pipeline.evaluation.repeats import Repeated, Repeats, compared, repeats_chart
from probface.readers.blufr import BlufrLists
from probface.score.calibration import require_impostors

FPIRS, RANKS = (1e-1, 1e-2), (1, 10)

VERIFICATION_TEXT = (
    "In each trial all pairs of its test images are compared. The figure is the mean over the trials; the paper "
    "compares systems by the mean minus the standard deviation."
)
SEARCH_TEXT = (
    "In each trial probes are searched in a gallery with one image a person; about half of the probes show people who "
    "are not enrolled. DIR is 1 - FNIR: the share of the enrolled people's probes whose mate is within the rank and "
    "above the threshold at that FPIR."
)
INTERVAL_TEXT = (
    "Intervals follow from how the trials vary, by the delete-d jackknife over people: their subsets overlap, so the "
    "standard deviation alone would not do. The counts are those of a trial on the mean."
)


DIFFERENCE_TEXT = "Every later system less the first, trial by trial."


def affordable_options(lists: BlufrLists, fmrs: tuple[float, ...]) -> BlufrOptions:
    """Those of the rates that every trial has enough comparisons for.

    Raises:
        InsufficientData: no false-match rate is left.
    """
    impostors = [_impostors(lists.labels[trial.test]) for trial in lists.trials]
    others = [int((~np.isin(lists.labels[trial.probes], lists.labels[trial.gallery])).sum()) for trial in lists.trials]
    rates = affordable(min(impostors), fmrs)
    if not rates:
        require_impostors(min(impostors), max(fmrs))
    return BlufrOptions(rates, tuple(fpir for fpir in FPIRS if not search_shortage(min(others), fpir)), RANKS)


def blufr_sections(
    systems: Sequence[System], results: Sequence[BlufrResult], lists: BlufrLists, options: JudgeOptions
) -> tuple[Section, ...]:
    """Verification, open-set identification, and what the later systems have more than the first."""
    repeats = _repeats(lists, options.confidence)
    pairs = [_pair_rates(one.key, found, options.fmrs) for one, found in zip(systems, results, strict=True)]
    searches = [_search_rates(one.key, found) for one, found in zip(systems, results, strict=True)]
    enough = [place for place, fmr in enumerate(results[0].options.fmrs) if fmr >= options.fmr]
    shown = (enough or [0])[-1]
    label = f"TMR at FMR {pairs[0][shown].at['fmr']:g}"
    charts = repeats_chart([rows[shown] for rows in pairs], systems, repeats, label)
    parts = [Section("Verification", f"{VERIFICATION_TEXT} {INTERVAL_TEXT}", _figures(pairs, repeats), charts)]
    lowest = [place for place, row in enumerate(searches[0]) if row.values is not None and row.at["rank"] == 1]
    if lowest:
        label = f"DIR at FPIR {searches[0][lowest[-1]].at['fpir']:g}, rank 1"
        charts = repeats_chart([rows[lowest[-1]] for rows in searches], systems, repeats, label)
    else:
        charts = ()
    parts.append(Section("Open-set identification", SEARCH_TEXT, _figures(searches, repeats), charts))
    more = compared([[*one, *other] for one, other in zip(pairs, searches, strict=True)], repeats)
    if more:
        parts.append(Section(f"Compared with {systems[0].label}", DIFFERENCE_TEXT, tuple(more)))
    return tuple(parts)


def _repeats(lists: BlufrLists, confidence: float) -> Repeats:
    everybody = len(np.unique(lists.labels))
    kept = float(np.mean([len(np.unique(lists.labels[trial.test])) for trial in lists.trials]))
    return Repeats("trial", tuple(range(1, len(lists.trials) + 1)), confidence, kept, everybody - kept)


def _figures(found: Sequence[Sequence[Repeated]], repeats: Repeats) -> tuple[Figure, ...]:
    return tuple(figure for rows in found for row in rows for figure in row.figures(repeats))


def _pair_rates(key: str, found: BlufrResult, fmrs: tuple[float, ...]) -> list[Repeated]:
    few, measured = int(found.impostors.min()), found.options.fmrs
    return [
        Repeated(
            "TMR",
            key,
            found.tmr[:, measured.index(fmr)] if fmr in measured else None,
            {"fmr": fmr},
            found.genuine,
            found.impostors,
            "" if fmr in measured else shortage(few, fmr),
        )
        for fmr in fmrs
    ]


def _search_rates(key: str, found: BlufrResult) -> list[Repeated]:
    rows, few = [], int(found.non_mated.min())
    for fpir in FPIRS:
        measured = fpir in found.options.fpirs
        for place, rank in enumerate(RANKS):
            values = found.identified[:, found.options.fpirs.index(fpir), place] if measured else None
            at = {"fpir": fpir, "rank": float(rank)}
            note = "" if measured else search_shortage(few, fpir)
            rows.append(Repeated("DIR", key, values, at, found.mated, found.non_mated, note))
    return rows


def _impostors(labels: NDArray[np.int64]) -> int:
    _, counts = np.unique(labels, return_counts=True)
    return int(len(labels) ** 2 - (counts**2).sum()) // 2
