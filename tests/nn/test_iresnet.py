"""IResNet against InsightFace's weight names and against its equations in numpy."""

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
from probface.nn.backbones.iresnet import Depth, IResNet, iresnet

Array = NDArray[np.float64]
Shapes = list[tuple[str, tuple[int, ...]]]

# Of InsightFace's own networks, at width 1 with 512 dimensions.
PARAMETERS = {18: 24_025_600, 50: 43_590_848, 100: 65_156_160}
REPEATS = {18: [2, 2, 2, 2], 50: [3, 4, 14, 3], 100: [3, 13, 30, 3]}
every_depth = pytest.mark.parametrize("depth", [18, 50, 100])


def _norm(name: str, channels: int) -> Shapes:
    vectors = [(f"{name}.{part}", (channels,)) for part in ("weight", "bias", "running_mean", "running_var")]
    return [*vectors, (f"{name}.num_batches_tracked", ())]


def _listing(depth: int, channels: list[int], dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """InsightFace's state dict, name by name, as its file ``iresnet.py`` orders it."""
    yield "conv1.weight", (channels[0], 3, 3, 3)
    yield from _norm("bn1", channels[0])
    yield "prelu.weight", (channels[0],)
    before = channels[0]
    for layer, (c, blocks) in enumerate(zip(channels, REPEATS[depth], strict=True), start=1):
        for block in (f"layer{layer}.{i}" for i in range(blocks)):
            yield from _norm(f"{block}.bn1", before)
            yield f"{block}.conv1.weight", (c, before, 3, 3)
            yield from _norm(f"{block}.bn2", c)
            yield f"{block}.prelu.weight", (c,)
            yield f"{block}.conv2.weight", (c, c, 3, 3)
            yield from _norm(f"{block}.bn3", c)
            if block.endswith(".0"):
                yield f"{block}.downsample.0.weight", (c, before, 1, 1)
                yield from _norm(f"{block}.downsample.1", c)
            before = c
    yield from _norm("bn2", before)
    yield "fc.weight", (dim, before * 7 * 7)
    yield "fc.bias", (dim,)
    yield from _norm("features", dim)


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


def _network(depth: Depth) -> tuple[IResNet, dict[str, torch.Tensor]]:
    network = iresnet(depth, width=1 / 16, dim=24)
    weights = _weights(list(_listing(depth, [4, 8, 16, 32], 24)))
    network.load_state_dict(weights, strict=True)
    return network.eval(), weights


def _settled(depth: Depth) -> tuple[IResNet, dict[str, torch.Tensor]]:
    """With the statistics of a batch, so that activations stay near 1 and every layer shows in the embedding."""
    network, _ = _network(depth)
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

    def conv(self, name: str, x: Array, stride: int = 1) -> Array:
        kernel = self.weights[f"{name}.weight"]
        side = kernel.shape[2]
        x = np.pad(x, [(0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)])
        windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(2, 3))
        return np.einsum("bchwyx,ocyx->bohw", windows[:, :, ::stride, ::stride], kernel, optimize=True)

    def norm(self, name: str, x: Array) -> Array:
        scale, shift, mean, variance = (
            self.weights[f"{name}.{part}"].reshape(-1, *[1] * (x.ndim - 2))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return scale * (x - mean) / np.sqrt(variance + 1e-5) + shift

    def prelu(self, name: str, x: Array) -> Array:
        return np.where(x > 0, x, self.weights[f"{name}.weight"][:, None, None] * x)

    def block(self, name: str, x: Array, first: bool) -> Array:
        y = self.prelu(
            f"{name}.prelu", self.norm(f"{name}.bn2", self.conv(f"{name}.conv1", self.norm(f"{name}.bn1", x)))
        )
        y = self.norm(f"{name}.bn3", self.conv(f"{name}.conv2", y, 2 if first else 1))
        shortcut = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, 2)) if first else x
        return y + shortcut

    def __call__(self, x: Array, depth: int) -> tuple[Array, list[Array]]:
        x = self.prelu("prelu", self.norm("bn1", self.conv("conv1", x)))
        stages = []
        for layer, blocks in enumerate(REPEATS[depth], start=1):
            for i in range(blocks):
                x = self.block(f"layer{layer}.{i}", x, i == 0)
            stages.append(x)
        flat = self.norm("bn2", x).reshape(len(x), -1)
        return self.norm("features", flat @ self.weights["fc.weight"].T + self.weights["fc.bias"]), stages


