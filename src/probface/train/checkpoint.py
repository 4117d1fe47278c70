"""Training state on disk: safetensors plus JSON, written whole or not at all, the last two kept.

checkpoint-0000500.safetensors           what all processes share; its presence says that the state is complete
checkpoint-0000500.part0of2.safetensors  what each process holds alone (its run of the classes), if anything
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from probface.errors import TrainingError
from probface.storage import replacing
from probface.train.recipe import Recipe

KEEP = 2
_NAME = re.compile(r"checkpoint-(\d{7})\.safetensors")
_PART = re.compile(r"checkpoint-(\d{7})\.part(\d+)of(\d+)\.safetensors")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where training stands.

    Attributes:
        step: how many steps are done.
        weights: the state of the module.
        momentum: SGD's buffer of each parameter, by its name.
        parts: what the processes hold alone, (weights, momentum) of each; empty if they hold nothing.
    """

    step: int
    weights: dict[str, Tensor]
    momentum: dict[str, Tensor]
    parts: tuple[tuple[dict[str, Tensor], dict[str, Tensor]], ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run is made from; a state of another origin is not gone on with.

    Attributes:
        recipe: of the run.
        images: digest of the training images' people, and of the frozen backbone where there is one; None where that
            is not to be compared.
    """

    recipe: Recipe
    images: str | None = None


def save(folder: Path, step: int, module: nn.Module, optimiser: torch.optim.Optimizer, origin: Origin) -> None:
    """Write the state after ``step`` steps, then drop all but the last two; raises StorageError.

    States of later steps are dropped, too: an earlier run into the same folder left them.
    """
    path = folder / f"checkpoint-{step:07d}.safetensors"
    _write(path, step, module, optimiser, origin)
    kept = [found.stem for found in _found(folder) if found.name <= path.name][-KEEP:]
    for other in folder.glob("checkpoint-*.safetensors"):
        known = _NAME.fullmatch(other.name) or _PART.fullmatch(other.name)
        if known and f"checkpoint-{known[1]}" not in kept:
            other.unlink()


def save_part(
    folder: Path,
    step: int,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    origin: Origin,
    *,
    rank: int,
    ranks: int,
) -> None:
    """Write what one process holds alone; all parts must be there before :func:`save` is called."""
    if rank == 0:  # a run of another number of processes may have been killed at this very step
        for stale in folder.glob(f"checkpoint-{step:07d}.part*.safetensors"):
            if not stale.name.endswith(f"of{ranks}.safetensors"):
                stale.unlink()
    _write(folder / f"checkpoint-{step:07d}.part{rank}of{ranks}.safetensors", step, module, optimiser, origin)


def latest(folder: Path, origin: Origin) -> Checkpoint | None:
    """Read the newest state; None where there is none.

    Raises:
        TrainingError: it was made by another recipe (the first difference is named), from other images or for another
            backbone, or is no checkpoint.
    """
    found = _found(folder)
    if not found:
        return None
    tensors, metadata = _read(found[-1])
    difference = _difference(metadata["recipe"], origin.recipe.to_json())
    if difference is not None:
        raise TrainingError(
            f"checkpoint {found[-1]}: made by another recipe ({difference}); "
            "resume with the recipe it was begun with, or train into another folder"
        )
    if origin.images is not None and metadata["images"] != origin.images:
        raise TrainingError(
            f"checkpoint {found[-1]}: made from other people's images, or for another backbone; resume with those it "
            "was begun with, or train into another folder"
        )
    parts = [_read(path) for path in _parts_of(found[-1])]
    if any(other != metadata for _, other in parts):
        raise TrainingError(f"checkpoint {found[-1]}: its parts are of another run; delete it to use the one before")
    return Checkpoint(int(metadata["step"]), *_split(tensors), tuple(_split(part) for part, _ in parts))


def begin(folder: Path, origin: Origin, *, resume: bool) -> Checkpoint | None:
    """The state that a run goes on from, or None where it begins anew.

    Raises:
        TrainingError: the folder holds states of another recipe, other images or another backbone, which a new run
            would delete; or, on ``resume``, as :func:`latest`.
    """
    if resume:
        return latest(folder, origin)
    try:
        latest(folder, origin)
    except TrainingError as error:
        raise TrainingError(
            f"{folder}: holds another run ({error}); train into another folder, or delete its checkpoints"
        ) from error
    return None


def restore(
    weights: Mapping[str, Tensor], momentum: Mapping[str, Tensor], module: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    """Put a state back into a module and its optimiser.

    Raises:
        TrainingError: the state is of another architecture (the first difference is named).
    """
    own = module.state_dict()
    for name in (*own, *weights):
        shapes = [tuple(state[name].shape) if name in state else "missing" for state in (weights, own)]
        if shapes[0] != shapes[1]:
            raise TrainingError(
                f"checkpoint: {name!r} is {shapes[0]}, must be {shapes[1]}; resume with the architecture it was begun "
                "with, or train into another folder"
            )
    module.load_state_dict(weights)
    for name, parameter in module.named_parameters():
        if name in momentum:
            optimiser.state[parameter]["momentum_buffer"] = momentum[name].to(parameter.device, copy=True)


def joined(parts: Sequence[dict[str, Tensor]], first: int, last: int) -> dict[str, Tensor]:
    """Rows ``first`` to ``last`` of the tensors whose rows are divided over the parts, however many these are."""
    if not parts:
        return {}
    return {name: torch.cat([part[name] for part in parts])[first:last] for name in parts[0]}


def _write(path: Path, step: int, module: nn.Module, optimiser: torch.optim.Optimizer, origin: Origin) -> None:
    tensors = {f"module.{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        buffer = optimiser.state[parameter].get("momentum_buffer")
        if buffer is not None:
            tensors[f"momentum.{name}"] = buffer.contiguous()
    bad = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
    if bad is not None:
        raise TrainingError(f"step {step}: {bad} is not finite; train anew with a lower lr, into another folder")
    metadata = {"step": str(step), "recipe": origin.recipe.to_json(), "images": origin.images or ""}
    with replacing(path) as temporary:
        temporary.write_bytes(serialise(tensors, metadata))  # save_file's own error on a full disk is no OSError


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"checkpoint {path}: cannot be read ({error}); delete it to use the one before") from error
    if not {"step", "recipe", "images"} <= metadata.keys():
        raise TrainingError(f"checkpoint {path}: holds no state of training; delete it to use the one before")
    return tensors, metadata


def _parts_of(path: Path) -> list[Path]:
    matches = [_PART.fullmatch(part.name) for part in path.parent.glob(f"{path.stem}.part*.safetensors")]
    numbered = sorted((int(match[2]), int(match[3]), match[0]) for match in matches if match)
    ranks = max((of for _, of, _ in numbered), default=0)
    if [(number, of) for number, of, _ in numbered] != [(number, ranks) for number in range(ranks)]:
        raise TrainingError(f"checkpoint {path}: its parts are not complete; delete it to use the one before")
    return [path.parent / name for _, _, name in numbered]


def _found(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("checkpoint-*.safetensors") if _NAME.fullmatch(path.name))


def _split(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return _part(tensors, "module."), _part(tensors, "momentum.")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _difference(old: str, new: str) -> str | None:
    """The first key whose values differ; 1 and 1.0 do not."""
    before, after = _flat(json.loads(old)), _flat(json.loads(new))
    for key in sorted({*before, *after}):
        if key not in before or key not in after:
            return f"{key} is {'gone' if key in before else 'new'}"
        if before[key] != after[key]:
            return f"{key} was {before[key]!r}, is {after[key]!r}"
    return None


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    """Nested tables as one, the keys joined by dots."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, object] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return flat
