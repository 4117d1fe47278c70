from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.contract import InputSpec
from probface.encoder.preprocess import to_input
from probface.errors import InvalidValue


@given(
    st.integers(0, 3),
    st.sampled_from(["rgb", "bgr"]),
    st.sampled_from([(0.0, 1.0), (127.5, 127.5), (127.5, 128.0)]),
    st.integers(0, 2**32 - 1),
)
def test_every_value_lands_where_the_contract_says(
    count: int, channels: str, scaling: tuple[float, float], seed: int
) -> None:
    crops = np.random.default_rng(seed).integers(0, 256, (count, 12, 9, 3), dtype=np.uint8)
    before = crops.copy()
    tensor = to_input(crops, InputSpec(12, 9, channels, *scaling))
    assert (tensor.shape, tensor.dtype, tensor.flags.c_contiguous) == ((count, 3, 12, 9), np.float32, True)
    for i, channel in enumerate("rgb".index(letter) for letter in channels):
        expected = (crops[..., channel].astype(np.float64) - scaling[0]) / scaling[1]
        np.testing.assert_allclose(tensor[:, i], expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(crops, before)


@pytest.mark.parametrize(
    ("crops", "found"),
    [
        (np.zeros((1, 12, 9, 3), np.float32), r"float32 \(1, 12, 9, 3\)"),
        (np.full((1, 12, 9, 3), np.nan), r"float64 \(1, 12, 9, 3\)"),
        (np.zeros((12, 9, 3), np.uint8), r"uint8 \(12, 9, 3\)"),
        (np.zeros((1, 9, 12, 3), np.uint8), r"uint8 \(1, 9, 12, 3\)"),
        (np.zeros((1, 3, 12, 9), np.uint8), r"uint8 \(1, 3, 12, 9\)"),
        ([[1, 2, 3]], "list"),
    ],
    ids=["float", "NaN", "one crop", "turned", "channels first", "list"],
)
def test_other_arrays_are_refused(crops: object, found: str) -> None:
    with pytest.raises(InvalidValue, match=rf"crops {found}: must be RGB uint8 of shape \(N, 12, 9, 3\)"):
        to_input(crops, InputSpec(12, 9))
