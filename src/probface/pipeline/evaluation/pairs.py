"""Any protocol that is a list of pairs: LFW, verification sets, clean against degraded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from probface.errors import DataError
from probface.eval.comparisons import Comparisons
from probface.eval.results import Section
from probface.eval.verification.judge import judge
from probface.eval.verification.operating_points import affordable
from probface.eval.verification.options import JudgeOptions
from probface.pipeline.evaluation.evaluation import Evaluation
from probface.pipeline.evaluation.finish import About, Counts, Findings, forced_notes, results_of
from probface.pipeline.evaluation.judged import Judged, candidates_of
from probface.pipeline.evaluation.request import EvaluationRequest


def judge_pairs(
    request: EvaluationRequest,
    judged: Sequence[Judged],
    comparisons: Comparisons,
    about: About,
    *,
    extra: Sequence[Section] = (),
    notes: Sequence[str] = (),
) -> Evaluation:
    """Judge every model and score on a list of pairs.

    Args:
        request: what was asked.
        judged: the models, with faces of the images of the pairs; those without a face are left out.
        comparisons: the pairs.
        about: the protocol and its data.
        extra: sections of the protocol's own, which go first.
        notes: what the protocol has to say.
    """
    usable, lost = _with_faces(comparisons, judged)
    candidates = candidates_of(judged, usable.subjects, request)
    _check_groups(request.judge.groups, usable.subjects)
    options = replace(request.judge, fmrs=_worth_asking(request.judge.fmrs, usable))
    found = judge(candidates, usable, options, progress=request.progress)
    missing = (
        [f"{lost:,} of {len(comparisons):,} pairs are left out: there is no face of an image of theirs."]
        if lost
        else []
    )
    findings = Findings(
        sections=(*extra, *found.sections),
        systems=found.systems,
        thresholds=found.thresholds,
        ladder=found.ladder,
        errors=found.errors,
        notes=(*forced_notes(request, judged), *notes, *missing, *found.notes),
    )
    genuine = int(np.count_nonzero(usable.genuine))
    counts = Counts(len(set(usable.subjects)), genuine, len(usable) - genuine)
    results = results_of(request, findings, about, judged, counts)
    return Evaluation(results, next((one.picture for one in judged if one.picture is not None), None))


def _check_groups(groups: Mapping[str, str] | None, subjects: Sequence[str]) -> None:
    if groups is not None and not groups.keys() & set(subjects):
        raise DataError(
            f"groups: none of the {len(set(subjects)):,} subjects, such as {min(subjects)!r}, is among the "
            f"{len(groups):,} of the table, such as {min(groups, default='')!r}; name subjects as the protocol does"
        )


def _worth_asking(fmrs: tuple[float, ...], comparisons: Comparisons) -> tuple[float, ...]:
    """The rates asked for; of the default ones those down to the first that there are too few impostors for."""
    impostors = len(comparisons) - int(np.count_nonzero(comparisons.genuine))
    if fmrs != JudgeOptions().fmrs:
        return fmrs
    enough = affordable(impostors, fmrs)
    return fmrs[: len(enough) + 1]


def _with_faces(comparisons: Comparisons, judged: Sequence[Judged]) -> tuple[Comparisons, int]:
    """The pairs of images that every model has a face of, on these images alone; and how many others there are."""
    missing = {name for one in judged for name in one.table.missing(comparisons.names)}
    if not missing:
        return comparisons, 0
    keep = ~comparisons.with_images(tuple(missing))
    if not keep.any():
        raise DataError(f"no pair is left: {len(missing)} images have no face; check the images and --aligned")
    chosen = comparisons.select(keep)
    return chosen.without_unused_images(), int(np.count_nonzero(~keep))
