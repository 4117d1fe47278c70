"""Small face networks with random weights, exported from torch while the tests run."""

from __future__ import annotations

import io
import warnings

import onnx
import torch
from torch import Tensor, nn


class IRBlock(nn.Module):
    """BN - conv - BN - PReLU - conv - BN, and a shortcut: the block of InsightFace's ResNets."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.shortcut(x)


class IResNet(nn.Module):
    """112 x 112, D = 64; the last activations are 112, 56, 28 and 14 pixels wide, with 8, 12, 16 and 24 channels.

    ``pinned`` reshapes to a batch of 1 inside, as careless exports do.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8))
        self.body = nn.Sequential(IRBlock(8, 8), IRBlock(8, 12), IRBlock(12, 16), IRBlock(16, 24))
        self.tail = nn.Sequential(nn.Linear(24 * 7 * 7, 64), nn.BatchNorm1d(64))
        self.pinned = pinned

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.tail(x.reshape(1, -1) if self.pinned else x.flatten(1))


class MobileFaceNet(nn.Module):
    """112 x 96, D = 32, unit length; depthwise convolutions, linear bottlenecks, global depthwise convolution.

    The last activations are 56, 28 and 14 pixels high, with 24, 40 and 40 channels.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.PReLU(16)]
        for inputs, hidden, outputs in ((16, 16, 12), (12, 24, 12), (12, 40, 20)):
            stride = 1 if hidden == 16 else 2
            layers += [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.PReLU(hidden)]
            layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden)]
            layers += [nn.PReLU(hidden), nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.Conv2d(20, 20, (14, 12), groups=20, bias=False), nn.BatchNorm2d(20), nn.Conv2d(20, 32, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(self.layers(x).flatten(1))


def export(network: nn.Module, size: tuple[int, int]) -> bytes:
    """ONNX bytes of a network, at batch 1, its batch norms given statistics of their own."""
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
        torch.onnx.export(network.eval(), (torch.zeros(1, 3, *size),), buffer, dynamo=False)
    return buffer.getvalue()


def anonymous(data: bytes) -> bytes:
    """The same graph with numbers for names."""
    model = onnx.load_model_from_string(data)
    numbers: dict[str, str] = {"": ""}

    def number(name: str) -> str:
        return numbers.setdefault(name, str(len(numbers)))

    for node in model.graph.node:
        node.name = ""
        node.input[:] = [number(name) for name in node.input]
        node.output[:] = [number(name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = number(value.name)
    del model.graph.value_info[:]
    return model.SerializeToString()


def export_all() -> dict[str, bytes]:
    """A ResNet without names; a MobileFaceNet with unit output; a ResNet that takes a batch of 1 alone."""
    torch.manual_seed(11)
    return {
        "resnet": anonymous(export(IResNet(), (112, 112))),
        "mobilefacenet": export(MobileFaceNet(), (112, 96)),
        "pinned": export(IResNet(pinned=True), (112, 112)),
    }
