"""Identification among growing numbers of distractors, in the manner of MegaFace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from probface.errors import DataError, InvalidValue
from probface.eval.candidate import Candidate
from probface.eval.face_table import FaceTable
from probface.eval.protocols.distractors import search_distractors
from probface.pipeline.evaluation.distractor_figures import Among, distractor_section
from probface.pipeline.evaluation.evaluation import Evaluation
from probface.pipeline.evaluation.finish import About, Counts, Findings, forced_notes, results_of
from probface.pipeline.evaluation.judged import Judged, candidates_of, embed_models
from probface.pipeline.evaluation.listed_images import named_items
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.face_table_file import ReadyFaces, read_ready_faces
from probface.readers.item import Item
from probface.readers.lfw import lfw_images
from probface.readers.megaface import MegaFace, read_megaface
from probface.readers.open import open_items

EMBEDDING_SUFFIXES = (".npz", ".parquet")
PROBE_LIST, DISTRACTOR_LISTS = "facescrub_features_list.json", "megaface_features_list.json*"
PROBE_NOISE, DISTRACTOR_NOISE = "facescrub_noises.txt", "megaface_noises.txt"


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Probes and distractors of every model.

    Attributes:
        probes, distractors: of each model, in one order; distractors have no picture.
        people: image of a probe -> who is on it.
        others: image of a distractor -> who is on it; empty where that is not known.
        notes: what was left out.
    """

    probes: list[Judged]
    distractors: list[FaceTable]
    people: dict[str, str]
    others: dict[str, str]
    notes: list[str]


