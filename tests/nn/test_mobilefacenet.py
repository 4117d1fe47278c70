"""MobileFaceNet against InsightFace's weight names and against its equations in numpy."""

import io
import math
import warnings
from collections.abc import Iterator

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from probface.errors import InvalidValue
from probface.nn.backbones.mobilefacenet import MobileFaceNet, mobilefacenet

Array = NDArray[np.float64]
Shapes = list[tuple[str, tuple[int, ...]]]

PARAMETERS = 2_059_520
"""Of InsightFace's ``get_mbf`` with 512 dimensions."""

# Bottlenecks in the order of the forward pass: name, channels before, between and after in units of 64, stride.
BOTTLENECKS = [
    ("layers.2", 2, 2, 2, 2),
    *((f"layers.3.layers.{i}", 2, 2, 2, 1) for i in range(4)),
    ("layers.4", 2, 4, 4, 2),
    *((f"layers.5.layers.{i}", 4, 4, 4, 1) for i in range(6)),
    ("layers.6", 4, 8, 4, 2),
    *((f"layers.7.layers.{i}", 4, 4, 4, 1) for i in range(2)),
]


def _convolution(name: str, *shape: int, prelu: bool = True) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.layers.0.weight", shape
    yield from _norm(f"{name}.layers.1", shape[0])
    if prelu:
        yield f"{name}.layers.2.weight", shape[:1]


def _norm(name: str, channels: int) -> Shapes:
    vectors = [(f"{name}.{part}", (channels,)) for part in ("weight", "bias", "running_mean", "running_var")]
    return [*vectors, (f"{name}.num_batches_tracked", ())]


