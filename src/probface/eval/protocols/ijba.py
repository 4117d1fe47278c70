"""IJB-A: both tasks split by split, and the mean and standard deviation over the splits.

Templates are fused as in IJB-B and IJB-C. A split has 9,979 to 10,000 impostor pairs and 526 to 605 non-mated probes:
by the rule of 10 / rate too few for FMR 1e-3 in six splits, and for FPIR 1e-2 in all. Published figures give them even
so (``allow_few``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probface.errors import InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.protocols.ijb_identification import GallerySearch, search_gallery
from probface.eval.protocols.ijb_verification import TemplateScores, score_templates
from probface.eval.protocols.templates import FIELD, TemplateFusion, Templates, fuse_templates
from probface.readers.ijba import IjbaFaces, IjbaSearch, IjbaVerification
from probface.types import Metric

FMRS = (1e-3, 1e-2, 1e-1)


@dataclass(frozen=True, slots=True)
class OverSplits:
    """A figure of each split, their mean and their (sample) standard deviation."""

    mean: float
    standard_deviation: float
    per_split: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> OverSplits:
        """Two splits or more; raises InvalidValue."""
        if len(values) < 2 or not np.isfinite(values).all():
            raise InvalidValue(f"figures {list(values)}: need finite ones of two splits or more")
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)), tuple(map(float, values)))


def verify_ijba(
    faces: FaceTable, task: IjbaVerification, metric: Metric, fusion: TemplateFusion = FIELD
) -> TemplateScores:
    """Score the comparisons of a split.

    Raises:
        DataError: a face is not in the table, or the vectors of a template cancel out.
        InvalidValue: an unknown metric, FastMLS of D variances, or nothing to weigh by.
    """
    templates = _fuse(faces, task.faces, fusion)
    subjects, who = np.unique(task.faces.template_subjects()[1], return_inverse=True)
    return score_templates(
        templates, task.first, task.second, task.genuine, who.astype(np.int32), len(subjects), metric
    )


def search_ijba(faces: FaceTable, task: IjbaSearch, metric: Metric, fusion: TemplateFusion = FIELD) -> GallerySearch:
    """Search the probes of a split in its gallery; raises as :func:`verify_ijba`."""
    gallery, probes = _fuse(faces, task.gallery, fusion), _fuse(faces, task.probes, fusion)
    return search_gallery(
        f"split {task.split}",
        gallery.embeddings,
        task.gallery.template_subjects()[1],
        probes.embeddings,
        task.probes.template_subjects()[1],
        metric,
    )


def tmr_over_splits(splits: Sequence[TemplateScores], fmr: float, *, allow_few: bool = False) -> OverSplits:
    """TMR at a false-match rate, each split at its own threshold.

    Raises:
        InsufficientData: a split has fewer than 10 / FMR impostor pairs, unless few are allowed.
        InvalidValue: fewer than two splits, or a rate outside (0, 1).
    """
    return OverSplits.of([split.tmr(fmr, allow_few=allow_few) for split in splits])


def rank_rate_over_splits(splits: Sequence[GallerySearch], rank: int) -> OverSplits:
    """Share of the mated probes whose mate is among the ``rank`` best."""
    return OverSplits.of([split.rank_rate(rank) for split in splits])


def tpir_over_splits(splits: Sequence[GallerySearch], fpir: float, *, allow_few: bool = False) -> OverSplits:
    """TPIR at a false-positive identification rate, each split at its own threshold.

    Raises:
        InsufficientData: a split has fewer than 10 / FPIR non-mated searches, unless few are allowed.
        InvalidValue: fewer than two splits, or a rate outside (0, 1).
    """
    return OverSplits.of([split.tpir(fpir, allow_few=allow_few) for split in splits])


def _fuse(faces: FaceTable, listed: IjbaFaces, fusion: TemplateFusion) -> Templates:
    return fuse_templates(faces, listed.names, listed.templates, listed.media, fusion)
