"""Ready embeddings into a gallery: an export, a file of ``probface embed``, or another system's vectors."""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

import numpy as np

from probface.contract import ModelContract
from probface.errors import DataError, InvalidValue, ModelError
from probface.gallery.exchange_reading import ExchangeTable, read_table
from probface.gallery.gallery import Gallery
from probface.gallery.records import Estimator, GallerySettings, ModelBinding, NewReferences, Templates, check_name
from probface.models.registry import list_models, resolve_model
from probface.pipeline.gallery_model import (
    GalleryPlace,
    check_model,
    created_if_new,
    model_binding,
    opened_if_there,
    require_enrollable,
    settings_for,
)
from probface.readers.open import CONTAINERS
from probface.types import Embeddings, FloatArray


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What :func:`import_gallery` did.

    Attributes:
        gallery: where the references are now.
        created: whether it was made.
        references, identities: how many came.
        model: name of the model that made them.
        normalised: rows that were scaled to unit length.
        unconfirmed: whether the thresholds of the new gallery are the export's own word: its model is not at hand, or
            goes by the name of another one, so nobody can tell whether they were measured.
    """

    gallery: str
    created: bool
    references: int
    identities: int
    model: str
    normalised: int
    unconfirmed: bool = False


def import_gallery(
    file: str | os.PathLike[str],
    gallery: GalleryPlace,
    *,
    sigma_sq: float | None = None,
    model: str | os.PathLike[str] | None = None,
    model_name: str | None = None,
    names: str | os.PathLike[str] | None = None,
    templates: Templates | None = None,
    estimator: Estimator | None = None,
) -> ImportResult:
    """Enrol the rows of a file: all of them, durably, or none. The whole file is in memory meanwhile.

    Args:
        file: ``.npz`` or ``.parquet``. An export of a gallery, which brings its model and settings along; what
            ``probface embed`` wrote; or arrays ``name`` (or ``names``, ``labels``) and ``mu`` (or ``embeddings``,
            ``features``), whose rows are scaled to unit length.
        gallery: a path or ``postgresql://...``, made if there is none yet; or an open gallery.
        sigma_sq: the variance of every row, above 0; needed where the file has none, and not taken where it has.
        model: what made the embeddings, if ProbFace can use it: a name, an .onnx file or a training output folder.
        model_name: what made them, if it cannot: any name. Such a gallery takes further embeddings, but no images.
        names: CSV file of lines ``path,name``, for a file of ``probface embed``. Without it the folder that an image
            was in is the name.
        templates: of a new gallery, see :func:`probface.enroll`.
        estimator: likewise.

    Raises:
        DataError: a damaged file, or rows that cannot be enrolled.
        InvalidValue: something that must be declared is not, or contradicts the file or the gallery.
        ModelError, StorageError: the model or the gallery cannot be used.
    """
    table = read_table(file)
    with opened_if_there(gallery) as there:
        binding, unconfirmed = _binding(table, there, model, model_name)
        if there is not None:
            check_model(there, binding)
        settings = partial(_settings, table, binding, templates, estimator)
        planned = settings(there)
        references = _references(table, binding, sigma_sq, names)
        require_enrollable(references, planned)
        with created_if_new(gallery, there, settings) as (place, new):
            place.enroll(references, model=binding)
            return ImportResult(
                place.store.location,
                new,
                len(references),
                len(set(references.names)),
                binding.name,
                table.normalised,
                unconfirmed=new and unconfirmed,
            )


def _settings(
    table: ExchangeTable,
    binding: ModelBinding,
    templates: Templates | None,
    estimator: Estimator | None,
    gallery: Gallery | None,
) -> GallerySettings:
    """Those of the gallery; of a new one what was asked for, or else what an export says."""
    keep_images: bool | None = None
    if table.settings is not None and gallery is None:
        templates, estimator = templates or table.settings.templates, estimator or table.settings.estimator
        keep_images = table.settings.keep_images
    return settings_for(gallery, binding, templates=templates, estimator=estimator, keep_images=keep_images)


def declared_model(name: str, dim: int, sigma_sq_width: int) -> ModelBinding:
    """A model that ProbFace never saw: all that is known is what it is called."""
    digest = hashlib.sha256(f"declared model {name}".encode()).hexdigest()
    return ModelBinding(name, digest, dim, sigma_sq_width)


def _binding(
    table: ExchangeTable, gallery: Gallery | None, model: str | os.PathLike[str] | None, model_name: str | None
) -> tuple[ModelBinding, bool]:
    """What made the rows, as the file or the caller says; and whether its thresholds are the file's word alone."""
    if model is not None and model_name is not None:
        raise InvalidValue(f"--model {os.fspath(model)} and --model-name {model_name}: give one of them")
    known = table.settings is not None or table.contract is not None
    if known and model_name is not None:
        raise InvalidValue(f"--model-name {model_name}: {table.file} says itself which model made it; leave it out")
    if table.contract is not None:
        return _of_contract(table.file, table.contract, gallery, model), False
    given = None if model is None else model_binding(resolve_model(model))
    if table.settings is not None:
        ours = table.settings.model
        if given is not None and given.digest != ours.digest:
            raise InvalidValue(f"--model {given.name}: {table.file} holds embeddings of {ours.name!r}; leave it out")
        known_here = given or _known(ours)
        if known_here is not None:
            return known_here, False
        return ours, ours.contract is not None
    if given is not None:
        if given.dim != table.mu.shape[1]:
            raise InvalidValue(
                f"{table.file}: mu of D = {table.mu.shape[1]}, model {given.name!r} gives {given.dim}; name the model "
                "that made them"
            )
        return given, False
    if model_name is None:
        raise InvalidValue(
            f"{table.file}: does not say which model made it; give --model MODEL if it is at hand, or else "
            "--model-name NAME"
        )
    width = 1 if table.sigma_sq is None else table.sigma_sq.shape[1]
    return declared_model(check_name(model_name), table.mu.shape[1], width), False


