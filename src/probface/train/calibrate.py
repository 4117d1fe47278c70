"""Thresholds and quality for a model that came without: a converted checkpoint, measured on people it never saw."""

from __future__ import annotations

import os
from pathlib import Path

from probface.contract import ModelContract
from probface.export.model_folder import HEAD_WEIGHTS, write_head
from probface.models.head_weights import load_head
from probface.models.registry import resolve_backbone
from probface.models.taps import EMBEDDING, FLATTEN, GAP
from probface.models.weights import writable_cache_folder
from probface.train.config import DataConfig, HeadConfig, HeadRecipe
from probface.train.data import split
from probface.train.features import Progress
from probface.train.workshop import Workshop

EVERYBODY = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


def calibrate_folder(
    folder: Path,
    data: str | os.PathLike[str],
    *,
    aligned: bool = False,
    cache: str | os.PathLike[str] | None = None,
    provider: str = "cpu",
    progress: Progress | None = None,
) -> ModelContract:
    """Measure the thresholds, the quality scale and the score distributions of a model, and write them into it.

    Args:
        folder: with ``backbone.onnx`` and ``head.safetensors``; the latter and ``model.onnx`` are written anew.
        data: images of people who trained neither, one folder a person; or LFW, with its ``people.txt``.
        aligned: the images are aligned faces already.
        cache: folder of cached faces and features; the user's cache folder if not given.
        provider: where the backbone runs.
        progress: called as faces are found and features computed.

    Raises:
        ModelNotFound, ModelError: the folder holds no such model.
        DataError, InsufficientData: too few people to measure anything.
        StorageError: the folder or the cache cannot be written.
    """
    backbone, head = resolve_backbone(folder), load_head(folder / HEAD_WEIGHTS)
    kinds = {feature.partition(":")[0] for feature in head.contract.features}
    reads = HeadConfig(fusion=GAP in kinds, flatten_last=FLATTEN in kinds, embedding=EMBEDDING in kinds)
    lfw = (Path(data) / "people.txt").is_file()
    people = DataConfig("lfw" if lfw else "folders", train_folds=(), calibration_folds=EVERYBODY, aligned=aligned)
    recipe = HeadRecipe(head.contract.name, data=people, head=reads)
    place = Path(cache) if cache else writable_cache_folder() / "train"
    workshop = Workshop.open(backbone, recipe, place, None, provider)
    calibrated = workshop.calibrated(head, split(Path(data), people), progress)
    write_head(backbone, calibrated, folder)
    return calibrated.contract
