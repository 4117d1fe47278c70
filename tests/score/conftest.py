"""Faces for the tests of the scores."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch


def _faces(count: int, dim: int, width: int, seed: int, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Unit means (count, dim) and variances (count, width) from about 0.02 to 50."""
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(count, dim)) + rng.normal(size=dim)
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return mu.astype(dtype), np.exp(rng.uniform(-4, 4, (count, width))).astype(dtype)


@pytest.fixture
def faces() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return _faces


@pytest.fixture(params=["numpy", "torch"])
def array(request: pytest.FixtureRequest) -> Callable[[np.ndarray], Any]:
    """From a numpy array to one of the library under test."""
    return {"numpy": np.asarray, "torch": torch.from_numpy}[request.param]
