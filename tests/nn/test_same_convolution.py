"""'SAME' padding against TensorFlow's rule in numpy float64, for any size, kernel and stride."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probface.nn.same_convolution import SameConvolution, same_padding

sizes, kernels, strides = st.integers(1, 12), st.integers(1, 5), st.integers(1, 4)


def by_hand(images: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """The output's element i reads the input from i * stride - before; what lies outside counts as nothing."""
    batch, _, *size = images.shape
    outputs, _, side, _ = kernel.shape
    rows, columns = (-(-length // stride) for length in size)
    counts = ((rows, size[0]), (columns, size[1]))
    before = [max((count - 1) * stride + side - length, 0) // 2 for count, length in counts]
    out = np.zeros((batch, outputs, rows, columns))
    for i, j, y, x in np.ndindex(rows, columns, side, side):
        row, column = i * stride + y - before[0], j * stride + x - before[1]
        if 0 <= row < size[0] and 0 <= column < size[1]:
            out[:, :, i, j] += images[:, :, row, column] @ kernel[:, :, y, x].T
    return out


@given(height=sizes, width=sizes, side=kernels, stride=strides, seed=st.integers(0, 99))
def test_every_size(height: int, width: int, side: int, stride: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, 2, height, width))
    convolution = SameConvolution(2, 3, side, stride).double()
    kernel = convolution.weight.detach().numpy()
    found = convolution(torch.from_numpy(images)).detach().numpy()
    expected = by_hand(images, kernel, stride)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@given(size=sizes, kernel=kernels, stride=strides)
def test_the_padding_is_just_enough_and_the_end_gets_the_odd_one(size: int, kernel: int, stride: int) -> None:
    before, after = same_padding(size, kernel, stride)
    assert 0 <= after - before <= 1
    last = (-(-size // stride) - 1) * stride + kernel  # where the last window ends, from the padded start
    assert last <= size + before + after
    assert before + after == 0 or last == size + before + after


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [(96, 2, (0, 1)), (95, 2, (1, 1)), (6, 1, (1, 1)), (7, 1, (1, 1)), (1, 2, (1, 1)), (2, 2, (0, 1))],
)
def test_the_sizes_of_the_networks(size: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(size, 3, stride) == padding


def test_an_even_image_is_padded_at_the_end_alone() -> None:
    convolution = SameConvolution(1, 1, 3, 2)
    with torch.no_grad():
        torch.nn.init.zeros_(convolution.weight)[0, 0, 0, 0] = 1
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert convolution(image)[0, 0].tolist() == [[0, 2], [8, 10]]  # torch's padding=1 gives [[0, 0], [0, 5]]


def test_what_it_learns() -> None:
    assert [name for name, _ in SameConvolution(4, 8).named_parameters()] == ["weight"]
    assert SameConvolution(4, 8).weight.shape == (8, 4, 3, 3)
