"""IJB-B and IJB-C: templates of many images, compared one to one and searched in two galleries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.eval.comparisons import Comparisons
from probface.eval.face_table import FaceTable
from probface.eval.protocols.ijb_identification import search_ijb
from probface.eval.protocols.ijb_verification import template_subjects
from probface.eval.protocols.templates import Templates, fuse_templates
from probface.eval.results import Section
from probface.pipeline.evaluation.evaluation import Evaluation
from probface.pipeline.evaluation.finish import About
from probface.pipeline.evaluation.identification import Searched, identification_section
from probface.pipeline.evaluation.judged import Judged, candidates_of, embed_models
from probface.pipeline.evaluation.listed_images import named_items
from probface.pipeline.evaluation.mirrored import told_of_mirror, with_mirror
from probface.pipeline.evaluation.pairs import judge_pairs
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.evaluation.template_weights import check_weights
from probface.pipeline.face_rows import ExportOptions
from probface.pipeline.given_faces import GivenLandmarks
from probface.readers.ijb import (
    IjbFaces,
    IjbFiles,
    IjbSearch,
    IjbSubjects,
    find_ijb,
    ijb_items,
    read_ijb_faces,
    read_ijb_search,
)
from probface.readers.ijb_pairs import IjbPairs, read_ijb_pairs
from probface.readers.item import Item
from probface.types import Image

IMAGES = "images of the template"
"""Name of the quality measure that a template has beside its variance: more images, a better template."""


@dataclass(frozen=True, slots=True, eq=False)
class _Lists:
    """What the data set lists, and what had to be left out of it."""

    faces: IjbFaces
    pairs: IjbPairs
    search: IjbSearch
    notes: tuple[str, ...] = ()


def evaluate_ijb(request: EvaluationRequest) -> Evaluation:
    """Judge models on IJB-B or IJB-C.

    Faces are aligned by the landmarks of the lists, and the raw embeddings of image and mirror image summed (the flip
    test), as the field does it. Ready embeddings need no images, and are taken as they are: whether they are such sums
    is for who made them to say.

    Raises:
        DataError: the lists or images are not there or broken, or a template has no image.
        InvalidValue: images are to be weighed by a norm or detector score that there is none of.
    """
    files = find_ijb(request.data)
    faces = read_ijb_faces(files)
    lists = _Lists(faces, read_ijb_pairs(files.pairs, faces.templates), read_ijb_search(files, faces))
    judged = [with_mirror(one) for one in _embed(request, files, faces)]
    lists = _with_faces(lists, {name for one in judged for name in one.table.missing(lists.faces.names)})
    fused = [_fuse(request, one, lists.faces) for one in judged]
    templates = [_as_faces(one, its, lists.faces) for one, its in zip(judged, fused, strict=True)]
    about = About(
        "ijb",
        f"IJB-{files.name[-1].upper()}",
        f"{files.name.upper()}: {len(set(lists.faces.names)):,} images in {len(fused[0]):,} templates, fused by "
        f"{request.fusion.method}{told_of_mirror(judged)}",
    )
    evaluation = judge_pairs(
        request,
        templates,
        _comparisons(fused[0], lists.pairs),
        about,
        extra=[_search(request, templates, fused, lists.search)],
        notes=lists.notes,
    )
    provenance = replace(evaluation.results.provenance, images=len(judged[0].table))
    return replace(evaluation, results=replace(evaluation.results, provenance=provenance))


def _embed(request: EvaluationRequest, files: IjbFiles, faces: IjbFaces) -> list[Judged]:
    if not request.models:
        return embed_models(request, named_items(dict.fromkeys(faces.names)))
    given = {
        name: GivenLandmarks(tuple(map(tuple, points.tolist())), float(score))
        for name, points, score in zip(faces.names, faces.landmarks, faces.detector_scores, strict=True)
    }
    return embed_models(request, _items(request, files, faces), ExportOptions(mirror=True), given=given)


def _fuse(request: EvaluationRequest, one: Judged, listed: IjbFaces) -> Templates:
    """A model's templates, weighed by the detector scores of the lists."""
    check_weights(one.name, one.table, replace(request.fusion, detector_score=False))
    return fuse_templates(
        one.table,
        listed.names,
        listed.templates,
        listed.media,
        request.fusion,
        detector_scores=listed.detector_scores,
    )


