"""Training state on disk: safetensors plus JSON, written whole or not at all, the last two kept."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from probface.errors import TrainingError
from probface.storage import replacing
from probface.train.config import HeadRecipe

KEEP = 2
_NAME = re.compile(r"checkpoint-(\d{7})\.safetensors")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where training stands.

    Attributes:
        step: how many steps are done.
        head: the state of the head.
        momentum: SGD's buffer of each parameter, by its name.
    """

    step: int
    head: dict[str, Tensor]
    momentum: dict[str, Tensor]


def save(folder: Path, step: int, head: nn.Module, optimiser: torch.optim.SGD, recipe: HeadRecipe) -> None:
    """Write the state after ``step`` steps, then drop all but the last two; raises StorageError."""
    tensors = {f"head.{name}": tensor.contiguous() for name, tensor in head.state_dict().items()}
    for name, parameter in head.named_parameters():
        buffer = optimiser.state[parameter].get("momentum_buffer")
        if buffer is not None:
            tensors[f"momentum.{name}"] = buffer
    metadata = {"step": str(step), "recipe": recipe.to_json()}
    with replacing(folder / f"checkpoint-{step:07d}.safetensors") as temporary:
        temporary.write_bytes(serialise(tensors, metadata))  # save_file's own error on a full disk is no OSError
    for old in _found(folder)[:-KEEP]:
        old.unlink()


def latest(folder: Path, recipe: HeadRecipe) -> Checkpoint | None:
    """Read the newest state; None where there is none.

    Raises:
        TrainingError: it was made by another recipe (the first difference is named), or is no checkpoint.
    """
    found = _found(folder)
    if not found:
        return None
    try:
        with safe_open(found[-1], framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, OSError) as error:
        raise TrainingError(
            f"checkpoint {found[-1]}: cannot be read ({error}); delete it to use the one before"
        ) from error
    if metadata["recipe"] != recipe.to_json():
        raise TrainingError(
            f"checkpoint {found[-1]}: made by another recipe ({_difference(metadata['recipe'], recipe.to_json())}); "
            "resume with the recipe it was begun with, or train into another folder"
        )
    return Checkpoint(int(metadata["step"]), _part(tensors, "head."), _part(tensors, "momentum."))


def restore(checkpoint: Checkpoint, head: nn.Module, optimiser: torch.optim.SGD) -> None:
    """Put a state back into a head and its optimiser."""
    head.load_state_dict(checkpoint.head)
    for name, parameter in head.named_parameters():
        if name in checkpoint.momentum:
            optimiser.state[parameter]["momentum_buffer"] = checkpoint.momentum[name].clone()


def _found(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("checkpoint-*.safetensors") if _NAME.fullmatch(path.name))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _difference(old: str, new: str) -> str:
    before, after = _flat(json.loads(old)), _flat(json.loads(new))
    key = next(key for key in sorted({*before, *after}) if before.get(key) != after.get(key))
    return f"{key} was {before.get(key)!r}, is {after.get(key)!r}"


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    """Nested tables as one, the keys joined by dots."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, object] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return flat
