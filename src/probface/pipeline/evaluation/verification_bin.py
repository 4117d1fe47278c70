"""Verification sets (``lfw.bin``, ``cfp_fp.bin`` ...): aligned faces in pairs, each fused with its mirror image."""

from __future__ import annotations

from dataclasses import replace

from probface.errors import DataError
from probface.eval.protocols.verification_bin import bin_comparisons
from probface.pipeline.evaluation.evaluation import Evaluation
from probface.pipeline.evaluation.finish import About
from probface.pipeline.evaluation.judged import candidates_of, embed_models
from probface.pipeline.evaluation.mirrored import with_mirror
from probface.pipeline.evaluation.pairs import judge_pairs
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.face_rows import ExportOptions
from probface.readers.verification_bin import read_verification_bin


def evaluate_verification_bin(request: EvaluationRequest) -> Evaluation:
    """Judge models on a verification set; its images are aligned faces already.

    Who is on them is not told, so nobody can be left out of a score that sigma^2 takes part in: a note says so.

    Raises:
        DataError: not a verification file, a pickle that asks for more than images and labels, or labels of one kind.
    """
    if not request.data.is_file():
        raise DataError(f"{request.data}: no such file; give a verification set, for example lfw.bin")
    found = read_verification_bin(request.data)
    comparisons = bin_comparisons(found)
    aligned = replace(request, aligned=True)
    judged = [with_mirror(one) for one in embed_models(aligned, found.items, ExportOptions(mirror=True))]
    about = About(
        "bin",
        f"Verification set {request.data.name}",
        f"{request.data.name}: {len(comparisons):,} pairs of aligned faces",
    )
    # A constant that the user gave is no head's.
    with_head = {one.name for one in judged if one.export is not None or request.sigma_sq is None}
    unknown = "the file does not tell who is on its images; people who trained the head cannot be left out"
    notes = [
        f"{one.system.label}: {unknown}."
        for one in candidates_of(judged, (), aligned)
        if one.system.metric != "cosine" and one.system.model in with_head
    ]
    return judge_pairs(aligned, judged, comparisons, about, notes=notes)
