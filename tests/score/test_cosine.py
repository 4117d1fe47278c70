from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine as cosine_distance

from probface.score.cosine import cosine, cosine_matrix

Faces = Callable[..., tuple[np.ndarray, np.ndarray]]
Convert = Callable[[np.ndarray], Any]


def test_paired_and_matrix_against_scipy(faces: Faces, array: Convert) -> None:
    a, b = faces(5, 8, 1, 0)[0], faces(7, 8, 1, 1)[0]
    expected = [[1 - cosine_distance(x, y) for y in b] for x in a]
    np.testing.assert_allclose(cosine_matrix(array(a), array(b)), expected, atol=1e-12)
    np.testing.assert_allclose(cosine(array(a), array(b[:5])), np.diag(expected), atol=1e-12)
    np.testing.assert_allclose(cosine(array(a[:, None]), array(b[None])), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_library_and_type_are_kept(faces: Faces, dtype: type) -> None:
    mu = faces(3, 8, 1, 0, dtype)[0]
    assert cosine(mu, mu).dtype == cosine_matrix(mu, mu).dtype == dtype
    tensor = torch.from_numpy(mu)
    for result in (cosine(tensor, tensor), cosine_matrix(tensor, tensor)):
        assert isinstance(result, torch.Tensor)
        assert result.dtype == tensor.dtype
    np.testing.assert_allclose(cosine(mu, mu), 1, rtol=1e-6)
