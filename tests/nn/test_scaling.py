import numpy as np
import pytest
import torch

from probface.contract import InputSpec
from probface.encoder.preprocess import to_input
from probface.nn.scaling import scaled


@pytest.mark.parametrize(
    "spec", [InputSpec(), InputSpec(96, 96, mean=128.0, scale=128.0), InputSpec(112, 96, "bgr", 0.0, 1.0)]
)
def test_torch_scales_faces_as_the_encoder_does(spec: InputSpec) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, spec.height, spec.width, 3), dtype=np.uint8)
    found = scaled(torch.from_numpy(crops), spec)
    np.testing.assert_allclose(found.numpy(), to_input(crops, spec), rtol=0, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)
