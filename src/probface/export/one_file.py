"""Any model as one ONNX file with its contract, in float32, float16 or int8, and what the conversion cost."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, get_args

import onnx
from onnx import ModelProto

from probface.contract import InputSpec
from probface.defaults import JUDGING_IMAGES
from probface.encoder.onnx import Encoder
from probface.errors import InvalidValue, ModelError
from probface.export.accuracy import (
    AccuracyChange,
    ChosenImages,
    FoundFaces,
    Parity,
    accuracy_change,
    choose_images,
    find_faces,
    parity,
    random_crops,
)
from probface.export.precision import Precision, to_float16, to_int8
from probface.models.graph import load_graph, make_batch_dynamic
from probface.models.registry import resolve_model
from probface.storage import replacing
from probface.types import Embeddings, Image

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and of how many."""

LARGEST_DIFFERENCE = 1e-4
"""Of any entry of mu or log sigma_sq between a model and its float32 file; a file that differs more is refused."""
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class ImageCount:
    """How many images served one purpose.

    Attributes:
        images: how many were chosen.
        failed: how many of these were left out: they could not be read or had no face.
    """

    images: int
    failed: int


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """What :func:`export_model` wrote, against the model that it was given.

    Attributes:
        out: the file written.
        model: the contract's name of the model that was given.
        precision: what the backbone of the file computes in.
        size: of the file, in bytes.
        float32_size: of the same model in float32, in bytes.
        data: the images that judged; None where random patterns did.
        judging: how many these were; None without ``data``.
        calibration: how many images int8 was calibrated with; None for another precision.
        parity: how far the outputs moved.
        accuracy: what that does to decisions; None without images of several people, one folder a person.
    """

    out: Path
    model: str
    precision: Precision
    size: int
    float32_size: int
    data: Path | None
    judging: ImageCount | None
    calibration: ImageCount | None
    parity: Parity
    accuracy: AccuracyChange | None


def export_model(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    precision: Precision = "float32",
    data: str | os.PathLike[str] | None = None,
    aligned: bool = False,
    images: int = JUDGING_IMAGES,
    progress: Progress | None = None,
) -> ExportedModel:
    """Write a model as one ONNX file with its contract, and measure how far its outputs move.

    The file takes (N, 3, height, width) float32 and gives ``mu`` (N, D) and ``sigma_sq`` (N, 1) or (N, D), float32 in
    every precision. It is written only when all is measured; an error leaves an older file as it was.

    Args:
        model: a name, an .onnx file with a contract, or a training output folder.
        out: ``.onnx``; missing folders are made.
        precision: what the backbone computes in; the head stays float32.
        data: images to calibrate and judge with, as :func:`probface.export.accuracy.choose_images` takes them; who
            calibrates never judges. Without them random patterns judge. int8 needs them.
        aligned: the images are aligned faces already.
        images: at most so many judge.
        progress: called as faces are found, the model is calibrated, and both models are run.

    Raises:
        InvalidValue: ``out`` does not end in .onnx, an unknown precision, int8 without ``data``, or ``images`` below 1.
        ModelNotFound: no such model.
        ModelError: it cannot be converted, the converted model's outputs are not finite, or the float32 file differs by
            more than :data:`LARGEST_DIFFERENCE`.
        DataError: too few images, or no face in any.
        MissingExtra: the tools of ONNX Runtime for this precision are not there.
        StorageError: the output cannot be written.
    """
    target, folder = Path(out), None if data is None else Path(data)
    _check_options(target, precision, folder)
    source = resolve_model(model)
    spec, show = source.contract.input, progress or _ignore
    search = None if folder is None else _FaceSearch(choose_images(folder, images), spec, aligned, show)
    judging = None if search is None else search("judging")
    crops = random_crops(spec) if judging is None else judging.crops
    float32 = make_batch_dynamic(load_graph(source.onnx))
    calibration = search("calibration") if search is not None and precision == "int8" else None
    converted = _converted(float32, precision, calibration, spec, show)
    with replacing(target) as temporary:
        onnx.save(converted, temporary)
        size = temporary.stat().st_size
        before = _encode(Encoder(source), crops, "float32 on faces", show)
        after = _encode_converted(temporary, crops, precision, show)
        moved = parity(before, after)
        _refuse_difference(moved, precision)
        change = _accuracy(before, after, judging)
    return ExportedModel(
        out=target,
        model=source.name,
        precision=precision,
        size=size,
        float32_size=float32.ByteSize(),
        data=folder,
        judging=_count(judging),
        calibration=_count(calibration),
        parity=moved,
        accuracy=change,
    )


