"""What IJB-A's splits gave, as figures over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probface.eval.protocols.ijb_identification import FPIRS, RANKS, GallerySearch
from probface.eval.protocols.ijb_verification import TemplateScores
from probface.eval.protocols.ijba import FMRS
from probface.eval.results import Section, System
from probface.eval.verification.operating_points import shortage
from probface.pipeline.evaluation.identification import search_shortage
from probface.pipeline.evaluation.repeats import Repeated, Repeats, compared, repeats_chart

VERIFICATION_TEXT = (
    "Comparisons of two templates, each split at its own thresholds. The figure is the mean over the splits; counts "
    "are those of a split on the mean. Intervals follow from how the splits vary, by the delete-d jackknife over "
    "people."
)
SEARCH_TEXT = (
    "Probes are searched in the gallery of their split, in which some of their subjects are not. Rank rate: the share "
    "of the mated searches whose mate is among so many best. TPIR is 1 - FNIR: the mate is first, and above the "
    "threshold that lets at most that share of the non-mated searches find anybody."
)
DIFFERENCE_TEXT = "Every later system less the first, split by split."


def verification_sections(
    systems: Sequence[System], found: Sequence[Sequence[TemplateScores]], repeats: Repeats
) -> tuple[Section, ...]:
    """TMR of every system over the splits, and differences from the first; nothing without a split."""
    rows = [_tmr(one.key, scores) for one, scores in zip(systems, found, strict=True)] if repeats.numbers else []
    return _sections("Verification, 1:1", VERIFICATION_TEXT, rows, systems, repeats)


def search_sections(
    systems: Sequence[System], found: Sequence[Sequence[GallerySearch]], repeats: Repeats
) -> tuple[Section, ...]:
    """Rank rates and TPIR of every system over the splits, and differences from the first; nothing without a split."""
    rows = [_ranks(one.key, searches) for one, searches in zip(systems, found, strict=True)] if repeats.numbers else []
    return _sections("Identification, 1:N", SEARCH_TEXT, rows, systems, repeats)


def _sections(
    title: str, text: str, rows: Sequence[Sequence[Repeated]], systems: Sequence[System], repeats: Repeats
) -> tuple[Section, ...]:
    if not rows:
        return ()
    figures = tuple(figure for one in rows for row in one for figure in row.figures(repeats))
    place = next((place for place, row in enumerate(rows[0]) if row.values is not None), 0)
    at = ", ".join(f"{name.upper()} {value:g}" for name, value in rows[0][place].at.items())
    charts = repeats_chart([one[place] for one in rows], systems, repeats, f"{rows[0][place].name} at {at}")
    more = compared(rows, repeats)
    sections = [Section(title, text, figures, charts)]
    if more:
        sections.append(Section(f"{title}: compared with {systems[0].label}", DIFFERENCE_TEXT, tuple(more)))
    return tuple(sections)


def _tmr(key: str, found: Sequence[TemplateScores]) -> list[Repeated]:
    genuine = np.array([int(one.genuine.sum()) for one in found])
    impostor = np.array([len(one) for one in found]) - genuine
    rows = []
    for fmr in sorted(FMRS):
        note = shortage(int(impostor.min()), fmr)
        values = None if note else np.array([one.tmr(fmr) for one in found])
        rows.append(Repeated("TMR", key, values, {"fmr": fmr}, genuine, impostor, note))
    return rows


def _ranks(key: str, found: Sequence[GallerySearch]) -> list[Repeated]:
    mated = np.array([len(one.mated_subjects) for one in found])
    others = np.array([len(one.other_subjects) for one in found])
    rows = [
        Repeated("rank rate", key, np.array([one.rank_rate(rank) for one in found]), {"rank": float(rank)}, mated)
        for rank in RANKS
    ]
    for fpir in FPIRS:
        note = search_shortage(int(others.min()), fpir)
        values = None if note else np.array([one.tpir(fpir) for one in found])
        rows.append(Repeated("TPIR", key, values, {"fpir": fpir}, mated, others, note))
    return rows
