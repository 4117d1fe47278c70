"""ResFace-20, -36 and -64: the paper's backbones, as the reference code computes them.

    stage     3x3 stride 2, then N residual blocks of two 3x3 convolutions, each with BatchNorm and ReLU
    blocks    x + f(x), nothing after the sum
    bottleneck   flatten in (height, width, channel) order - dropout - fully connected - BatchNorm

Channels are 64-128-256-512 at width 1. Convolutions are padded as TensorFlow pads and have no bias; BatchNorm has
epsilon 0.001 and decay 0.995. ResFace-64 is the reference code's; 20 and 36 come from the SphereFace and AM-Softmax
papers.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Literal

from torch import Tensor, nn

from probface.contract import BATCH_NORM_EPSILON
from probface.errors import InvalidValue
from probface.nn.face_network import FaceFeatures
from probface.nn.layer_fusion import flatten_stage
from probface.nn.same_convolution import SameConvolution
from probface.nn.uncertainty_head import BATCH_NORM_MOMENTUM

BLOCKS = MappingProxyType({20: (1, 2, 4, 1), 36: (2, 4, 8, 2), 64: (3, 8, 16, 3)})
"""Depth -> residual blocks of each stage."""
CHANNELS = (64, 128, 256, 512)
"""Of the stages at width 1."""
INITIAL_SPREAD = 0.01
"""Of the weights inside residual blocks, drawn from a normal distribution cut at two standard deviations."""

Depth = Literal[20, 36, 64]


class ResFace(nn.Module):
    """One of the ResFace networks.

    Args:
        depth: 20, 36 or 64.
        width: multiplies the channels; the result is rounded.
        dim: D, length of the embedding.
        size: (height, width) of the faces in pixels.
        dropout: share of the flattened features dropped in training, before the bottleneck.

    Raises:
        InvalidValue: another depth, or a width that leaves no channel.
    """

    def __init__(
        self,
        depth: Depth = 64,
        *,
        width: float = 1.0,
        dim: int = 512,
        size: tuple[int, int] = (96, 96),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise InvalidValue(f"ResFace depth {depth}: must be one of {', '.join(map(str, BLOCKS))}")
        if not 0.5 < CHANNELS[0] * width < math.inf:
            raise InvalidValue(f"ResFace width {width}: must leave at least one channel; the reference has 1.0 and 0.5")
        self.dim, self.size = dim, size
        self.channels = tuple(round(channels * width) for channels in CHANNELS)
        inputs = (3, *self.channels[:-1])
        self.stages = nn.ModuleList(map(_stage, inputs, self.channels, BLOCKS[depth]))
        height, wide = size
        for _ in self.channels:
            height, wide = -(-height // 2), -(-wide // 2)
        self.dropout = nn.Dropout(dropout)
        self.bottleneck = nn.Linear(height * wide * self.channels[-1], dim, bias=False)
        self.bottleneck_norm = nn.BatchNorm1d(dim, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)
        nn.init.xavier_uniform_(self.bottleneck.weight)

    def forward(self, images: Tensor) -> FaceFeatures:
        """(B, 3, height, width) float32, ``(pixel - 128) / 128``, to the four stages and the embedding."""
        stages = []
        for stage in self.stages:
            images = stage(images)
            stages.append(images)
        embedding = self.bottleneck_norm(self.bottleneck(self.dropout(flatten_stage(images))))
        return FaceFeatures(embedding, tuple(stages))


class ResidualBlock(nn.Module):
    """``x + relu(BN(conv(relu(BN(conv(x))))))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = _convolution(channels, channels)
        for weight in (self.first.get_parameter("0.weight"), self.second.get_parameter("0.weight")):
            nn.init.trunc_normal_(weight, std=INITIAL_SPREAD, a=-2 * INITIAL_SPREAD, b=2 * INITIAL_SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        residual: Tensor = self.second(self.first(x))
        return x + residual


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(_convolution(inputs, outputs, stride=2), *(ResidualBlock(outputs) for _ in range(blocks)))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = SameConvolution(inputs, outputs, stride=stride)
    nn.init.xavier_uniform_(convolution.weight)
    norm = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)
    return nn.Sequential(convolution, norm, nn.ReLU())
