"""A checkpoint of the paper's authors into a model of ours: read, written as a folder, calibrated on people."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from probface.contract import ModelContract
from probface.errors import InvalidValue
from probface.export.model_folder import write_backbone, write_paper_head
from probface.export.tf1 import read_tf1
from probface.nn.architecture import Architecture
from probface.train.calibrate import calibrate_folder
from probface.train.features import Progress


@dataclass(frozen=True, slots=True)
class ConvertedModel:
    """What :func:`convert_tf1` made.

    Attributes:
        folder: with ``backbone.onnx`` and, where the checkpoint has an uncertainty head, ``model.onnx``.
        architecture: of the backbone.
        fusion: whether the head reads the pooled stages, too.
        outputs: of the head, 1 or D; 0 without head.
        unmapped: the checkpoint's variables that found no place, less the optimiser's.
        contract: what the model says of itself; None without head.
    """

    folder: Path
    architecture: Architecture
    fusion: bool
    outputs: int
    unmapped: tuple[str, ...]
    contract: ModelContract | None


def convert_tf1(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    data: str | os.PathLike[str] | None = None,
    aligned: bool = False,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ConvertedModel:
    """Convert a TensorFlow 1 checkpoint of a ResFace, with or without an uncertainty head. TensorFlow is not needed.

    Without ``data`` the model has no thresholds and no quality scale yet: ``verify`` and ``embed`` ask for them.

    Args:
        checkpoint: the folder of the checkpoint, or its prefix.
        out: folder for the model.
        name: of the model; the folder's if not given.
        data: images to measure thresholds and quality on, of people who trained neither, one folder a person; or LFW,
            with its ``people.txt``.
        aligned: the images of ``data`` are aligned faces already.
        cache: folder of cached faces and features; the user's cache folder if not given.
        progress: called as faces are found and features computed.

    Raises:
        ModelNotFound: no checkpoint there.
        ModelError: damaged, or no ResFace (what is missing or has another shape is named).
        InvalidValue: ``data`` for a checkpoint without head. Nothing has been written then.
        DataError, InsufficientData: too few people in ``data`` to measure anything.
        StorageError: the folder or the cache cannot be written.
    """
    source, folder = Path(checkpoint), Path(out)
    model = read_tf1(source)
    if data is not None and model.head is None:
        raise InvalidValue(
            f"data {os.fspath(data)!r}: measure an uncertainty head, and checkpoint {source} has none; "
            "convert it without data, then train a head (probface train head)"
        )
    backbone = write_backbone(model.network, model.architecture, model.architecture.input, folder)
    contract = None
    if model.head is not None:
        contract = write_paper_head(
            backbone,
            model.head,
            name=name or folder.name,
            fusion=model.fusion,
            trained_on=f"converted from the TensorFlow 1 checkpoint {source.name}; its training data are not known",
            folder=folder,
        )
    if data is not None:
        contract = calibrate_folder(folder, data, aligned=aligned, cache=cache, progress=progress)
    return ConvertedModel(folder, model.architecture, model.fusion, model.outputs, model.unmapped, contract)