class _FaceSearch:
    """Finds the faces of the chosen images, for one use or the other."""

    def __init__(self, chosen: ChosenImages, spec: InputSpec, aligned: bool, show: Progress) -> None:
        self._images = {"judging": chosen.judging, "calibration": chosen.calibration}
        self._labelled, self._spec, self._aligned, self._show = chosen.labelled, spec, aligned, show

    def __call__(self, use: str) -> FoundFaces:
        items = self._images[use]
        tally = _Tally(self._show, f"finding faces for {use}", len(items))
        return find_faces(items, self._spec, labelled=self._labelled, aligned=self._aligned, progress=tally.add)


class _Tally:
    """Adds up the steps of one piece of work."""

    def __init__(self, show: Progress, label: str, total: int) -> None:
        self._show, self._label, self._total, self._done = show, label, total, 0

    def add(self, steps: int) -> None:
        self._done += steps
        self._show(self._label, self._done, self._total)


def _ignore(label: str, done: int, total: int) -> None:
    """Show nothing."""


def _check_options(out: Path, precision: Precision, data: Path | None) -> None:
    if out.suffix != ".onnx":
        raise InvalidValue(f"output {out}: must end in .onnx; rename it")
    if precision not in get_args(Precision):
        raise InvalidValue(f"precision {precision!r}: must be one of {', '.join(get_args(Precision))}")
    if precision == "int8" and data is None:
        raise InvalidValue("precision int8: needs faces to calibrate with; give images of faces with --data DIR")


def _converted(
    model: ModelProto, precision: Precision, calibration: FoundFaces | None, spec: InputSpec, show: Progress
) -> ModelProto:
    if calibration is not None:
        tally = _Tally(show, "calibrating", len(calibration.crops))
        return to_int8(model, calibration.crops, spec, progress=tally.add)
    return to_float16(model) if precision == "float16" else model


def _encode(encoder: Encoder, crops: Image, label: str, show: Progress) -> Embeddings:
    tally, parts = _Tally(show, label, len(crops)), []
    for start in range(0, len(crops), _CHUNK):
        parts.append(encoder.encode(crops[start : start + _CHUNK]))
        tally.add(len(parts[-1]))
    return Embeddings.concatenate(parts)


def _encode_converted(path: Path, crops: Image, precision: Precision, show: Progress) -> Embeddings:
    """What the written file gives; a ModelError names the conversion where that is not finite."""
    try:
        return _encode(Encoder(path), crops, f"{precision} on faces", show)
    except ModelError as error:
        raise ModelError(f"precision {precision}: the converted model fails ({error}); choose another") from error


def _refuse_difference(moved: Parity, precision: Precision) -> None:
    if precision == "float32" and not moved.difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"float32 file: mu or log sigma^2 differs by {moved.difference:.1e} from the model, must be "
            f"{LARGEST_DIFFERENCE:g} at most; report it with the model's origin"
        )


def _accuracy(before: Embeddings, after: Embeddings, judging: FoundFaces | None) -> AccuracyChange | None:
    if judging is None or judging.people is None or len(judging.people) < 2:
        return None
    return accuracy_change(before, after, judging.people)


def _count(found: FoundFaces | None) -> ImageCount | None:
    return None if found is None else ImageCount(len(found.crops) + found.failed, found.failed)
