"""A network small enough to embed many images in no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from probface.contract import QualityScale


@pytest.fixture(scope="session")
def small_model(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet with a head of random weights, and a quality scale."""
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    return write_model(path, name="small", quality=QualityScale(-3.0, 3.0))