def _known(model: ModelBinding) -> ModelBinding | None:
    """The registered model of that digest, whatever the file calls it, with the contract that it has here."""
    for record in list_models():
        if record.head is None:
            continue
        try:
            here = model_binding(resolve_model(record.name))
        except ModelError:  # its weights are not at hand
            continue
        if here.digest == model.digest:
            return here
    return None


def _of_contract(
    file: Path, contract: ModelContract, gallery: Gallery | None, model: str | os.PathLike[str] | None
) -> ModelBinding:
    """The model of a file of ``probface embed``, which keeps the contract, but no digest."""
    if model is None:
        if gallery is not None and gallery.settings.model.contract == contract:
            return gallery.settings.model
        if contract.name not in {record.name for record in list_models()}:
            raise ModelError(
                f"{file}: of model {contract.name!r}, which is not known by name; give its file or training "
                "folder: --model FILE"
            )
        model = contract.name
    resolved = resolve_model(model)
    if resolved.contract != contract:
        raise InvalidValue(
            f"{file}: of model {contract.name!r}, whose contract is not that of {os.fspath(model)!r}; give the "
            "model that made it: --model FILE"
        )
    return model_binding(resolved)


def _references(
    table: ExchangeTable, binding: ModelBinding, sigma_sq: float | None, names: str | os.PathLike[str] | None
) -> NewReferences:
    rows = len(table)
    try:
        embeddings = Embeddings(table.mu, _variances(table, binding, sigma_sq))
    except InvalidValue as error:
        raise DataError(f"{table.file}: {error}") from error
    unknown = ("",) * rows
    quality = np.full(rows, -1, np.int64) if table.quality is None else table.quality
    bad = np.flatnonzero((quality < -1) | (quality > 100))
    if len(bad):
        raise DataError(f"{table.file}: quality of row {bad[0]} is {quality[bad[0]]}: must be in 0..100, or -1")
    return NewReferences(
        _names(table, names),
        embeddings,
        quality,
        table.sources or table.paths or unknown,
        table.source_digests or unknown,
        enrolled=table.enrolled or (),
    )


def _variances(table: ExchangeTable, binding: ModelBinding, sigma_sq: float | None) -> FloatArray:
    if table.sigma_sq is not None:
        if sigma_sq is not None:
            raise InvalidValue(f"--sigma-sq {sigma_sq:g}: the file has variances of its own; leave it out")
        return table.sigma_sq
    if sigma_sq is None:
        raise InvalidValue("it has no variances; declare one for all rows: --sigma-sq 0.3")
    with np.errstate(over="ignore", under="ignore"):
        constant = np.float32(sigma_sq)
    if not (np.isfinite(constant) and constant > 0):
        raise InvalidValue(f"--sigma-sq {sigma_sq:g}: must be above 0 and finite")
    return np.full((len(table), binding.sigma_sq_width), constant, np.float32)


def _names(table: ExchangeTable, file: str | os.PathLike[str] | None) -> tuple[str, ...]:
    if table.names is not None:
        if file is not None:
            raise InvalidValue(f"--names {os.fspath(file)}: {table.file} has names of its own; leave it out")
        return table.names
    if table.paths is None:
        raise DataError(f"{table.file}: no names in it; they must be an array named name, names or labels")
    if file is None:
        return tuple(_folder_name(table.file, path) for path in table.paths)
    known = _read_names(Path(file))
    absent = [path for path in table.paths if path not in known]
    if absent:
        raise DataError(f"{os.fspath(file)}: no line for {absent[0]} ({len(absent)} in all); add them")
    return tuple(known[path] for path in table.paths)


def _folder_name(file: Path, path: str) -> str:
    parent = PurePath(path).parent
    if not parent.name or parent.name == ".." or parent.suffix in CONTAINERS:
        raise DataError(f"{file}: image {path} is in no folder named after a person; give --names FILE.csv")
    try:
        return check_name(parent.name)
    except InvalidValue as error:
        raise DataError(f"{file}: image {path}: {error}") from error


def _read_names(file: Path) -> dict[str, str]:
    """Lines of ``path,name``; a first line of just these two words is a heading."""
    known: dict[str, str] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            for number, row in enumerate(csv.reader(lines, strict=True), 1):
                if not row or (number == 1 and row == ["path", "name"]):
                    continue
                if len(row) != 2:
                    raise DataError(f"{file}: line {number} has {len(row)} fields; must be path,name")
                if known.setdefault(row[0], check_name(row[1])) != row[1]:
                    raise DataError(f"{file}: line {number}: a second name for {row[0]}; leave one")
    except InvalidValue as error:
        raise DataError(f"{file}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read ({error}); give a CSV file in UTF-8") from error
    return known
