"""IResNet-18, -50 and -100: the residual networks that InsightFace trains, under InsightFace's weight names.

    stem      conv 3x3 - BN - PReLU, at the size of the image
    block     shortcut(x) + BN(conv(PReLU(BN(conv(BN(x))))))       3x3; the second convolution strides
    shortcut  x, or BN(conv 1x1 with stride 2) in the first block of each stage
    tail      BN - flatten in (channel, height, width) order - fully connected with bias - BN with scale 1

A state dict of ``recognition/arcface_torch`` of deepinsight/insightface loads with ``strict=True``. Its
faces are 112 x 112 RGB, scaled by ``(pixel - 127.5) / 127.5``.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from probface.errors import InvalidValue
from probface.nn.face_network import FaceFeatures

BLOCKS = MappingProxyType({18: (2, 2, 2, 2), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)})
"""Depth -> residual blocks of each stage."""
CHANNELS = (64, 128, 256, 512)
"""Of the stages at width 1; the stem has as many as the first."""
SIZE = (112, 112)
LAST_RESOLUTION = 7
"""Pixels each way after four halvings; the fully connected layer fixes it."""
BATCH_NORM_EPSILON = 1e-5
INITIAL_SPREAD = 0.1
"""Standard deviation of convolution weights, of mean 0."""

Depth = Literal[18, 50, 100]


class IResNet(nn.Module):
    """One of the IResNets. The stages are the outputs of ``layer1`` to ``layer4``: 56, 28, 14 and 7 pixels wide.

    Args:
        depth: 18, 50 or 100.
        width: multiplies the channels; the result is rounded.
        dim: D, length of the embedding.

    Raises:
        InvalidValue: another depth, or a width that leaves no channel.
    """

    def __init__(self, depth: Depth, *, width: float = 1.0, dim: int = 512) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise InvalidValue(
                f"IResNet depth {depth}: no such network here; choose one of {', '.join(map(str, BLOCKS))}"
            )
        if not 0.5 < CHANNELS[0] * width < math.inf:
            raise InvalidValue(f"IResNet width {width}: must leave at least one channel; InsightFace has 1.0")
        self.dim, self.size = dim, SIZE
        self.channels = tuple(round(channels * width) for channels in CHANNELS)
        c1, c2, c3, c4 = self.channels
        n1, n2, n3, n4 = BLOCKS[depth]
        # Attributes are named, and made in the order, of InsightFace's state dicts.
        self.conv1 = _convolution(3, c1, 3)
        self.bn1 = _batch_norm(c1)
        self.prelu = nn.PReLU(c1)
        self.layer1 = _stage(c1, c1, n1)
        self.layer2 = _stage(c1, c2, n2)
        self.layer3 = _stage(c2, c3, n3)
        self.layer4 = _stage(c3, c4, n4)
        self.bn2 = _batch_norm(c4)
        self.fc = nn.Linear(c4 * LAST_RESOLUTION**2, dim)
        self.features = nn.BatchNorm1d(dim, eps=BATCH_NORM_EPSILON)
        # Fixed at 1, so that all dimensions have the same spread and the cosine weighs them alike.
        self.features.weight.requires_grad_(False)

    def forward(self, images: Tensor) -> FaceFeatures:
        """(B, 3, 112, 112) float32, ``(pixel - 127.5) / 127.5``, to the four stages and the embedding."""
        x = self.prelu(self.bn1(self.conv1(images)))
        stages = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            stages.append(x)
        embedding = self.features(self.fc(torch.flatten(self.bn2(x), 1)))
        return FaceFeatures(embedding, tuple(stages))


class ResidualBlock(nn.Module):
    """``shortcut(x) + BN(conv(PReLU(BN(conv(BN(x))))))``, with no activation after the sum.

    Args:
        inputs: channels of x.
        outputs: channels of the result.
        stride: 1, or 2 to halve the resolution; then the shortcut is projected, too.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = _batch_norm(inputs)
        self.conv1 = _convolution(inputs, outputs, 3)
        self.bn2 = _batch_norm(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = _convolution(outputs, outputs, 3, stride)
        self.bn3 = _batch_norm(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1:
            self.downsample = nn.Sequential(_convolution(inputs, outputs, 1, stride), _batch_norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        residual: Tensor = self.bn3(self.conv2(inner))
        return residual + (x if self.downsample is None else self.downsample(x))


def iresnet(depth: Depth, *, width: float = 1.0, dim: int = 512) -> IResNet:
    """An IResNet of (B, 3, 112, 112) faces with new weights; InsightFace's own has ``width=1`` and ``dim=512``.

    Raises:
        InvalidValue: another depth, or a width that leaves no channel.
    """
    return IResNet(depth, width=width, dim=dim)


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    following = (ResidualBlock(outputs, outputs) for _ in range(blocks - 1))
    return nn.Sequential(ResidualBlock(inputs, outputs, stride=2), *following)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.normal_(convolution.weight, std=INITIAL_SPREAD)
    return convolution


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON)
