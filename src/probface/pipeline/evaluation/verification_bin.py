"""Verification sets (``lfw.bin``, ``cfp_fp.bin`` ...): aligned faces in pairs, each fused with its mirror image."""

from __future__ import annotations

from dataclasses import replace

from probface.errors import DataError
from probface.eval.face_table import NORM, FaceTable
from probface.eval.protocols.verification_bin import bin_comparisons, fuse_mirror
from probface.pipeline.evaluation.evaluation import Evaluation
from probface.pipeline.evaluation.finish import About
from probface.pipeline.evaluation.judged import Judged, embed_models
from probface.pipeline.evaluation.pairs import judge_pairs
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.face_rows import ExportOptions
from probface.readers.verification_bin import read_verification_bin


def evaluate_verification_bin(request: EvaluationRequest) -> Evaluation:
    """Judge models on a verification set; its images are aligned faces already.

    Raises:
        DataError: not a verification file, a pickle that asks for more than images and labels, or labels of one kind.
    """
    if not request.data.is_file():
        raise DataError(f"{request.data}: no such file; give a verification set, for example lfw.bin")
    found = read_verification_bin(request.data)
    comparisons = bin_comparisons(found)
    aligned = replace(request, aligned=True)
    judged = [_with_mirror(one) for one in embed_models(aligned, found.items, ExportOptions(mirror=True))]
    about = About(
        "bin",
        f"Verification set {request.data.name}",
        f"{request.data.name}: {len(comparisons):,} pairs of aligned faces",
    )
    return judge_pairs(aligned, judged, comparisons, about)


def _with_mirror(one: Judged) -> Judged:
    """The faces fused with their mirror images; ready embeddings are taken as they are."""
    if one.export is None or one.export.mirror is None:
        return one
    mirror = one.export.mirror
    norms = (one.table.measures[NORM], mirror.measures[NORM]) if NORM in one.table.measures else None
    fused = fuse_mirror(one.table.embeddings, mirror.embeddings, norms=norms)
    return one.with_table(FaceTable(one.table.names, fused, one.table.measures))
