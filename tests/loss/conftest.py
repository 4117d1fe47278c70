"""What the authors' TensorFlow code gives on one batch; read where it is at hand, never copied."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "oracle" / "losses.npz"


@pytest.fixture
def golden() -> dict[str, Tensor]:
    if not GOLDEN.is_file():
        pytest.skip("the authors' values (oracle/losses.npz) are not beside this checkout")
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}
