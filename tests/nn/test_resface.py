"""ResFace against its equations in numpy float64, and against the listings of the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import correlate

from probface.errors import InvalidValue
from probface.nn.backbones.resface import BLOCKS, Depth, ResFace, ResidualBlock
from probface.nn.layer_fusion import flatten_stage

Array = NDArray[np.float64]
REPEATS = {20: (1, 2, 4, 1), 36: (2, 4, 8, 2), 64: (3, 8, 16, 3)}
every_depth = pytest.mark.parametrize("depth", REPEATS)


def random_network(depth: Depth, size: tuple[int, int] = (96, 96), **options: float) -> ResFace:
    """Narrow, with random weights, and the statistics of a batch so that numbers stay near 1."""
    torch.manual_seed(depth)
    network = ResFace(depth, width=1 / 16, dim=9, size=size, **options)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim == 1:
                value.uniform_(0.5, 1.5) if name.endswith("weight") else value.normal_(0, 0.3)
            else:
                value.normal_(0, 1.5 / math.sqrt(value[0].numel()))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(faces(8, size, seed=1))
    return network.eval()


def faces(count: int, size: tuple[int, int] = (96, 96), seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class ByHand:
    """The equations from the names of the weights: float64, scipy's correlation, no layer of torch."""

    def __init__(self, network: ResFace) -> None:
        self.weights = {name: value.double().numpy() for name, value in network.state_dict().items()}

    def conv(self, name: str, x: Array, stride: int = 1) -> Array:
        kernel = self.weights[f"{name}.0.weight"]
        size = x.shape[2:]
        padding = []
        for length in size:
            total = max((math.ceil(length / stride) - 1) * stride + 3 - length, 0)
            padding.append((total // 2, math.ceil(total / 2)))
        x = np.pad(x, [(0, 0), (0, 0), *padding])
        y = np.stack([[correlate(image, each, "valid")[0] for each in kernel] for image in x])
        return np.maximum(self.norm(f"{name}.1", y[:, :, ::stride, ::stride]), 0)

    def norm(self, name: str, x: Array) -> Array:
        scale, shift, mean, variance = (
            self.weights[f"{name}.{part}"].reshape(-1, *[1] * (x.ndim - 2))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return scale * (x - mean) / np.sqrt(variance + 1e-3) + shift

    def __call__(self, x: Array, depth: int) -> tuple[Array, list[Array]]:
        stages = []
        for stage, blocks in enumerate(REPEATS[depth]):
            x = self.conv(f"stages.{stage}.0", x, stride=2)
            for block in range(1, blocks + 1):
                name = f"stages.{stage}.{block}"
                x = x + self.conv(f"{name}.second", self.conv(f"{name}.first", x))
            stages.append(x)
        flat = x.transpose(0, 2, 3, 1).reshape(len(x), -1)
        return self.norm("bottleneck_norm", flat @ self.weights["bottleneck.weight"].T), stages


def agree(found: torch.Tensor, expected: Array) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("depth", "size"),
    [(20, (96, 96)), (20, (47, 33)), (20, (50, 31)), (36, (32, 32)), (64, (33, 48))],
    ids=["even", "odd", "both", "resface36", "resface64"],
)
def test_formula(depth: Depth, size: tuple[int, int]) -> None:
    network, images = random_network(depth, size), faces(2, size)
    embedding, stages = ByHand(network)(images.double().numpy(), depth)
    assert np.ptp(embedding, axis=0).mean() > 0.1 * np.abs(embedding).max()  # the weights drawn let the image through
    found = network(images)
    agree(found.embedding, embedding)
    for ours, theirs in zip(found.stages, stages, strict=True):
        agree(ours, theirs)


@pytest.mark.parametrize(("width", "channels"), [(1.0, (64, 128, 256, 512)), (0.5, (32, 64, 128, 256))])
@every_depth
def test_shapes(depth: Depth, width: float, channels: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = ResFace(depth, width=width, dim=256)
        found = network(torch.empty(2, 3, *network.size))
    assert network.channels == channels
    assert [stage.shape for stage in found.stages] == [
        (2, count, side, side) for count, side in zip(channels, (48, 24, 12, 6), strict=True)
    ]
    assert found.embedding.shape == (2, network.dim) == (2, 256)


@pytest.mark.parametrize("width", [1.0, 0.5])
@every_depth
def test_number_of_parameters(depth: Depth, width: float) -> None:
    """As many convolutions as the name says, and the embedding layer; two numbers of batch norm a channel."""
    with torch.device("meta"):
        network = ResFace(depth, width=width)
    channels = [int(count * width) for count in (64, 128, 256, 512)]
    expected, convolutions = 0, 0
    for before, after, blocks in zip([3, *channels], channels, REPEATS[depth], strict=False):
        expected += 9 * before * after + 2 * after + 2 * blocks * (9 * after * after + 2 * after)
        convolutions += 1 + 2 * blocks
    assert convolutions == depth
    expected += 6 * 6 * channels[-1] * 512 + 2 * 512
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_flattened_in_height_width_channel_order() -> None:
    network = random_network(20)
    with torch.no_grad():
        network.bottleneck.weight.zero_()
        y, x, channel = 4, 1, 30
        network.bottleneck.weight[0, (y * 6 + x) * 32 + channel] = 1
        features = network(faces(2))
        raw = network.bottleneck(flatten_stage(features.stages[-1]))
    assert torch.equal(raw[:, 0], features.stages[-1][:, channel, y, x])
    norm = network.bottleneck_norm
    torch.testing.assert_close(features.embedding, norm(raw))


def test_dropout_in_training_alone() -> None:
    network, images = random_network(20, dropout=0.5), faces(4)
    seen: list[torch.Tensor] = []
    network.bottleneck.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        assert torch.equal(network(images).embedding, network(images).embedding)
        kept, again = seen
        assert torch.equal(kept, again)
        seen.clear()
        network.train()
        flat = flatten_stage(network(images).stages[-1])
    (dropped,) = seen
    alive = flat > 0
    assert float((dropped[alive] == 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    survived = alive & (dropped != 0)
    torch.testing.assert_close(dropped[survived], 2 * flat[survived])


def test_no_dropout_where_nothing_is_said() -> None:
    network = random_network(20).train()
    with torch.no_grad():
        torch.testing.assert_close(network(faces(4)).embedding, network(faces(4)).embedding)


def test_where_it_starts() -> None:
    torch.manual_seed(0)
    network = ResFace(36, width=0.25, dim=64)
    blocks = {name for name, module in network.named_modules() if isinstance(module, ResidualBlock)}
    assert len(blocks) == sum(BLOCKS[36])
    for name, value in network.named_parameters():
        value = value.detach()
        if value.ndim == 1:
            assert (value == float(name.endswith("weight"))).all(), name
        elif any(name.startswith(f"{block}.") for block in blocks):
            assert float(value.abs().max()) <= 0.02, name
            # A normal distribution cut at two standard deviations has 0.88 of its spread.
            assert float(value.std()) == pytest.approx(0.0088, rel=5 / math.sqrt(value.numel())), name
        else:
            fans = (value.shape[0] + value.shape[1]) * math.prod(value.shape[2:])
            bound = math.sqrt(6 / fans)
            assert 0.9 * bound < float(value.abs().max()) <= bound, name
            assert float(value.std()) == pytest.approx(bound / math.sqrt(3), rel=5 / math.sqrt(value.numel())), name


def test_everything_is_learnt() -> None:
    network = random_network(20).train()
    network(faces(4)).embedding.pow(3).sum().backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in network.parameters())


def test_running_averages_move_as_the_reference_says() -> None:
    network = ResFace(20, width=1 / 16, dim=9).train()
    convolution, norm, _ = network.stages[0][0]
    found = convolution(faces(4)).detach()
    network(faces(4))
    torch.testing.assert_close(norm.running_mean, 0.005 * found.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.995 + 0.005 * found.var((0, 2, 3)))


@pytest.mark.parametrize("depth", [0, 18, 50])
def test_unknown_depth(depth: int) -> None:
    with pytest.raises(InvalidValue, match=rf"ResFace depth {depth}: must be one of 20, 36, 64"):
        ResFace(depth)


@pytest.mark.parametrize("width", [0.0, -1.0, 1 / 128, math.nan, math.inf])
def test_bad_width(width: float) -> None:
    with pytest.raises(
        InvalidValue, match=rf"ResFace width {width}: must leave at least one channel; the reference has 1\.0 and 0\.5"
    ):
        ResFace(20, width=width)
