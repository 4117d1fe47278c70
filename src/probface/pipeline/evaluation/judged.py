"""The models of an evaluation on its images: embedded once, then judged by any score."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from probface.contract import ModelContract
from probface.errors import InvalidValue
from probface.eval.candidate import Candidate
from probface.eval.face_table import FaceTable
from probface.eval.results import System
from probface.models.registry import resolve_model
from probface.pipeline.embedding_file import FailedImage
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.exported_faces import ExportedFaces
from probface.pipeline.face_export import export_faces
from probface.pipeline.face_rows import ExportOptions
from probface.pipeline.face_table_file import read_ready_faces, with_measures
from probface.pipeline.given_faces import GivenFace
from probface.pipeline.progress import counted
from probface.readers.item import Item
from probface.report.wording import METRIC_NAMES
from probface.storage import file_digest
from probface.types import Image, Metric

FACES = "faces"
"""Folder, in that of the results, of the exported faces."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One model's faces.

    Attributes:
        name: what people read.
        digest: SHA-256 of the model, or of the file of embeddings (which may say by its contract what the model is,
            and not which file it was).
        table: the faces.
        contract: of the model; None for embeddings that do not tell.
        failed: the images without a face, and why.
        picture: the aligned face of an image, if faces were kept.
        export: the export itself; None for ready embeddings.
        uncertain: whether there are variances; without them only cosine judges.
    """

    name: str
    digest: str
    table: FaceTable
    contract: ModelContract | None = None
    failed: tuple[FailedImage, ...] = ()
    picture: Callable[[str], Image | None] | None = None
    export: ExportedFaces | None = None
    uncertain: bool = True

    def with_table(self, table: FaceTable) -> Judged:
        """The same model on other faces."""
        return replace(self, table=table)


def embed_models(
    request: EvaluationRequest,
    items: Sequence[Item],
    options: ExportOptions | None = None,
    part: str = "",
    *,
    given: Mapping[str, GivenFace] | None = None,
    shared: Iterable[Judged] = (),
) -> list[Judged]:
    """Every model and every file of embeddings on the same images.

    Args:
        request: names them.
        items: the images.
        options: of the export, but for what the request says.
        part: what this export is, where a protocol has several; the name of its folder.
        given: where the protocol's lists have the faces, by the names of the images.
        shared: models that saw the same images as they are: where faces were kept, none is looked for again.

    Raises:
        DataError, InvalidValue, ModelError, StorageError: as :func:`export_faces` and :func:`read_ready_faces`.
    """
    chosen = replace(options or ExportOptions(), aligned=request.aligned, crops=request.faces)
    judged: list[Judged] = []
    found = [one.export for one in shared if one.export is not None]
    for model in request.models:
        exported = _export(request, items, chosen, model, part, found, given)
        found.append(exported)
        judged.append(_of_export(request, exported))
    names = [item.name for item in items]
    judged += [_of_file(request, path, names) for path in request.embeddings]
    return _told_apart(judged)


def _export(
    request: EvaluationRequest,
    items: Sequence[Item],
    options: ExportOptions,
    model: str,
    part: str,
    found: Sequence[ExportedFaces],
    given: Mapping[str, GivenFace] | None,
) -> ExportedFaces:
    label = f"embedding with {Path(model).name}" + (f" ({part})" if part else "")
    folder = request.out / FACES / (_slug(model) + (f"-{part}" if part else ""))
    spec = resolve_model(model).contract.input if found else None
    return export_faces(
        items,
        folder,
        model=model,
        options=options,
        shared=next((one for one in found if spec is not None and one.serves(spec)), None),
        given=given,
        resume=request.resume,
        provider=request.provider,
        progress=counted(request.progress, label, len(items)),
    )


def _of_export(request: EvaluationRequest, exported: ExportedFaces) -> Judged:
    table = exported.table if request.measures is None else with_measures(exported.table, request.measures)
    return Judged(
        exported.contract.name,
        exported.digest,
        table,
        exported.contract,
        exported.failed,
        exported.picture if exported.crops is not None else None,
        exported,
    )


def _of_file(request: EvaluationRequest, path: Path, names: Sequence[str]) -> Judged:
    ready = read_ready_faces(
        path,
        names=names,
        sigma_sq=request.sigma_sq,
        measures=request.measures,
        allow_missing=request.missing == "skip",
    )
    return Judged(path.stem, file_digest(path), ready.table, ready.contract, uncertain=ready.uncertain)


def candidates_of(judged: Iterable[Judged], subjects: Iterable[str], request: EvaluationRequest) -> list[Candidate]:
    """A candidate for each model and score: cosine, with which all are compared, then the one that its variance is for.

    Args:
        judged: the models.
        subjects: who is in the data set.
        request: names the scores; with ``force`` nobody is left out.
    """
    everybody = frozenset(subjects)
    models = list(judged)
    found = []
    for one in models:
        trained = frozenset(filter(one.contract.trained_on_person, everybody)) if one.contract else frozenset[str]()
        width = one.table.embeddings.sigma_sq.shape[1]
        default: tuple[Metric, ...] = ("cosine", "fastmls" if width == 1 else "mls")
        if not one.uncertain:
            default = ("cosine",)
            wanting = [metric for metric in request.metrics if metric != "cosine"]
            if wanting:
                raise InvalidValue(
                    f"{one.name}: {wanting[0]} needs variances, and the embeddings have none; declare one "
                    "(--sigma-sq), or judge by cosine"
                )
        for metric in request.metrics or default:
            label = METRIC_NAMES[metric] if len(models) == 1 else f"{one.name}, {METRIC_NAMES[metric]}"
            system = System(
                key=f"{one.name}-{metric}",
                label=label,
                model=one.name,
                model_digest=one.digest,
                metric=metric,
                trained_on=one.contract.trained_on if one.contract else "",
            )
            left_out = frozenset[str]() if request.force else trained
            scale = one.contract.quality if one.contract else None
            found.append(Candidate(system, one.table, frozenset() if metric == "cosine" else left_out, left_out, scale))
    return found


def _told_apart(judged: list[Judged]) -> list[Judged]:
    """The same, with a number after a name that occurs again: the first from 2 that makes it nobody else's name."""
    taken, seen, apart = {one.name for one in judged}, set[str](), []
    for one in judged:
        if one.name in seen:
            one = replace(one, name=next(name for name in _numbered(one.name) if name not in taken))
        taken.add(one.name)
        seen.add(one.name)
        apart.append(one)
    return apart


def _numbered(name: str) -> Iterator[str]:
    return (f"{name} {number}" for number in itertools.count(2))


def _slug(model: str) -> str:
    """A folder name of a model: what it is called, and a few digits of its path."""
    stem = Path(model).stem or "model"
    kept = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in stem)
    return f"{kept}-{hashlib.sha256(str(Path(model).absolute()).encode()).hexdigest()[:8]}"