def _items(request: EvaluationRequest, files: IjbFiles, faces: IjbFaces) -> Sequence[Item]:
    if request.missing == "error":
        return ijb_items(files, faces)
    found = [Item(name, files.images / name) for name in dict.fromkeys(faces.names) if (files.images / name).is_file()]
    if not found:
        raise DataError(f"{files.images}: none of the listed images; IJB needs its folder of crops there")
    return found


def _with_faces(lists: _Lists, lost: set[str]) -> _Lists:
    """The lists without images that have no face, and without templates that have no image left.

    People whose gallery template is lost leave the identification, with all their probes.
    """
    if not lost:
        return lists
    keep = np.array([name not in lost for name in lists.faces.names])
    faces = IjbFaces(
        tuple(name for name, stays in zip(lists.faces.names, keep, strict=True) if stays),
        lists.faces.templates[keep],
        lists.faces.media[keep],
        lists.faces.landmarks[keep],
        lists.faces.detector_scores[keep],
    )
    left = np.unique(faces.templates)
    there = np.isin(lists.pairs.first, left) & np.isin(lists.pairs.second, left)
    pairs = IjbPairs(lists.pairs.first[there], lists.pairs.second[there], lists.pairs.genuine[there])
    first, second = (_subjects_left(one, left) for one in lists.search.galleries)
    enrolled = np.concatenate([one.subjects for one in lists.search.galleries])
    # Not enrolled for want of an image alone: such people must not pass for strangers.
    unjust = np.setdiff1d(enrolled, np.concatenate([first.subjects, second.subjects]))
    probes = _subjects_left(lists.search.probes, left, unjust)
    gone = len(np.unique(lists.faces.templates)) - len(left)
    note = (
        f"{len(lost):,} images have no face or are not there; {gone:,} templates have no image left, and "
        f"{len(lists.pairs) - len(pairs):,} comparisons are left out with them."
    )
    return _Lists(faces, pairs, IjbSearch((first, second), probes), (note,))


def _subjects_left(one: IjbSubjects, left: NDArray[np.int64], without: NDArray[np.int64] | None = None) -> IjbSubjects:
    """The templates that are left, but for those of some subjects."""
    there = np.isin(one.templates, left)
    if without is not None:
        there &= ~np.isin(one.subjects, without)
    if not there.any():
        raise DataError(f"list {one.name}: none of its {len(one)} templates has an image left; check the images")
    return IjbSubjects(one.name, one.templates[there], one.subjects[there])


def _as_faces(one: Judged, templates: Templates, listed: IjbFaces) -> Judged:
    """The templates as faces, named by their numbers; the picture of one is that of its first image."""
    names = tuple(map(str, templates.ids.tolist()))
    measures = {IMAGES: templates.images.astype(np.float64)} if np.ptp(templates.images) else {}
    ids, rows = np.unique(listed.templates, return_index=True)
    first = {str(template): listed.names[row] for template, row in zip(ids.tolist(), rows.tolist(), strict=True)}
    return replace(
        one.with_table(FaceTable(names, templates.embeddings, measures)), picture=_picture(one.picture, first)
    )


def _picture(
    shown: Callable[[str], Image | None] | None, first: dict[str, str]
) -> Callable[[str], Image | None] | None:
    if shown is None:
        return None
    return lambda template: shown(first[template])


def _comparisons(templates: Templates, pairs: IjbPairs) -> Comparisons:
    who, _ = template_subjects(templates, pairs)
    return Comparisons(
        names=tuple(map(str, templates.ids.tolist())),
        # Not the numbers alone: a head may have trained on people who are called so.
        subjects=tuple(f"subject {number}" for number in who.tolist()),
        first=templates.rows(pairs.first),
        second=templates.rows(pairs.second),
        genuine=pairs.genuine,
    ).without_unused_images()


def _search(
    request: EvaluationRequest, judged: Sequence[Judged], fused: Sequence[Templates], search: IjbSearch
) -> Section:
    of_model = {one.name: templates for one, templates in zip(judged, fused, strict=True)}
    searched = []
    candidates = candidates_of(judged, (), request)
    for number, candidate in enumerate(candidates, 1):
        found = search_ijb(of_model[candidate.system.model], search, candidate.system.metric)
        searched.append(Searched(candidate.system, found.galleries))
        request.progress("searching the galleries", number, len(candidates))
    return identification_section(searched, request.judge)
