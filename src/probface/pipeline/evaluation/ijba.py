"""IJB-A: both tasks, split by split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.eval.candidate import Candidate
from probface.eval.face_table import FaceTable
from probface.eval.protocols.ijba import search_ijba, verify_ijba
from probface.eval.protocols.templates import TemplateFusion
from probface.pipeline.evaluation.evaluation import Evaluation
from probface.pipeline.evaluation.finish import About, Counts, Findings, results_of
from probface.pipeline.evaluation.ijba_figures import search_sections, verification_sections
from probface.pipeline.evaluation.judged import Judged, candidates_of, embed_models
from probface.pipeline.evaluation.listed_images import named_items
from probface.pipeline.evaluation.mirrored import told_of_mirror, with_mirror
from probface.pipeline.evaluation.repeats import Repeats
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.evaluation.template_weights import check_weights
from probface.pipeline.face_rows import ExportOptions
from probface.pipeline.given_faces import GivenBox
from probface.readers.ijba import (
    IjbaFaces,
    IjbaSearch,
    IjbaVerification,
    Overlap,
    Task,
    ijba_splits,
    read_ijba_search,
    read_ijba_verification,
)
from probface.readers.item import Item
from probface.types import Metric

Split = TypeVar("Split")
Found = TypeVar("Found")

IMAGES = "images"
"""Folder of the photos, in that of the lists."""


@dataclass(frozen=True, slots=True)
class _Tasks:
    """The splits that are there."""

    verification: tuple[IjbaVerification, ...]
    search: tuple[IjbaSearch, ...]

    def lists(self) -> Iterator[IjbaFaces]:
        for one in self.verification:
            yield one.faces
        for other in self.search:
            yield from (other.gallery, other.probes)


def evaluate_ijba(request: EvaluationRequest) -> Evaluation:
    """Judge models on IJB-A: TMR of the 1:1 task, rank rates and TPIR of the 1:N task, over the splits that are there.

    Faces are looked for in the boxes of the lists, in the photos of the folder ``images``, and the raw embeddings of
    face and mirror image are summed (the flip test). Ready embeddings need no photos, are taken as they are, and are
    named by file and sighting, as ``img/533.JPG:22238``.

    Raises:
        DataError: the lists or photos are not there or broken, or people are in the training list of a split and in its
            test lists (unless forced).
        InvalidValue: images are to be weighed by a norm or detector score that there is none of.
    """
    tasks, notes = _read(request)
    judged = [with_mirror(one) for one in _embed(request, tasks)]
    for one in judged:
        check_weights(one.name, one.table, request.fusion)
    lost = {name for one in judged for listed in tasks.lists() for name in one.table.missing(listed.names)}
    if lost:
        tasks, note = _with_faces(tasks, lost)
        notes.append(note)
    # Subjects are numbers: no head knows them.
    candidates = candidates_of(judged, (), request)
    verified = _on_every_split(request, candidates, tasks.verification, verify_ijba, "comparing templates")
    searched = _on_every_split(request, candidates, tasks.search, search_ijba, "searching the galleries")
    systems = tuple(one.system for one in candidates)
    findings = Findings(
        sections=(
            *verification_sections(
                systems, verified, _repeats(request, [(one.split, one.faces.subjects) for one in tasks.verification])
            ),
            *search_sections(
                systems,
                searched,
                _repeats(
                    request,
                    [(one.split, np.union1d(one.gallery.subjects, one.probes.subjects)) for one in tasks.search],
                ),
            ),
        ),
        systems=systems,
        notes=tuple(notes),
    )
    fusion = f"templates fused by {request.fusion.method}{told_of_mirror(judged)}"
    about = About("ijba", "IJB-A", f"IJB-A: {_told(tasks)}, {fusion}")
    picture = next((one.picture for one in judged if one.picture is not None), None)
    return Evaluation(results_of(request, findings, about, judged, _counts(tasks)), picture)


def _read(request: EvaluationRequest) -> tuple[_Tasks, list[str]]:
    overlap: Overlap = "keep" if request.force else "error"
    notes = ["Forced: people in the training lists are judged, too."] if request.force else []
    found: dict[Task, tuple[int, ...]] = {}
    for task in ("11", "1N"):
        try:
            found[task] = ijba_splits(request.data, task)
        except DataError as error:
            notes.append(f"Task {task[0]}:{task[1]} is left out: {error}")
    if not found:
        raise DataError(
            f"{request.data}: neither IJB-A_11_sets nor IJB-A_1N_sets with their lists; give the folder that "
            "NIST's lists are in"
        )
    return (
        _Tasks(
            tuple(read_ijba_verification(request.data, split, overlap=overlap) for split in found.get("11", ())),
            tuple(read_ijba_search(request.data, split, overlap=overlap) for split in found.get("1N", ())),
        ),
        notes,
    )


def _embed(request: EvaluationRequest, tasks: _Tasks) -> list[Judged]:
    files: dict[str, str] = {}
    given: dict[str, GivenBox] = {}
    for listed in tasks.lists():
        for name, file, box in zip(listed.names, listed.files, listed.boxes, strict=True):
            files[name] = file
            if np.isfinite(box).all() and box[2] > 0 and box[3] > 0:
                given[name] = GivenBox(*map(float, box))
    if not request.models:
        return embed_models(request, named_items(files))
    return embed_models(request, _items(request, files), ExportOptions(mirror=True), given=given)


def _items(request: EvaluationRequest, files: dict[str, str]) -> list[Item]:
    folder = request.data / IMAGES
    places: dict[str, Path] = {name: folder / file for name, file in files.items()}
    missing = [name for name, path in places.items() if not path.is_file()]
    if len(missing) == len(places) or (missing and request.missing == "error"):
        raise DataError(
            f"{folder}: no {files[missing[0]]} ({len(missing)} of {len(places)} faces without a photo); put NIST's "
            "photos there, or give ready embeddings with --embeddings"
        )
    gone = frozenset(missing)
    return [Item(name, path) for name, path in places.items() if name not in gone]


def _with_faces(tasks: _Tasks, lost: set[str]) -> tuple[_Tasks, str]:
    """The tasks without faces that were not found, and without templates that have none left; and what to say.

    People whose gallery template is lost leave the identification, with all their probes.
    """
    verification, search, gone = [], [], 0
    for one in tasks.verification:
        faces = _left(one.faces, lost)
        there = np.isin(one.first, faces.templates) & np.isin(one.second, faces.templates)
        gone += int((~there).sum())
        verification.append(
            replace(one, faces=faces, first=one.first[there], second=one.second[there], genuine=one.genuine[there])
        )
    for other in tasks.search:
        gallery = _left(other.gallery, lost)
        # Not enrolled for want of a face alone: such people must not pass for strangers.
        unjust = np.setdiff1d(other.gallery.subjects, gallery.subjects)
        probes = _left(other.probes, lost, unjust)
        gone += len(np.unique(other.probes.templates)) - len(np.unique(probes.templates))
        search.append(replace(other, gallery=gallery, probes=probes))
    note = (
        f"{len(lost):,} faces were not found; {gone:,} comparisons and searches of templates without any are left out."
    )
    return _Tasks(tuple(verification), tuple(search)), note


def _left(listed: IjbaFaces, lost: set[str], without: NDArray[np.int64] | None = None) -> IjbaFaces:
    """The faces that were found, but for those of some subjects."""
    keep = np.array([name not in lost for name in listed.names])
    if without is not None:
        keep &= ~np.isin(listed.subjects, without)
    if not keep.any():
        raise DataError(f"none of {len(listed)} faces of a list was found; check the photos and the boxes")
    rows: NDArray[np.int64] = np.flatnonzero(keep)
    return IjbaFaces(
        tuple(listed.names[row] for row in rows),
        tuple(listed.files[row] for row in rows),
        listed.templates[keep],
        listed.subjects[keep],
        listed.media[keep],
        listed.boxes[keep],
    )


def _on_every_split(
    request: EvaluationRequest,
    candidates: Sequence[Candidate],
    splits: Sequence[Split],
    judge: Callable[[FaceTable, Split, Metric, TemplateFusion], Found],
    label: str,
) -> list[list[Found]]:
    """What each candidate did on each split."""
    found: list[list[Found]] = []
    for one in candidates:
        found.append([judge(one.faces, split, one.system.metric, request.fusion) for split in splits])
        request.progress(label, len(found), len(candidates))
    return found


def _repeats(request: EvaluationRequest, splits: Sequence[tuple[int, NDArray[np.int64]]]) -> Repeats:
    """The splits, with the people who are judged in each; everybody is who is judged in any."""
    numbers, confidence = tuple(number for number, _ in splits), request.judge.confidence
    if not numbers:
        return Repeats("split", (), confidence)
    people = [np.unique(subjects) for _, subjects in splits]
    kept = float(np.mean([len(each) for each in people]))
    return Repeats("split", numbers, confidence, kept, len(np.unique(np.concatenate(people))) - kept)


def _told(tasks: _Tasks) -> str:
    parts = []
    if tasks.verification:
        parts.append(f"1:1 in {len(tasks.verification)} splits")
    if tasks.search:
        parts.append(f"1:N in {len(tasks.search)} splits")
    return ", ".join(parts)


def _counts(tasks: _Tasks) -> Counts:
    people = {int(subject) for listed in tasks.lists() for subject in np.unique(listed.subjects)}
    genuine = sum(int(one.genuine.sum()) for one in tasks.verification)
    return Counts(len(people), genuine, sum(map(len, tasks.verification)) - genuine)