def evaluate_distractors(request: EvaluationRequest) -> Evaluation:
    """Judge models by how well they find a person's other image among distractors.

    Who trained the head of a model is no probe of its scores with ``sigma_sq``, and no distractor of any system: all
    are judged among the same distractors. ``force`` leaves everybody in.

    Raises:
        DataError: images, lists or embeddings are not there or broken, images that tell no person, a distractor that
            is a probe or shows one of the probes' people, or nobody is left who did not train a head.
        InsufficientData: nobody has two images.
        InvalidValue: nothing to draw distractors from, or distractors' embeddings beside several models.
    """
    sides = _from_lists(request) if _is_megaface(request.data) else _from_images(request)
    tables = {one.name: table for one, table in zip(sides.probes, sides.distractors, strict=True)}
    candidates = candidates_of(sides.probes, (*sides.people.values(), *sides.others.values()), request)
    tables, told = _among_strangers(tables, sides, candidates)
    notes, among = [*sides.notes, *told, *_unknown(request, sides, candidates)], []
    lost = {name for one in sides.probes for name in one.table.missing(tuple(sides.people))}
    for number, one in enumerate(candidates, 1):
        found, left_out = _search(one, tables[one.system.model], sides, lost, request.judge.seed)
        if left_out:
            notes.append(
                f"{one.system.label}: {left_out:,} probes of people who trained the uncertainty head are left out."
            )
        among.append(found)
        request.progress("searching among distractors", number, len(candidates))
    section = distractor_section(among, request.judge)
    systems = tuple(one.system for one in among)
    first = among[0].scores
    about = About(
        "distractors",
        "Identification among distractors",
        f"{request.data.name}: {len(sides.people):,} probes; {first.sizes[-1]:,} distractors",
    )
    counts = Counts(len(set(sides.people.values())), len(first.probe) // 2, first.impostors)
    findings = Findings(sections=(section,), systems=systems, notes=(*forced_notes(request, sides.probes), *notes))
    results = results_of(request, findings, about, sides.probes, counts)
    return Evaluation(results, next((one.picture for one in sides.probes if one.picture is not None), None))


def _search(one: Candidate, distractors: FaceTable, sides: _Sides, lost: set[str], seed: int) -> tuple[Among, int]:
    """The searches of a system, without the people who trained its head; and how many probes that leaves out."""
    names = [name for name in sides.people if name not in lost]
    kept = [name for name in names if sides.people[name] not in one.trained]
    if not kept:
        raise DataError(
            f"{one.system.label}: everybody among the probes trained its head; bring other people, or judge by cosine"
        )
    people = [sides.people[name] for name in kept]
    others = [sides.others[name] for name in distractors.names] if sides.others else []
    scores = search_distractors(
        FaceTable(tuple(kept), one.faces.embeddings[one.faces.rows(kept)]),
        people,
        distractors,
        one.system.metric,
        distractor_people=others,
        seed=seed,
    )
    left_out = len(names) - len(kept)
    return Among(replace(one.system, left_out=left_out), scores, tuple(kept), tuple(people)), left_out


def _among_strangers(
    tables: dict[str, FaceTable], sides: _Sides, candidates: Sequence[Candidate]
) -> tuple[dict[str, FaceTable], list[str]]:
    """The distractors, for all systems, without people who trained a head that is judged; and what to say."""
    trained = frozenset[str]().union(*(one.trained for one in candidates))
    gone = {name for name, person in sides.others.items() if person in trained}
    left_out = {name for table in tables.values() for name in table.names if name in gone}
    if not left_out:
        return tables, []
    kept = {model: [name for name in table.names if name not in gone] for model, table in tables.items()}
    if not all(kept.values()):
        raise DataError(
            "distractors: everybody among them trained an uncertainty head that is judged; bring other people, or "
            "judge by cosine"
        )
    people = len({sides.others[name] for name in left_out})
    note = (
        f"{len(left_out):,} distractors of {people:,} people who trained an uncertainty head are left out for all "
        "systems."
    )
    return {model: _only(tables[model], names) for model, names in kept.items()}, [note]


def _unknown(request: EvaluationRequest, sides: _Sides, candidates: Iterable[Candidate]) -> list[str]:
    """What to say where a head's people could not be looked for among the distractors."""
    heads = {one.system.model for one in candidates if one.system.metric != "cosine"}
    told = any(one.contract is not None and one.contract.training_people for one in sides.probes if one.name in heads)
    if sides.others or not told or request.force:
        return []
    return [
        "Who is on the distractors is not known: people who trained the uncertainty head may be among them, and are "
        "not left out."
    ]


def _is_megaface(data: Path) -> bool:
    return data.is_dir() and (data / PROBE_LIST).is_file()


def _from_images(request: EvaluationRequest) -> _Sides:
    """Probes are images of people; distractors other images, or ready embeddings."""
    if request.distractors is None:
        raise InvalidValue("no distractors: name images of other people, or their embeddings, with --distractors")
    items = _items(request.data)
    without = [item.name for item in items if item.label is None]
    if without:
        raise DataError(
            f"{request.data}: image {without[0]} tells no person; give one folder a person, or a list with labels"
        )
    people = {item.name: item.label or "" for item in items}
    probes = embed_models(request, items)
    if request.distractors.suffix in EMBEDDING_SUFFIXES:
        return _Sides(probes, [_ready(request, probes, request.distractors)], people, {}, [])
    pool = _items(request.distractors)
    embedded = embed_models(replace(request, faces=False, measures=None), pool, part="distractors")
    lost = {name for one in embedded for name in one.table.missing([item.name for item in pool])}
    names = [item.name for item in pool if item.name not in lost]
    notes = [f"{len(lost):,} of {len(pool):,} distractors gave no face; they are left out."] if lost else []
    return _Sides(probes, [_only(one.table, names) for one in embedded], people, _labels(pool), notes)


def _from_lists(request: EvaluationRequest) -> _Sides:
    """MegaFace's lists with ready embeddings, which have the distractors, too, or in a file of their own."""
    if request.models:
        raise InvalidValue(
            f"{request.data}: MegaFace's lists are judged by ready embeddings alone; embed its images, give the files "
            "with --embeddings, and no --model"
        )
    listed = _read_lists(request.data)
    probes, others = listed.probes, listed.distractors
    judged = embed_models(request, named_items(probes.paths))
    people = dict(zip(probes.paths, probes.people, strict=True))
    known = dict(zip(others.paths, others.people, strict=True)) if others.people else {}
    notes = []
    if probes.noise or others.noise:
        notes.append(f"{probes.noise:,} probes and {others.noise:,} distractors are left out by the lists of noise.")
    if request.distractors is not None:
        return _Sides(judged, [_ready(request, judged, request.distractors, others.paths)], people, known, notes)
    tables = [one.table for one in embed_models(replace(request, measures=None), named_items(others.paths))]
    return _Sides(judged, tables, people, known, notes)


def _read_lists(data: Path) -> MegaFace:
    lists = sorted(data.glob(DISTRACTOR_LISTS))
    if len(lists) != 1:
        raise DataError(f"{data}: {len(lists)} files {DISTRACTOR_LISTS}; need one list of distractors there")
    probe_noise, distractor_noise = (
        path if path.is_file() else None for path in (data / PROBE_NOISE, data / DISTRACTOR_NOISE)
    )
    return read_megaface(data / PROBE_LIST, lists[0], probe_noise=probe_noise, distractor_noise=distractor_noise)


def _ready(
    request: EvaluationRequest, judged: Sequence[Judged], path: Path, names: Sequence[str] | None = None
) -> FaceTable:
    """Ready embeddings of the distractors, by the one model that is judged."""
    if len(judged) != 1:
        raise InvalidValue(
            f"distractors {path}: embeddings are of one model, {len(judged)} are judged; judge one at a time, or give "
            "images"
        )
    ready = read_ready_faces(path, names=names, sigma_sq=request.sigma_sq, allow_missing=request.missing == "skip")
    _check_model(path, ready, judged[0])
    return ready.table


def _check_model(path: Path, ready: ReadyFaces, one: Judged) -> None:
    """Embeddings of two models cannot be compared."""
    widths = [(faces.embeddings.dim, faces.embeddings.sigma_sq.shape[1]) for faces in (ready.table, one.table)]
    alike = ready.contract is None or one.contract is None or ready.contract == one.contract
    if widths[0] != widths[1] or not alike:
        raise InvalidValue(
            f"distractors {path}: embedded by another model than {one.name}; embed them with the one that is judged"
        )


def _items(data: Path) -> list[Item]:
    is_lfw = data.is_dir() and (data / "people.txt").is_file()
    return list(lfw_images(data) if is_lfw else open_items(data))


def _labels(items: Sequence[Item]) -> dict[str, str]:
    """Who is on each image, where all tell; numbers mean other people in another data set, and tell nothing."""
    labels = {item.name: item.label for item in items if item.label is not None and not item.label.isdecimal()}
    return labels if len(labels) == len(items) else {}


def _only(table: FaceTable, names: Sequence[str]) -> FaceTable:
    return FaceTable(tuple(names), table.embeddings[table.rows(names)])
