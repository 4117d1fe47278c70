"""The systems that BLUFR judges: models, ready embeddings, and heads that are trained anew for each trial."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from probface.contract import ModelContract
from probface.errors import DataError, InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.protocols.blufr import FacesOfTrial
from probface.eval.protocols.people_lists import refuse_overlap
from probface.eval.results import System
from probface.models.registry import resolve_model
from probface.pipeline.evaluation.judged import FACES, Judged, candidates_of, embed_models
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.exported_faces import ExportedFaces
from probface.pipeline.face_export import export_faces
from probface.pipeline.face_rows import ExportOptions
from probface.pipeline.progress import counted
from probface.readers.blufr import BlufrLists
from probface.readers.item import Item

PLACE = "{}"
"""What stands for the number of the trial."""


@dataclass(frozen=True, slots=True, eq=False)
class BlufrSystem:
    """One of the systems.

    Attributes:
        system: how results name it.
        tables: its faces, one table for all trials or one for each.
    """

    system: System
    tables: tuple[FaceTable, ...]

    @property
    def faces(self) -> FaceTable | FacesOfTrial:
        """As :func:`probface.eval.protocols.blufr.judge_blufr` takes them."""
        return self.tables[0] if len(self.tables) == 1 else self.tables.__getitem__


@dataclass(frozen=True, slots=True, eq=False)
class BlufrEntry:
    """All that is judged.

    Attributes:
        judged: the models, those of the trials as one.
        systems: the models with their scores, the first the one that others are compared with.
        notes: who was left out, and why.
    """

    judged: tuple[Judged, ...]
    systems: tuple[BlufrSystem, ...]
    notes: tuple[str, ...]


def blufr_systems(request: EvaluationRequest, lists: BlufrLists, items: Sequence[Item]) -> BlufrEntry:
    """Embed the images with every model, and see to it that no score is of a head that knows the people.

    Raises:
        DataError: a head trained on people whom it would judge, and its score was asked for.
        InvalidValue: ``trial_models`` without its place for the number.
    """
    tested = [frozenset(lists.person(row) for row in trial.test.tolist()) for trial in lists.trials]
    models = _trial_models(request, len(tested))
    _check_people(request, models, tested)
    judged = embed_models(request, items) if request.models or request.embeddings else []
    systems, notes = [], []
    for candidate, one in _candidates(request, judged):
        refusal = "" if candidate.metric == "cosine" else _refusal(one.contract, tested, request.force)
        if refusal and request.metrics and not models and one.export is None:  # models were refused before
            raise DataError(f"{one.name}: {refusal}; or judge these embeddings by cosine")
        if refusal:
            notes.append(
                f"{candidate.label} is not judged: people of the trials trained its head. Give a model for each trial, "
                "trained on its people (--trial-models 'out/trial-{}'), or judge it all the same (--force)."
            )
            continue
        systems.append(BlufrSystem(candidate, (one.table,)))
    if models:
        exported = _embed_trials(request, items, models, next((one.export for one in judged if one.export), None))
        systems += _of_trials(request, exported, alone=not judged)
        judged = [*judged, _as_one(exported)]
    return BlufrEntry(tuple(judged), tuple(systems), tuple(notes))


def _trial_models(request: EvaluationRequest, trials: int) -> list[str]:
    """The model of each trial; none where there are none.

    Raises:
        InvalidValue: no ``{}`` in the pattern.
    """
    if request.trial_models is None:
        return []
    if PLACE not in request.trial_models:
        raise InvalidValue(f"trial models {request.trial_models!r}: must have {PLACE} where the trial's number stands")
    return [request.trial_models.replace(PLACE, str(number)) for number in range(1, trials + 1)]


def _candidates(request: EvaluationRequest, judged: Sequence[Judged]) -> Iterable[tuple[System, Judged]]:
    by_name = {one.name: one for one in judged}
    # Who trained is asked trial by trial, so nobody is in the data set here.
    for candidate in candidates_of(judged, (), request):
        yield candidate.system, by_name[candidate.system.model]


def _check_people(request: EvaluationRequest, models: Sequence[str], tested: Sequence[frozenset[str]]) -> None:
    """Refuse, before anything is embedded, what may not be judged and was asked for by name."""
    for model, people in zip(models, tested, strict=False):
        refusal = _refusal(resolve_model(model).contract, [people], request.force)
        if refusal:
            raise DataError(f"{model}: {refusal}")
    if models or not set(request.metrics) - {"cosine"}:
        return
    for model in request.models:
        refusal = _refusal(resolve_model(model).contract, tested, request.force)
        if refusal:
            raise DataError(f"{model}: {refusal}; or give a model for each trial with --trial-models")


def _of_trials(request: EvaluationRequest, exported: Sequence[ExportedFaces], *, alone: bool) -> list[BlufrSystem]:
    """The trials' models as one; their cosine is that of the backbone, so it is judged only if nothing else is."""
    tables = tuple(one.table for one in exported)
    return [
        BlufrSystem(replace(system, label=_trial_label(system)), tables)
        for system, _ in _candidates(request, [_as_one(exported)])
        if request.metrics or system.metric != "cosine" or alone
    ]


def _refusal(contract: ModelContract | None, tested: Iterable[frozenset[str]], force: bool) -> str:
    """Why a head must not judge these people, trial by trial; empty where it may."""
    if contract is None:
        return ""
    for people in tested:
        try:
            refuse_overlap(filter(contract.trained_on_person, people), people, force)
        except DataError as error:
            return str(error)
    return ""


def _embed_trials(
    request: EvaluationRequest, items: Sequence[Item], models: Sequence[str], shared: ExportedFaces | None
) -> list[ExportedFaces]:
    """Every trial's model on all images; faces are looked for once, where they are kept."""
    exported: list[ExportedFaces] = []
    for number, model in enumerate(models, 1):
        # Of the same faces one copy is enough.
        alike = shared is not None and shared.serves(resolve_model(model).contract.input)
        options = ExportOptions(aligned=request.aligned, crops=request.faces and not alike)
        found = export_faces(
            items,
            request.out / FACES / f"trial-{number}",
            model=model,
            options=options,
            shared=shared if alike else None,
            resume=request.resume,
            provider=request.provider,
            progress=counted(request.progress, f"embedding with {model}", len(items)),
        )
        shared = shared or found
        exported.append(found)
    return exported


def _as_one(exported: Sequence[ExportedFaces]) -> Judged:
    first = exported[0]
    digest = hashlib.sha256("".join(one.digest for one in exported).encode()).hexdigest()
    picture = first.picture if first.crops is not None else None
    return Judged(
        f"{first.contract.name}, a model a trial", digest, first.table, first.contract, first.failed, picture, first
    )


def _trial_label(system: System) -> str:
    """Apart from the model for all trials, whose label may be the bare score."""
    return f"{system.label.rpartition(', ')[2]}, a model a trial"
