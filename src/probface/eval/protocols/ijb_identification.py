"""IJB 1:N: probes searched in two galleries, of which each has about half of their subjects.

A probe whose subject is in the gallery is a mated search; the others are non-mated searches and set the threshold of
open-set identification. TPIR = 1 - FNIR(N, 1, T) of ISO/IEC 19795-1: the mate is first and above T.

Of insightface's two scripts this follows ``ijb_evals.py``: each gallery is searched by itself, at a threshold of its
own (one non-mated search stricter than the one at FPIR here), and TPIR is the mean of the two. ``ijb_1n.py`` merges the
galleries: every probe has a mate then, among twice as many subjects, and its threshold is that of impostor scores. Its
numbers are not comparable with these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.eval.metrics.identification import Searches, cmc, fnir_at_fpir
from probface.eval.protocols.templates import Templates
from probface.match.matrix import score_blocks
from probface.readers.ijb import IjbSearch
from probface.types import Embeddings, Metric

RANKS = (1, 5, 10)
FPIRS = (1e-2, 1e-1)


@dataclass(frozen=True, slots=True, eq=False)
class GallerySearch:
    """Probes searched in one gallery.

    Attributes:
        gallery: its name.
        searches: what was found.
        mated_subjects: (P,) int64, of the mated probes, in the order of ``searches``.
        other_subjects: (Q,) int64, of the non-mated ones.
    """

    gallery: str
    searches: Searches
    mated_subjects: NDArray[np.int64]
    other_subjects: NDArray[np.int64]

    def rank_rate(self, rank: int) -> float:
        """Share of the mated probes whose mate is among the ``rank`` best.

        Raises:
            InvalidValue: no mated probe, or a rank below 1.
        """
        return float(cmc(self.searches, np.array([rank]))[0])

    def tpir(self, fpir: float, *, allow_few: bool = False) -> float:
        """Share of the mated probes whose mate is first and above the threshold at a false-positive rate.

        Raises:
            InsufficientData: fewer than 10 / FPIR non-mated probes, unless few are allowed.
            InvalidValue: a kind of probe is missing, or a rate outside (0, 1).
        """
        return 1 - fnir_at_fpir(self.searches, fpir, rank=1, allow_few=allow_few)


@dataclass(frozen=True, slots=True)
class IjbIdentification:
    """The searches in both galleries."""

    galleries: tuple[GallerySearch, GallerySearch]

    def rank_rate(self, rank: int) -> float:
        """The field's mean: over the mated searches of both galleries together; raises as a gallery's does."""
        mated = [len(found.mated_subjects) for found in self.galleries]
        return float(np.average([found.rank_rate(rank) for found in self.galleries], weights=mated))

    def tpir(self, fpir: float, *, allow_few: bool = False) -> float:
        """The field's mean: of the two galleries' rates, each at its own threshold; raises as a gallery's does."""
        return float(np.mean([found.tpir(fpir, allow_few=allow_few) for found in self.galleries]))


def search_ijb(templates: Templates, search: IjbSearch, metric: Metric) -> IjbIdentification:
    """Search the probes in both galleries.

    Raises:
        DataError: a template of the lists is not there.
        InvalidValue: an unknown metric, or FastMLS of D variances.
    """
    probes = templates.embeddings[templates.rows(search.probes.templates)]
    one, other = (
        search_gallery(
            gallery.name,
            templates.embeddings[templates.rows(gallery.templates)],
            gallery.subjects,
            probes,
            search.probes.subjects,
            metric,
        )
        for gallery in search.galleries
    )
    return IjbIdentification((one, other))


def search_gallery(
    name: str,
    gallery: Embeddings,
    gallery_subjects: NDArray[np.int64],
    probes: Embeddings,
    probe_subjects: NDArray[np.int64],
    metric: Metric,
) -> GallerySearch:
    """Search probes among enrolled templates; the scores are made in blocks of probes.

    Args:
        name: of the gallery.
        gallery: N rows.
        gallery_subjects: (N,); a subject that is there twice has the score of the better template.
        probes: P + Q rows.
        probe_subjects: (P + Q,).
        metric: the score.

    Raises:
        InvalidValue: shapes differ, no template on either side, an unknown metric, or FastMLS of D variances.
    """
    blocks = (scores for _, scores in score_blocks(probes, gallery, metric))
    searches = Searches.of(blocks, gallery_subjects, probe_subjects)
    mated = np.isin(probe_subjects, gallery_subjects)
    return GallerySearch(name, searches, probe_subjects[mated], probe_subjects[~mated])
