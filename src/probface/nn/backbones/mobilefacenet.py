"""MobileFaceNet: InsightFace's small network of depthwise convolutions, under InsightFace's weight names.

    stem        conv 3x3 stride 2 - conv 3x3 in groups of two channels
    bottleneck  conv 1x1 - depthwise conv 3x3 - conv 1x1 without activation; x is added where the shape allows
    stages      for 28, 14 and 7 pixels: one bottleneck of stride 2, then 4, 6 and 2 residual ones
    tail        conv 1x1 - depthwise conv 7x7 without activation or padding - fully connected without bias - BN

Every convolution is followed by BatchNorm and, where not said otherwise, by PReLU. A state dict of ``get_mbf`` of
``recognition/arcface_torch`` of github.com/deepinsight/insightface loads with ``strict=True``. Its faces are 112 x 112
RGB, scaled by ``(pixel - 127.5) / 127.5``.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from probface.errors import InvalidValue
from probface.nn.face_network import FaceFeatures

BASE = 64
"""What all channels are multiples of at width 1; the stem has twice as many, the tail eight times."""
SIZE = (112, 112)
LAST_RESOLUTION = 7
"""Pixels each way after four halvings, which the depthwise convolution of the tail covers."""
STAGE_ENDS = (1, 3, 5)
"""Indices into ``layers`` of the last layer at 56, 28 and 14 pixels; at 7 pixels it is ``conv_sep``."""


class Layers(nn.Module):
    """Layers in a row, as ``layers`` of a module: InsightFace's weight names have that word at every level."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) through all layers."""
        out: Tensor = self.layers(x)
        return out


class Bottleneck(Layers):
    """1x1 to ``hidden`` channels, 3x3 on each of them, 1x1 to ``outputs`` channels.

    Args:
        inputs: channels of x.
        hidden: channels between.
        outputs: channels of the result.
        stride: of the 3x3 convolution. With 1 the result is added to x, so ``inputs`` and ``outputs`` must be equal.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            _convolution(inputs, hidden, 1),
            _convolution(hidden, hidden, 3, stride=stride, padding=1, groups=hidden),
            _convolution(hidden, outputs, 1, activation=False),
        )
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class MobileFaceNet(nn.Module):
    """MobileFaceNet with InsightFace's blocks (1, 4, 6, 2) and scale 2.

    The stages are the outputs of ``layers.1``, ``layers.3``, ``layers.5`` and ``conv_sep``, the last layers at 56, 28,
    14 and 7 pixels each way.

    Args:
        dim: D, length of the embedding.
        width: multiplies the base of 64 channels; the result is rounded.

    Raises:
        InvalidValue: a width that leaves no channel.
    """

    def __init__(self, *, dim: int = 512, width: float = 1.0) -> None:
        super().__init__()
        if not 0.5 < BASE * width < math.inf:
            raise InvalidValue(f"MobileFaceNet width {width}: must leave at least one channel; InsightFace has 1.0")
        base = round(BASE * width)
        c2, c4, c8 = 2 * base, 4 * base, 8 * base
        self.dim, self.size = dim, SIZE
        self.channels = (c2, c2, c4, c8)
        # Attributes are named, and made in the order, of InsightFace's state dicts.
        self.layers = nn.ModuleList(
            [
                _convolution(3, c2, 3, stride=2, padding=1),
                _convolution(c2, c2, 3, padding=1, groups=base),  # not depthwise: InsightFace did not scale the groups
                Bottleneck(c2, c2, c2, stride=2),
                Layers(*(Bottleneck(c2, c2, c2) for _ in range(4))),
                Bottleneck(c2, c4, c4, stride=2),
                Layers(*(Bottleneck(c4, c4, c4) for _ in range(6))),
                Bottleneck(c4, c8, c4, stride=2),
                Layers(*(Bottleneck(c4, c4, c4) for _ in range(2))),
            ]
        )
        self.conv_sep = _convolution(c4, c8, 1)
        self.features = Layers(
            _convolution(c8, c8, LAST_RESOLUTION, groups=c8, activation=False),
            nn.Flatten(),
            nn.Linear(c8, dim, bias=False),
            nn.BatchNorm1d(dim),
        )
        self.apply(_initialise)

    def forward(self, images: Tensor) -> FaceFeatures:
        """(B, 3, 112, 112) float32, ``(pixel - 127.5) / 127.5``, to the four stages and the embedding."""
        x, stages = images, []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in STAGE_ENDS:
                stages.append(x)
        x = self.conv_sep(x)
        stages.append(x)
        return FaceFeatures(self.features(x), tuple(stages))


def mobilefacenet(*, dim: int = 512, width: float = 1.0) -> MobileFaceNet:
    """A MobileFaceNet of (B, 3, 112, 112) faces with new weights; InsightFace's own has ``width=1`` and ``dim=512``.

    Raises:
        InvalidValue: a width that leaves no channel.
    """
    return MobileFaceNet(dim=dim, width=width)


def _convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    activation: bool = True,
) -> Layers:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs)  # torch's epsilon of 1e-5, as InsightFace has
    return Layers(convolution, norm, nn.PReLU(outputs)) if activation else Layers(convolution, norm)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