def _agree(found: torch.Tensor, expected: Array) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@every_depth
def test_formula(depth: Depth) -> None:
    network, weights = _settled(depth)
    embedding, stages = ByHand(weights)(_faces().double().numpy(), depth)
    assert np.ptp(embedding, axis=0).mean() > 0.1 * np.abs(embedding).max()  # the weights drawn let the image through
    found = network(_faces())
    _agree(found.embedding, embedding)
    for ours, theirs in zip(found.stages, stages, strict=True):
        _agree(ours, theirs)


@every_depth
def test_state_dict_is_insightfaces(depth: Depth) -> None:
    with torch.device("meta"):
        network = iresnet(depth)
    listing = list(_listing(depth, [64, 128, 256, 512], 512))
    assert [(name, tuple(value.shape)) for name, value in network.state_dict().items()] == listing
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(math.prod(shape) for name, shape in listing if not name.endswith(statistics)) == PARAMETERS[depth]
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[depth]


@every_depth
def test_shapes(depth: Depth) -> None:
    with torch.device("meta"):
        network = iresnet(depth, width=0.5, dim=256)
        found = network(torch.empty(3, 3, *network.size))
    assert found.embedding.shape == (3, network.dim) == (3, 256)
    assert [tuple(stage.shape) for stage in found.stages] == [
        (3, 32, 56, 56),
        (3, 64, 28, 28),
        (3, 128, 14, 14),
        (3, 256, 7, 7),
    ]
    assert network.channels == tuple(stage.shape[1] for stage in found.stages)


def test_loads_only_what_fits() -> None:
    network, weights = _network(18)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    with pytest.raises(RuntimeError, match=r"Missing key.*conv1\.weight[\s\S]*Unexpected key.*module\.conv1\.weight"):
        network.load_state_dict({f"module.{name}": value for name, value in weights.items()})
    with pytest.raises(RuntimeError, match=r"Missing key.*layer4\.1\.bn3\.bias"):
        network.load_state_dict({name: value for name, value in weights.items() if name != "layer4.1.bn3.bias"})
    with pytest.raises(RuntimeError, match=r"size mismatch for fc\.weight"):
        iresnet(18, width=1 / 16, dim=25).load_state_dict(weights)


def test_where_it_starts() -> None:
    torch.manual_seed(0)
    weights = {name: value.detach() for name, value in iresnet(18, width=0.25).named_parameters()}
    for name, value in weights.items():
        if value.ndim == 4:
            assert float(value.std()) == pytest.approx(0.1, rel=5 / math.sqrt(value.numel())), name
            assert float(value.mean()) == pytest.approx(0, abs=0.5 / math.sqrt(value.numel())), name
        elif name.startswith("features") or "bn" in name or "downsample.1" in name:
            assert (value == float(name.endswith("weight"))).all(), name


def test_what_is_learnt() -> None:
    network, _ = _network(18)
    network.train()(_faces(4)).embedding.square().sum().backward()
    fixed = {name for name, value in network.named_parameters() if value.grad is None}
    assert fixed == {"features.weight"}
    assert all(torch.isfinite(value.grad).all() for value in network.parameters() if value.grad is not None)


def test_exports() -> None:
    network, _ = _settled(18)
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


@pytest.mark.parametrize("depth", [0, 34, 101])
def test_unknown_depth(depth: int) -> None:
    with pytest.raises(InvalidValue, match=rf"IResNet depth {depth}: no such network here; choose one of 18, 50, 100"):
        iresnet(depth)


@pytest.mark.parametrize("width", [0.0, -1.0, 1 / 128, math.nan, math.inf])
def test_bad_width(width: float) -> None:
    with pytest.raises(InvalidValue, match=r"must leave at least one channel; InsightFace has 1\.0"):
        iresnet(18, width=width)
