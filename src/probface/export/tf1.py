"""The authors' checkpoints into our networks: TensorFlow's names to ours.

    SCOPE/Conv{s}/Conv{s}_pre                        first convolution of stage s
    SCOPE/Conv{s}/Conv_{s}/Conv_{s}_{b}/Conv[_1]     both convolutions of block b
    SCOPE/Bottleneck                                 the embedding layer
    HEAD/fc1, HEAD/fc_log_sigma_sq, HEAD/scale_and_shift/{alpha, gamma}   the uncertainty head

Each layer has ``weights`` and ``BatchNorm/{beta, gamma, moving_mean, moving_variance}``. TensorFlow keeps convolutions
as (height, width, in, out) and matrices as (in, out). Depth, width, fusion and the number of outputs follow from the
shapes. Optimiser slots are passed over; what else finds no place is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from probface.errors import ModelError
from probface.export.tf1_bundle import Bundle, read_bundle
from probface.nn.architecture import Architecture, build_backbone
from probface.nn.backbones.resface import BLOCKS, CHANNELS
from probface.nn.face_network import FaceNetwork
from probface.nn.network_file import load_weights
from probface.types import FloatArray

_SLOTS = re.compile(
    r".*/(Momentum|Adam|RMSProp|Adagrad|Adadelta|Ftrl|ExponentialMovingAverage)(_\d+)?|(.*/)?beta\d_power(_\d+)?"
)
_COUNTERS = re.compile(r"(.*/)?global_step")
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


@dataclass(frozen=True, slots=True, eq=False)
class Tf1Model:
    """A checkpoint, understood.

    Attributes:
        network: the backbone, in evaluation mode.
        architecture: what it is.
        head: the tensors of the uncertainty head by our names; None where the checkpoint has no head.
        fusion: whether the head reads the pooled stages, too.
        outputs: 1 or D; 0 without head.
        unmapped: variables that found no place, less the optimiser's.
    """

    network: FaceNetwork
    architecture: Architecture
    head: dict[str, FloatArray] | None
    fusion: bool
    outputs: int
    unmapped: tuple[str, ...]


def read_tf1(path: Path) -> Tf1Model:
    """Read a TensorFlow 1 checkpoint of a ResFace, with or without an uncertainty head.

    Args:
        path: the folder, or the checkpoint's prefix.

    Raises:
        ModelNotFound: no checkpoint there.
        ModelError: damaged, or no ResFace (what is missing or has another shape is named).
    """
    reader = _Variables(read_bundle(path))
    scope = reader.scope_of("Conv1/Conv1_pre/weights")
    blocks = tuple(reader.count_blocks(scope, stage) for stage in range(1, 5))
    depth = next((depth for depth, known in BLOCKS.items() if known == blocks), None)
    if depth is None:
        known = "; ".join(f"{depth}: {blocks}" for depth, blocks in BLOCKS.items())
        raise ModelError(f"{path}: {blocks} residual blocks in the stages, must be one of {known}; give a ResFace")
    *_, channels = reader.shape(f"{scope}Conv1/Conv1_pre/weights", 4)
    flat, dim = reader.shape(f"{scope}Bottleneck/weights", 2)
    architecture = Architecture(f"resface{depth}", channels / CHANNELS[0], dim)  # type: ignore[arg-type]
    network = build_backbone(architecture)
    tensors = {ours: torch.from_numpy(value) for ours, value in _backbone(reader, scope, blocks)}
    load_weights(network, tensors, str(path))
    head = _head(reader)
    if head is None:
        return Tf1Model(network, architecture, None, False, 0, reader.unmapped)
    features, outputs = head["fc1.weight"].shape[1], len(head["fc2.weight"])
    fused = flat + sum(network.channels)
    if features not in (flat, fused) or outputs not in (1, dim):
        raise ModelError(
            f"{path}: the head reads {features} features and gives {outputs}, must be {flat} (no fusion) or "
            f"{fused} (fusion), and 1 or D = {dim}; give a checkpoint of this network's own head"
        )
    return Tf1Model(network, architecture, head, features == fused, outputs, reader.unmapped)


def _backbone(reader: _Variables, scope: str, blocks: tuple[int, ...]) -> Iterator[tuple[str, FloatArray]]:
    for stage, count in enumerate(blocks, start=1):
        yield from _convolution(reader, f"stages.{stage - 1}.0", f"{scope}Conv{stage}/Conv{stage}_pre")
        for block in range(1, count + 1):
            place = f"{scope}Conv{stage}/Conv_{stage}/Conv_{stage}_{block}"
            yield from _convolution(reader, f"stages.{stage - 1}.{block}.first", f"{place}/Conv")
            yield from _convolution(reader, f"stages.{stage - 1}.{block}.second", f"{place}/Conv_1")
    yield "bottleneck.weight", reader.take(f"{scope}Bottleneck/weights", 2).T.copy()
    yield from _norm(reader, "bottleneck_norm", f"{scope}Bottleneck")


def _convolution(reader: _Variables, ours: str, theirs: str) -> Iterator[tuple[str, FloatArray]]:
    yield f"{ours}.0.weight", reader.take(f"{theirs}/weights", 4).transpose(3, 2, 0, 1).copy()
    yield from _norm(reader, f"{ours}.1", theirs)


def _norm(reader: _Variables, ours: str, theirs: str, *, affine: bool = True) -> Iterator[tuple[str, FloatArray]]:
    for name, variable in _NORM.items():
        if affine or name.startswith("running"):
            yield f"{ours}.{name}", reader.take(f"{theirs}/BatchNorm/{variable}", 1)
    yield f"{ours}.num_batches_tracked", np.zeros((), np.int64)


def _head(reader: _Variables) -> dict[str, FloatArray] | None:
    if not reader.has("fc_log_sigma_sq/weights"):
        return None
    scope = reader.scope_of("fc_log_sigma_sq/weights")
    fc1, fc2 = (
        reader.take(f"{scope}fc1/weights", 2).T.copy(),
        reader.take(f"{scope}fc_log_sigma_sq/weights", 2).T.copy(),
    )
    features = fc1.shape[1]
    return {
        "feature_mean": np.zeros(features, np.float32),
        "feature_scale": np.ones(features, np.float32),
        "fc1.weight": fc1,
        **dict(_norm(reader, "bn1", f"{scope}fc1")),
        "fc2.weight": fc2,
        **dict(_norm(reader, "bn2", f"{scope}fc_log_sigma_sq", affine=False)),
        "scale": reader.take(f"{scope}scale_and_shift/alpha", 0),
        "shift": reader.take(f"{scope}scale_and_shift/gamma", 0),
    }


class _Variables:
    """The variables of a checkpoint, and which of them were used."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._taken: set[str] = set()

    def has(self, ending: str) -> bool:
        return any(_ends(name, ending) for name in self._bundle.names)

    def scope_of(self, ending: str) -> str:
        """What stands before ``ending`` in the name of the only variable that ends so."""
        found = [name for name in self._bundle.names if _ends(name, ending)]
        if len(found) != 1:
            raise ModelError(
                f"{self._bundle.index}: {len(found)} variables named .../{ending}, must be one; give the checkpoint "
                "of one ResFace"
            )
        return found[0].removesuffix(ending)

    def count_blocks(self, scope: str, stage: int) -> int:
        pattern = re.compile(rf"{re.escape(scope)}Conv{stage}/Conv_{stage}/Conv_{stage}_(\d+)/Conv/weights")
        return sum(pattern.fullmatch(name) is not None for name in self._bundle.names)

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        if name not in self._bundle.names:
            raise ModelError(f"{self._bundle.index}: {name!r} is missing; give a checkpoint of a whole ResFace")
        shape = self._bundle.names[name].shape
        if len(shape) != rank:
            raise ModelError(f"{self._bundle.index}: {name!r} has shape {shape}, must have {rank} axes; give a ResFace")
        return shape

    def take(self, name: str, rank: int) -> FloatArray:
        self.shape(name, rank)
        self._taken.add(name)
        with np.errstate(over="ignore"):  # beyond float32 is not finite, and refused as that
            value: NDArray[np.float32] = self._bundle.read(name).astype(np.float32)
        if not np.isfinite(value).all():
            raise ModelError(f"{self._bundle.index}: {name!r} has values that are not finite; get another checkpoint")
        return value

    @property
    def unmapped(self) -> tuple[str, ...]:
        left = sorted(set(self._bundle.names) - self._taken)
        return tuple(name for name in left if not (_SLOTS.fullmatch(name) or _COUNTERS.fullmatch(name)))


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f"/{ending}")
