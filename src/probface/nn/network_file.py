"""A torch backbone on disk: safetensors, with its architecture and input in the metadata."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from probface.contract import InputSpec
from probface.errors import InvalidValue, ModelError, ModelNotFound
from probface.nn.architecture import Architecture, as_module, build_backbone
from probface.nn.face_network import FaceNetwork
from probface.schema import from_plain
from probface.storage import write_bytes

_ARCHITECTURE, _INPUT = "architecture", "input"


@dataclass(frozen=True, slots=True, eq=False)
class SavedNetwork:
    """What :func:`load_network` gives.

    Attributes:
        network: in evaluation mode.
        architecture: what it is.
        input: how a face becomes its input.
    """

    network: FaceNetwork
    architecture: Architecture
    input: InputSpec


def save_network(network: FaceNetwork, architecture: Architecture, spec: InputSpec, path: Path) -> None:
    """Write a backbone's weights whole or not at all; raises StorageError."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in as_module(network).state_dict().items()}
    metadata = {
        _ARCHITECTURE: json.dumps(dataclasses.asdict(architecture)),
        _INPUT: json.dumps(dataclasses.asdict(spec)),
    }
    write_bytes(path, serialise(tensors, metadata))


def load_network(path: str | os.PathLike[str], expected: Architecture | None = None) -> SavedNetwork:
    """Read a backbone.

    Args:
        path: a file of :func:`save_network`.
        expected: the architecture that the caller needs; any if not given.

    Raises:
        ModelNotFound: no such file.
        ModelError: not such a file, or of another architecture (what differs is named).
    """
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        architecture = from_plain(Architecture, json.loads(metadata[_ARCHITECTURE]), _ARCHITECTURE)
        spec = from_plain(InputSpec, json.loads(metadata[_INPUT]), _INPUT)
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path}: no such file of weights; check the path") from error
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError, InvalidValue) as error:
        raise ModelError(f"{path}: no backbone that ProbFace saved ({error}); give backbone.safetensors") from error
    different = differences(architecture, expected) if expected is not None else ""
    if different:
        raise ModelError(f"{path}: {different}; give weights of that architecture")
    network = build_backbone(architecture)
    load_weights(network, tensors, str(path))
    return SavedNetwork(network, architecture, spec)


def load_weights(network: FaceNetwork, tensors: dict[str, Tensor], where: str) -> None:
    """Put weights into a network, all of them, and leave it in evaluation mode.

    Raises:
        ModelError: a tensor is missing, too much, or of another shape; the first is named.
    """
    own = as_module(network).state_dict()
    for name in (*own, *tensors):
        if name not in tensors:
            raise ModelError(f"{where}: {name!r} is missing; give weights of this architecture")
        if name not in own:
            raise ModelError(f"{where}: {name!r} belongs to another architecture; give weights of this one")
        if own[name].shape != tensors[name].shape:
            raise ModelError(
                f"{where}: {name!r} has shape {tuple(tensors[name].shape)}, must be {tuple(own[name].shape)}; give "
                "weights of this architecture"
            )
    as_module(network).load_state_dict(tensors)
    as_module(network).eval()


def differences(found: Architecture, expected: Architecture) -> str:
    """What differs, in words: ``width is 0.5, must be 1.0``; not dropout, which has no weights."""
    before, after = dataclasses.asdict(found), dataclasses.asdict(expected)
    keys = [key for key in before if before[key] != after[key] and key != "dropout"]
    return ", ".join(f"{key} is {before[key]!r}, must be {after[key]!r}" for key in keys)
