"""The fused vector element by element."""

import numpy as np
import pytest
import torch

from probface.nn.face_network import FaceFeatures
from probface.nn.layer_fusion import flatten_stage, fuse_layers

SHAPES = [(2, 3, 8, 6), (2, 4, 4, 3), (2, 5, 2, 3)]


def features() -> FaceFeatures:
    generator = torch.Generator().manual_seed(0)
    stages = tuple(torch.randn(shape, generator=generator) for shape in SHAPES)
    return FaceFeatures(torch.randn(2, 7, generator=generator), stages)


def test_flattened_in_height_width_channel_order() -> None:
    stage = features().stages[-1]
    flat = flatten_stage(stage)
    batch, channels, height, width = stage.shape
    assert flat.shape == (batch, height * width * channels)
    for b, c, y, x in np.ndindex(batch, channels, height, width):
        assert flat[b, (y * width + x) * channels + c] == stage[b, c, y, x]


def test_fused() -> None:
    given = features()
    arrays = [stage.double().numpy() for stage in given.stages]
    last = [np.transpose(arrays[-1], (0, 2, 3, 1)).reshape(2, -1)]
    expected = np.concatenate(last + [array.mean(axis=(2, 3)) for array in arrays], axis=1)
    found = fuse_layers(given)
    assert found.shape == (2, 2 * 3 * 5 + 3 + 4 + 5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_without_fusion_the_last_stage_alone() -> None:
    given = features()
    assert torch.equal(fuse_layers(given, fusion=False), flatten_stage(given.stages[-1]))


@pytest.mark.parametrize("fusion", [True, False])
def test_every_stage_that_is_read_learns(fusion: bool) -> None:
    given = features()
    for stage in given.stages:
        stage.requires_grad_()
    fuse_layers(given, fusion=fusion).square().sum().backward()
    learns = [stage.grad is not None and bool(stage.grad.any()) for stage in given.stages]
    assert learns == [fusion, fusion, True]
