"""BLUFR on LFW: low false-match rates and open-set identification, over ten random subsets of the people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from probface.errors import DataError
from probface.eval.protocols.blufr import BlufrOptions, BlufrResult, judge_blufr, without_images
from probface.pipeline.evaluation.blufr_figures import affordable_options, blufr_sections
from probface.pipeline.evaluation.blufr_systems import BlufrSystem, blufr_systems
from probface.pipeline.evaluation.evaluation import Evaluation
from probface.pipeline.evaluation.finish import About, Counts, Findings, forced_notes, results_of
from probface.pipeline.evaluation.listed_images import named_items
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.progress import counted
from probface.readers.blufr import BlufrLists, read_blufr
from probface.readers.item import Item
from probface.readers.lfw import lfw_images

LISTS = "blufr_lfw_config.mat"


def evaluate_blufr(request: EvaluationRequest) -> Evaluation:
    """Judge models by BLUFR.

    Cosine judges any model. A score with ``sigma_sq`` must not be of a head that trained on a trial's test people: give
    a model for each trial, or another head. Without ``force`` a model that did is refused where its score was asked
    for, and left out with a note where it was not.

    Raises:
        DataError: the lists or images are not there or broken, people would be judged who trained, or an image that the
            lists name is not there (unless the request skips those).
        InsufficientData: too few comparisons in a trial for any of the rates.
    """
    lists = read_blufr(_find_lists(request.data), allow_overlap=request.force)
    items, notes = _items(request, lists)
    entry = blufr_systems(request, lists, items)
    lists, lost = _with_faces(lists, entry.systems)
    if lost:
        notes.append(f"{lost:,} of the listed images have no face or are not there; they are left out for all systems.")
    options = affordable_options(lists, request.judge.fmrs)
    results = [_judge(request, lists, one, options) for one in entry.systems]
    systems = tuple(one.system for one in entry.systems)
    findings = Findings(
        sections=blufr_sections(systems, results, lists, request.judge),
        systems=systems,
        notes=(*forced_notes(request, entry.judged), *entry.notes, *notes),
    )
    first = results[0]
    counts = Counts(len(np.unique(lists.labels)), int(first.genuine.sum()), int(first.impostors.sum()))
    about = About(
        "blufr", "BLUFR on Labeled Faces in the Wild", f"LFW, {LISTS}: {len(lists.trials)} trials, counts of all"
    )
    pictures = (one.picture for one in entry.judged if one.picture is not None)
    return Evaluation(results_of(request, findings, about, entry.judged, counts), next(pictures, None))


def _judge(request: EvaluationRequest, lists: BlufrLists, one: BlufrSystem, options: BlufrOptions) -> BlufrResult:
    tell = counted(request.progress, f"judging {one.system.label}", len(lists.trials))
    return judge_blufr(lists, one.faces, one.system.metric, options, progress=tell)


def _find_lists(data: Path) -> Path:
    found = next((path for path in (data / "blufr" / LISTS, data / LISTS) if path.is_file()), None)
    if found is None:
        raise DataError(f"{data}: no {LISTS} in it or in its folder blufr; get BLUFR's lists and put them there")
    return found


def _items(request: EvaluationRequest, lists: BlufrLists) -> tuple[list[Item], list[str]]:
    """The images in the order of the lists."""
    if not request.models and request.trial_models is None:
        return named_items(lists.names), []
    there = {item.name: item for item in lfw_images(request.data)}
    missing = [name for name in lists.names if name not in there]
    if missing and request.missing == "error":
        raise DataError(
            f"{request.data}: image {missing[0]!r} of {LISTS} is not there ({len(missing)} such images); get a "
            "complete copy, or leave them out with --missing skip"
        )
    return [there[name] for name in lists.names if name in there], []


def _with_faces(lists: BlufrLists, systems: Sequence[BlufrSystem]) -> tuple[BlufrLists, int]:
    """The lists without the images that a system has no face of, and how many those are."""
    lost = {name for one in systems for table in one.tables for name in table.missing(lists.names)}
    if not lost:
        return lists, 0
    gone = np.array([name in lost for name in lists.names])
    trials = tuple(without_images(trial, gone, lists.labels) for trial in lists.trials)
    for number, trial in enumerate(trials, 1):
        if not (len(trial.gallery) and len(trial.probes)):
            raise DataError(f"trial {number}: no gallery image or no probe has a face; check the images and --aligned")
    return replace(lists, trials=trials), len(lost)
