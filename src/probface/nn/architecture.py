"""Which backbone: a name and three numbers, as recipes and saved weights state it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from torch import nn

from probface.contract import InputSpec
from probface.errors import InvalidValue
from probface.nn.backbones.iresnet import iresnet
from probface.nn.backbones.mobilefacenet import mobilefacenet
from probface.nn.backbones.resface import ResFace
from probface.nn.face_network import FaceNetwork

Arch = Literal["resface20", "resface36", "resface64", "iresnet18", "iresnet50", "iresnet100", "mobilefacenet"]

RESFACE_INPUT = InputSpec(96, 96, mean=128.0, scale=128.0)
"""The reference code's: 112 x 112 resized to 96 x 96, ``(x - 128) / 128``."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A torch backbone.

    Attributes:
        name: the family and its depth.
        width: multiplies the channels; 1 is the published network, 0.5 the paper's ResFace64(0.5).
        dim: D, the length of the embedding.
        dropout: before the embedding layer, in training; ResFace only.
    """

    name: Arch = "resface64"
    width: float = 1.0
    dim: int = 512
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in get_args(Arch):
            raise InvalidValue(f"architecture {self.name!r}: must be one of {', '.join(get_args(Arch))}")
        if not 0 < self.width <= 8 or self.dim < 2 or not 0 <= self.dropout < 1:
            raise InvalidValue(
                f"architecture width {self.width}, dim {self.dim}, dropout {self.dropout}: the width must be above 0 "
                "and 8 at most, dim 2 or more, dropout from 0 to below 1"
            )

        if self.dropout and not self.name.startswith("resface"):
            raise InvalidValue(f"architecture {self.name!r}: has no dropout here; set dropout to 0")

    @property
    def input(self) -> InputSpec:
        """How a face becomes its input, as the field trains it."""
        return RESFACE_INPUT if self.name.startswith("resface") else InputSpec()


def build_backbone(architecture: Architecture) -> FaceNetwork:
    """A backbone with fresh weights; also an ``nn.Module``."""
    name, width, dim = architecture.name, architecture.width, architecture.dim
    if name == "resface20" or name == "resface36" or name == "resface64":
        return ResFace(_depth(name), width=width, dim=dim, dropout=architecture.dropout)  # type: ignore[arg-type]
    if name == "mobilefacenet":
        return mobilefacenet(dim=dim, width=width)
    return iresnet(_depth(name), width=width, dim=dim)  # type: ignore[arg-type]


def as_module(network: FaceNetwork) -> nn.Module:
    """The same object, for callers that need torch's side of it."""
    return cast("nn.Module", network)


def _depth(name: str) -> int:
    return int("".join(filter(str.isdigit, name)))
