"""From a folder of faces to a recognition network: classification with a margin, on one process or many."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from probface.errors import DataError
from probface.export.model_folder import write_backbone
from probface.models.weights import writable_cache_folder
from probface.nn.architecture import as_module, build_backbone
from probface.nn.face_network import FaceNetwork
from probface.storage import storage_errors
from probface.train.backbone_config import BackboneRecipe, read_backbone_recipe
from probface.train.backbone_loop import BackboneLog, fit_backbone
from probface.train.data import crops_of, split
from probface.train.features import Progress
from probface.train.log import told, write_provenance
from probface.train.processes import Device, processes, seeded


@dataclass(frozen=True, slots=True)
class TrainedBackbone:
    """What :func:`train_backbone` made.

    Attributes:
        folder: with ``backbone.onnx``, ``backbone.safetensors``, the recipe, the log and checkpoints.
        images, identities: how many trained.
        failed: images left out, as (name, reason).
    """

    folder: Path
    images: int
    identities: int
    failed: tuple[tuple[str, str], ...]


def train_backbone(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] | BackboneRecipe = "base",
    resume: bool = False,
    cache: str | os.PathLike[str] | None = None,
    device: Device = "auto",
    progress: Progress | None = None,
    on_log: Callable[[BackboneLog], None] | None = None,
) -> TrainedBackbone:
    """Train a recognition network from nothing.

    Under ``torchrun`` every process calls this; the first one writes. On one process with one number of threads, the
    same recipe and data give the same weights bit for bit, also when the run was killed and resumed.

    Args:
        data: images, laid out as the recipe says.
        out: folder for the network, the log and checkpoints.
        recipe: a TOML file, the name of a shipped recipe, or a recipe.
        resume: go on from the last checkpoint in ``out``.
        cache: folder of aligned faces, where the images are not aligned yet; the user's cache folder if not given.
        device: ``cpu``, ``cuda`` or ``auto``.
        progress: called as faces are found.
        on_log: called with each line of the log.

    Raises:
        DataError: the data are not as the recipe needs them.
        StorageError: ``out`` cannot be written.
        TrainingError: training cannot go on (a loss that is not finite; another recipe on resume).
    """
    config = recipe if isinstance(recipe, BackboneRecipe) else read_backbone_recipe(recipe)
    folder = Path(out)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    spec, people = config.architecture.input, config.data.split()
    with processes(config.optimiser.precision, device) as fabric:
        place = Path(cache) if cache else writable_cache_folder() / "train"
        with fabric.rank_zero_first():
            crops, failed = crops_of(split(Path(data), people).training, people, spec, place, progress)
        if crops.classes < 2:
            raise DataError(f"{data}: one identity only; training tells identities apart, bring two or more")
        network = fit_backbone(crops, config, folder, fabric, left_out=told(failed), resume=resume, on_log=on_log)
        if fabric.global_rank == 0:
            write_provenance(folder, config)
            _exported(network, config, folder)
    return TrainedBackbone(folder, len(crops.people), crops.classes, failed)


def _exported(network: FaceNetwork, config: BackboneRecipe, folder: Path) -> None:
    """Write the network by the plain modules of its architecture: the ones trained may share batch norm over ranks."""
    with seeded(config.seed):  # its first weights are drawn, and replaced at once
        plain = build_backbone(config.architecture)
    as_module(plain).load_state_dict(as_module(network).cpu().state_dict())
    write_backbone(plain, config.architecture, config.architecture.input, folder)
