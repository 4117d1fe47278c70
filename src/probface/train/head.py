"""From a frozen face network and a folder of faces to one ONNX file with ``mu`` and ``sigma_sq``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probface.contract import InputSpec, ModelContract
from probface.export.model_folder import HEAD_WEIGHTS, write_head
from probface.models.head_weights import HeadWeights
from probface.models.registry import TRAINED_MODEL, resolve_backbone
from probface.models.weights import writable_cache_folder
from probface.nn.uncertainty_head import UncertaintyHead
from probface.storage import storage_errors
from probface.train.config import HeadRecipe, read_recipe
from probface.train.data import split
from probface.train.features import Progress
from probface.train.fit import StepLog, fit_head
from probface.train.log import write_provenance
from probface.train.processes import Device, processes, provider_here
from probface.train.workshop import Workshop


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """What :func:`train_head` made.

    Attributes:
        model: the grafted ONNX file.
        weights: the head alone, safetensors.
        contract: what the model says of itself.
        images: how many images trained.
        failed: how many images had no usable face.
    """

    model: Path
    weights: Path
    contract: ModelContract
    images: int
    failed: int


def train_head(
    backbone: str | os.PathLike[str],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] | HeadRecipe | None = None,
    resume: bool = False,
    cache: str | os.PathLike[str] | None = None,
    input_spec: InputSpec | None = None,
    embedding: str | None = None,
    licence: str = "unknown",
    provider: str = "cpu",
    device: Device = "cpu",
    progress: Progress | None = None,
    on_log: Callable[[StepLog], None] | None = None,
) -> TrainedHead:
    """Train an uncertainty head for any ONNX face model, and graft it on.

    Under ``torchrun`` every process calls this, with a recipe whose features are live; the first one writes.

    Args:
        backbone: a name from ``probface models list`` or an .onnx file; its weights stay as they are.
        data: the folder of images, laid out as the recipe says (one folder a person, by default).
        out: folder for ``model.onnx``, ``head.safetensors``, ``recipe.json``, ``log.jsonl`` and checkpoints.
        recipe: a TOML file, the name of a shipped recipe, or a recipe; the default recipe if not given.
        resume: go on from the last checkpoint in ``out``.
        cache: folder of cached features; the user's cache folder if not given.
        input_spec: how the backbone takes a face, where the guess from its graph is wrong.
        embedding: name of the backbone's output that is the embedding, where several could be.
        licence: SPDX name of the backbone's licence, for the contract.
        provider: where the backbone runs.
        device: where the head learns: ``cpu``, ``cuda`` or ``auto``.
        progress: called as faces are found and features computed.
        on_log: called with each line of the training log.

    Raises:
        NotAFaceModel, ModelError: the backbone cannot be used.
        DataError, InsufficientData: the data are not as the recipe needs them.
        StorageError: ``out`` or the cache cannot be written.
        TrainingError: training cannot go on.
    """
    config, folder = _recipe(recipe), Path(out)
    frozen = resolve_backbone(backbone, embedding=embedding)
    place = Path(cache) if cache else writable_cache_folder() / "train"
    workshop = Workshop.open(frozen, config, place, input_spec, provider_here(provider))
    people = split(Path(data), config.data)
    with storage_errors(folder):  # told now, and not when the features are there
        folder.mkdir(parents=True, exist_ok=True)
    with processes(device=device) as fabric:
        source, left_out = workshop.source(people, fabric, progress)
        head = fit_head(
            source,
            config,
            folder,
            left_out=left_out,
            resume=resume,
            progress=on_log,
            rank=fabric.global_rank,
            device=fabric.device,
        ).cpu()
        weights = _weights(head, workshop.contract(people, licence))
        if fabric.global_rank == 0:
            weights = workshop.calibrated(weights, people, progress)
            write_provenance(folder, config)
            write_head(frozen, weights, folder)
    return TrainedHead(
        folder / TRAINED_MODEL, folder / HEAD_WEIGHTS, weights.contract, len(source.people), len(left_out)
    )


def _recipe(recipe: str | os.PathLike[str] | HeadRecipe | None) -> HeadRecipe:
    if isinstance(recipe, HeadRecipe):
        return recipe
    return HeadRecipe("head") if recipe is None else read_recipe(recipe)


def _weights(head: UncertaintyHead, contract: ModelContract) -> HeadWeights:
    arrays: dict[str, NDArray[np.float32]] = {
        name: tensor.detach().cpu().numpy() for name, tensor in head.state_dict().items()
    }
    return HeadWeights.of(arrays, contract)
