"""Clean against degraded: every image of the user's people against every other, each clean and degraded once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from probface.errors import DataError
from probface.eval.face_table import FaceTable
from probface.eval.protocols.cross_quality import Mixture, clean_and_degraded, cross_quality, degraded_name
from probface.models.registry import resolve_model
from probface.pipeline.evaluation.evaluation import Evaluation
from probface.pipeline.evaluation.finish import About
from probface.pipeline.evaluation.judged import Judged, embed_models
from probface.pipeline.evaluation.pairs import judge_pairs
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.face_rows import ExportOptions
from probface.readers.item import Item
from probface.readers.lfw import lfw_images
from probface.readers.open import open_items
from probface.types import Image

IMAGES_PER_PERSON = 4
"""At most: many images of one person would make most of the genuine pairs."""


def evaluate_cross_quality(request: EvaluationRequest) -> Evaluation:
    """Judge models on all cross pairs of some people's images.

    Images of people who trained the head of a judged model are left out before anything is chosen.

    Raises:
        DataError: no images, or nobody has two.
        InvalidValue: an unknown degradation, or ready embeddings without their degraded copies.
    """
    if request.embeddings:
        raise DataError(
            f"{request.embeddings[0]}: the degraded copies must be embedded, too; judge ready embeddings by another "
            "protocol, or name the model"
        )
    items, notes = _chosen(request)
    clean = embed_models(request, items)
    options = ExportOptions(degrade=request.degrade, seed=request.judge.seed)
    degraded = embed_models(request, items, options, request.degrade, shared=clean)
    judged = [_both(one, other, request.degrade) for one, other in zip(clean, degraded, strict=True)]
    names = [name for name in clean[0].table.names if not any(one.table.missing([name]) for one in (*clean, *degraded))]
    subject = {item.name: item.label or "" for item in items}
    comparisons = cross_quality(names, [subject[name] for name in names], request.degrade)
    about = About(
        "risk",
        f"Clean and {request.degrade}ly degraded faces",
        f"{request.data.name}: {len(names):,} images of {len(set(subject.values())):,} people, each clean and degraded",
    )
    return judge_pairs(request, judged, comparisons, about, notes=notes)


def _chosen(request: EvaluationRequest) -> tuple[list[Item], list[str]]:
    """The images to judge by: of people who trained no head, a few of each, and no more than asked for."""
    by_person: dict[str, list[Item]] = {}
    for item in _items(request.data):
        if item.label is None:
            raise DataError(
                f"{request.data}: image {item.name} tells no person; give one folder a person, or a list with labels"
            )
        by_person.setdefault(item.label, []).append(item)
    notes = []
    trained = set() if request.force else _trained(request, by_person)
    if trained:
        images = sum(len(by_person.pop(person)) for person in trained)
        notes.append(f"{len(trained):,} people ({images:,} images) who trained an uncertainty head are left out.")
    people = np.random.default_rng(request.judge.seed).permutation(sorted(by_person)).tolist()
    chosen = [item for person in people for item in by_person[person][:IMAGES_PER_PERSON]][: request.max_images]
    there = sum(map(len, by_person.values()))
    if len(chosen) < there:
        notes.append(
            f"{len(chosen):,} of {there:,} images are judged: {IMAGES_PER_PERSON} of a person at most, people drawn by "
            "chance (--max-images)."
        )
    return sorted(chosen, key=lambda item: item.name), notes


def _trained(request: EvaluationRequest, people: Iterable[str]) -> set[str]:
    contracts = [resolve_model(model).contract for model in request.models]
    return {person for person in people if any(contract.trained_on_person(person) for contract in contracts)}


def _both(clean: Judged, degraded: Judged, mixture: Mixture) -> Judged:
    """A model's faces and their degraded copies in one table, with the pictures of both."""
    present = [name for name in clean.table.names if not degraded.table.missing([name])]
    rows = clean.table.rows(present)
    measures = {name: values[rows] for name, values in clean.table.measures.items()}
    table = clean_and_degraded(
        FaceTable(tuple(present), clean.table.embeddings[rows], measures), degraded.table, mixture
    )
    end = degraded_name("", mixture)

    def picture(name: str) -> Image | None:
        source = degraded if name.endswith(end) else clean
        return None if source.picture is None else source.picture(name.removesuffix(end))

    return replace(clean, table=table, picture=None if clean.picture is None else picture)


def _items(data: Path) -> list[Item]:
    is_lfw = data.is_dir() and (data / "people.txt").is_file()
    return list(lfw_images(data) if is_lfw else open_items(data))