def _listing(unit: int, dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """InsightFace's state dict, name by name, as its file ``mobilefacenet.py`` orders it, at ``unit=64``."""
    yield from _convolution("layers.0", 2 * unit, 3, 3, 3)
    yield from _convolution("layers.1", 2 * unit, 2, 3, 3)
    for name, before, between, after, _ in BOTTLENECKS:
        yield from _convolution(f"{name}.layers.0", between * unit, before * unit, 1, 1)
        yield from _convolution(f"{name}.layers.1", between * unit, 1, 3, 3)
        yield from _convolution(f"{name}.layers.2", after * unit, between * unit, 1, 1, prelu=False)
    yield from _convolution("conv_sep", 8 * unit, 4 * unit, 1, 1)
    yield from _convolution("features.layers.0", 8 * unit, 1, 7, 7, prelu=False)
    yield "features.layers.2.weight", (dim, 8 * unit)
    yield from _norm("features.layers.3", dim)


def _weights(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """A random number for every weight and statistic."""
    rng = np.random.default_rng(seed)

    def draw(name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
        if name.endswith("num_batches_tracked"):
            return np.array(3)
        if name.endswith("running_var"):
            return rng.uniform(0.1, 2.0, shape)
        if len(shape) > 1:
            return rng.normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape)
        return rng.uniform(0.1, 1.5, shape) if name.endswith("weight") else rng.normal(0, 0.5, shape)

    numbers = {name: torch.from_numpy(draw(name, shape)) for name, shape in shapes}
    return {name: value if value.dtype == torch.int64 else value.float() for name, value in numbers.items()}


def _network(seed: int = 0) -> tuple[MobileFaceNet, dict[str, torch.Tensor]]:
    network = mobilefacenet(dim=24, width=1 / 16)
    weights = _weights(list(_listing(4, 24)), seed)
    network.load_state_dict(weights, strict=True)
    return network.eval(), weights


def _settled(seed: int = 0) -> tuple[MobileFaceNet, dict[str, torch.Tensor]]:
    """With the statistics of a batch, so that activations stay near 1 and every layer shows in the embedding."""
    network, _ = _network(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(_faces(8, seed=1))
    return network.eval(), network.state_dict()


def _faces(count: int = 2, seed: int = 5) -> torch.Tensor:
    """Noise in tiles of 28 pixels: finer noise averages out on the way to the embedding."""
    tiles = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return tiles.repeat_interleave(28, 2).repeat_interleave(28, 3)


class ByHand:
    """The equations, straight from the names: float64, numpy, no layer of torch."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        self.weights = {name: value.double().numpy() for name, value in weights.items()}

    def conv(self, name: str, x: Array, stride: int = 1, padding: int = 0) -> Array:
        """Convolution, BatchNorm, and PReLU where the weights have one; as many groups as the shapes say."""
        kernel = self.weights[f"{name}.layers.0.weight"]
        outputs, per_group, side, _ = kernel.shape
        groups = x.shape[1] // per_group
        x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
        windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(2, 3))[:, :, ::stride, ::stride]
        windows = windows.reshape(len(x), groups, per_group, *windows.shape[2:])
        kernel = kernel.reshape(groups, outputs // groups, per_group, side, side)
        y = np.einsum("bgchwyx,gocyx->bgohw", windows, kernel, optimize=True)
        y = self.norm(f"{name}.layers.1", y.reshape(len(x), outputs, *y.shape[3:]))
        slope = self.weights.get(f"{name}.layers.2.weight")
        return y if slope is None else np.where(y > 0, y, slope[:, None, None] * y)

    def norm(self, name: str, x: Array) -> Array:
        scale, shift, mean, variance = (
            self.weights[f"{name}.{part}"].reshape(-1, *[1] * (x.ndim - 2))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return scale * (x - mean) / np.sqrt(variance + 1e-5) + shift

    def __call__(self, x: Array) -> tuple[Array, list[Array]]:
        x = self.conv("layers.1", self.conv("layers.0", x, 2, 1), 1, 1)
        by_width = {x.shape[3]: x}
        for name, *_, stride in BOTTLENECKS:
            y = self.conv(f"{name}.layers.1", self.conv(f"{name}.layers.0", x), stride, 1)
            y = self.conv(f"{name}.layers.2", y)
            x = y if stride == 2 else x + y
            by_width[x.shape[3]] = x
        x = self.conv("conv_sep", x)
        by_width[x.shape[3]] = x
        flat = self.conv("features.layers.0", x).reshape(len(x), -1)
        embedding = self.norm("features.layers.3", flat @ self.weights["features.layers.2.weight"].T)
        return embedding, [by_width[width] for width in (56, 28, 14, 7)]


def _agree(found: torch.Tensor, expected: Array) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("seed", [0, 1])
def test_formula(seed: int) -> None:
    network, weights = _settled(seed)
    embedding, stages = ByHand(weights)(_faces().double().numpy())
    assert np.ptp(embedding, axis=0).mean() > 0.1 * np.abs(embedding).max()  # the weights drawn let the image through
    found = network(_faces())
    _agree(found.embedding, embedding)
    for ours, theirs in zip(found.stages, stages, strict=True):
        _agree(ours, theirs)


def test_state_dict_is_insightfaces() -> None:
    with torch.device("meta"):
        network = mobilefacenet()
    listing = list(_listing(64, 512))
    assert [(name, tuple(value.shape)) for name, value in network.state_dict().items()] == listing
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(math.prod(shape) for name, shape in listing if not name.endswith(statistics)) == PARAMETERS
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS


def test_shapes() -> None:
    with torch.device("meta"):
        network = mobilefacenet(dim=256, width=0.5)
        found = network(torch.empty(3, 3, *network.size))
    assert found.embedding.shape == (3, network.dim) == (3, 256)
    shapes = [tuple(stage.shape) for stage in found.stages]
    assert shapes == [(3, 64, 56, 56), (3, 64, 28, 28), (3, 128, 14, 14), (3, 256, 7, 7)]
    assert network.channels == tuple(stage.shape[1] for stage in found.stages)


def test_loads_only_what_fits() -> None:
    network, weights = _network()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    with pytest.raises(RuntimeError, match=r"Missing key.*layers\.0\.[\s\S]*Unexpected key.*module\.layers\.0\."):
        network.load_state_dict({f"module.{name}": value for name, value in weights.items()})
    lost = "layers.7.layers.1.layers.2.layers.1.bias"
    with pytest.raises(RuntimeError, match=rf"Missing key.*{lost}"):
        network.load_state_dict({name: value for name, value in weights.items() if name != lost})
    with pytest.raises(RuntimeError, match=r"size mismatch for features\.layers\.2\.weight"):
        mobilefacenet(width=1 / 16, dim=25).load_state_dict(weights)


def test_where_it_starts() -> None:
    torch.manual_seed(0)
    weights = {name: value.detach() for name, value in mobilefacenet(width=0.5).named_parameters()}
    for name, value in weights.items():
        if value.ndim > 1:
            # The variance is 2 / (outputs * kernel area), whatever the groups: torch's fan-out.
            spread = math.sqrt(2 / (value.shape[0] * math.prod(value.shape[2:])))
            assert float(value.std()) == pytest.approx(spread, rel=5 / math.sqrt(value.numel())), name
            assert float(value.mean()) == pytest.approx(0, abs=5 * spread / math.sqrt(value.numel())), name
        elif name.endswith("bias"):
            assert (value == 0).all(), name
        elif f"{name.removesuffix('weight')}bias" in weights:
            assert (value == 1).all(), name


def test_everything_is_learnt() -> None:
    network, _ = _network()
    network.train()(_faces(4)).embedding.pow(3).sum().backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in network.parameters())


def test_exports() -> None:
    network, _ = _settled()
    buffer = io.BytesIO()
    names = ["embedding", *(f"stage{i}" for i in range(4))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
        axes = {name: {0: "batch"} for name in ["faces", *names]}
        torch.onnx.export(
            network, (_faces(1),), buffer, input_names=["faces"], output_names=names, dynamic_axes=axes, dynamo=False
        )
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    embedding, *stages = session.run(names, {"faces": _faces(3).numpy()})
    found = network(_faces(3))
    _agree(found.embedding, embedding)
    for ours, exported in zip(found.stages, stages, strict=True):
        _agree(ours, exported)


@pytest.mark.parametrize("width", [0.0, -1.0, 1 / 128, math.nan, math.inf])
def test_bad_width(width: float) -> None:
    with pytest.raises(InvalidValue, match=r"must leave at least one channel; InsightFace has 1\.0"):
        mobilefacenet(width=width)
