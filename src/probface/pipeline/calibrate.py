"""Thresholds on the user's own people, written into the model's contract; the weights stay as they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from probface.contract import ModelContract
from probface.errors import InvalidValue
from probface.eval.calibrate import calibrate
from probface.face.degrade import MIXTURES
from probface.gallery.exchange import check_apart
from probface.models.graft import set_contract
from probface.models.graph import load_graph
from probface.models.registry import TRAINED_MODEL, ResolvedModel, resolve_model
from probface.pipeline.embedding_file import FailedImage
from probface.pipeline.face_rows import ExportOptions
from probface.pipeline.held_out_people import (
    EmbeddingWork,
    Limits,
    MeasuredPeople,
    labelled_items,
    measure_embeddings,
    measure_images,
)
from probface.pipeline.progress import Progress, silent
from probface.storage import replacing
from probface.types import Embeddings

FALSE_MATCH_RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
IMAGES_PER_PERSON, MOST_PEOPLE = 4, 2000
"""With more images one person would make most of the genuine pairs; the pairs grow with the square of the people."""
EMBEDDINGS = (".npz", ".parquet")
"""Suffixes of files of embeddings."""


@dataclass(frozen=True, slots=True)
class CalibratedModel:
    """What :func:`calibrate_model` wrote.

    Attributes:
        out: the ONNX file.
        contract: of the model, as it is in the file.
        people, images: whom it was measured on.
        trained: people who were left out because they trained the head.
        beyond: people who were left out because there were enough of them already.
        failed: images that could not be read or had no face.
        insufficient: false-match rates that there were too few comparisons for.
    """

    out: Path
    contract: ModelContract
    people: int
    images: int
    trained: int
    beyond: int
    failed: tuple[FailedImage, ...]
    insufficient: tuple[float, ...]


def calibrate_model(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    aligned: bool = False,
    policy: Literal["largest", "central"] = "largest",
    degrade: bool | None = None,
    fmrs: Sequence[float] = FALSE_MATCH_RATES,
    images_per_person: int = IMAGES_PER_PERSON,
    most_people: int = MOST_PEOPLE,
    name: str | None = None,
    provider: str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
) -> CalibratedModel:
    """Measure a model's thresholds on people of your own, and write the model with them in its contract.

    All comparisons of images of two people count, people who trained the head are left out. The thresholds and score
    histograms that the contract had are replaced; the network gives the same outputs, bit for bit.

    Args:
        model: a name, an .onnx file with a contract, or a training output folder.
        data: images, one folder a person; LFW; a ``.rec``; a list; or the embeddings of such images, as ``probface
            embed`` wrote them with this model.
        out: ``.onnx``, or a folder that gets it as ``model.onnx``; never the model itself.
        aligned: the images are aligned faces already.
        policy: which face of a photo.
        degrade: compare a degraded copy of each image, too, and measure the quality scale anew. As a rule where
            ``data`` holds images; embeddings cannot be degraded. Without, the contract's quality scale stays.
        fmrs: the false-match rates.
        images_per_person: at most so many, the first by name.
        most_people: at most so many, the first by name.
        name: of the data, for the contract; that of the file or folder if not given.
        provider: where the network runs.
        workers: threads; 0 for all cores.
        progress: called as images are done.

    Raises:
        InvalidValue: an output that is the model or ends otherwise, ``degrade`` with embeddings, or another argument
            that breaks its rule.
        DataError: nobody named, nobody left, no face in any image, or embeddings of another model.
        InsufficientData: too few comparisons for even the largest rate.
        StorageError: the output cannot be written.
    """
    place = Path(data)
    _check_numbers(fmrs, images_per_person, most_people)
    resolved, target = resolve_model(model), _target(Path(out))
    if isinstance(resolved.onnx, Path):
        check_apart(target, resolved.onnx)
    check_apart(target, place)
    limits = Limits(images_per_person, most_people)
    if place.suffix in EMBEDDINGS and place.is_file():
        if degrade:
            raise InvalidValue(f"data {place}: embeddings cannot be degraded; give the images, or go without")
        measured = measure_embeddings(place, resolved.contract, limits)
    else:
        options = ExportOptions(aligned=aligned, policy=policy)
        work = EmbeddingWork(model, options, degrade is not False, provider, workers, progress or silent)
        measured = measure_images(labelled_items(place), place, resolved.contract, limits, work)
    contract = _calibrated(resolved.contract, measured, name or place.resolve().name, fmrs)
    _write(resolved, contract, target)
    rates = {entry.fmr for entry in contract.thresholds}
    return CalibratedModel(
        out=target,
        contract=contract,
        people=measured.people,
        images=len(measured.clean),
        trained=measured.chosen.trained,
        beyond=measured.chosen.beyond,
        failed=measured.failed,
        insufficient=tuple(sorted(set(fmrs) - rates, reverse=True)),
    )


def _calibrated(contract: ModelContract, measured: MeasuredPeople, name: str, fmrs: Sequence[float]) -> ModelContract:
    states = [measured.clean] if measured.moderate is None else [measured.clean, measured.moderate]
    kinds = ", ".join(step.kind for step in MIXTURES["moderate"].steps)
    how = "as it is" if measured.moderate is None else f"clean and once degraded ({kinds}), never against its own copy"
    description = (
        f"all cross-identity pairs of {len(measured.clean)} images of {measured.people} people of {name}, each image "
        f"{how}; {measured.chosen.trained} people who trained the head were left out; measured on "
        f"{datetime.now(UTC).date().isoformat()}"
    )
    return calibrate(
        contract,
        Embeddings.concatenate(states),
        np.tile(measured.labels, len(states)),
        np.tile(np.arange(len(measured.clean)), len(states)),
        clean_sigma_sq=None if measured.extreme_sigma_sq is None else measured.clean.sigma_sq,
        extreme_sigma_sq=measured.extreme_sigma_sq,
        data=name,
        description=description,
        fmrs=fmrs,
    )


def _write(model: ResolvedModel, contract: ModelContract, target: Path) -> None:
    graph = load_graph(model.onnx)
    set_contract(graph, contract)
    with replacing(target) as temporary:
        onnx.save(graph, temporary)


def _target(out: Path) -> Path:
    if out.suffix == ".onnx":
        return out
    if out.suffix and not out.is_dir():
        raise InvalidValue(f"output {out}: must end in .onnx, or be a folder; rename it")
    return out / TRAINED_MODEL


def _check_numbers(fmrs: Sequence[float], images_per_person: int, most_people: int) -> None:
    bad = [fmr for fmr in fmrs if not 0 < fmr < 1]
    if bad or not fmrs:
        raise InvalidValue(f"FMR {bad[0] if bad else 'none'}: give one or more rates between 0 and 1")
    if images_per_person < 1 or most_people < 2:
        raise InvalidValue(
            f"images per person {images_per_person}, people {most_people}: must be 1 or more, and 2 or more"
        )
