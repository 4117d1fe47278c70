from __future__ import annotations

import numpy as np
import pytest

from probface.errors import DataError, InvalidValue
from probface.eval.face_table import UNCERTAINTY, FaceTable
from probface.types import Embeddings


def embeddings(count: int, width: int = 1) -> Embeddings:
    rng = np.random.default_rng(3)
    mu = rng.normal(size=(count, 8)).astype(np.float32)
    sigma_sq = rng.uniform(0.1, 1, (count, width)).astype(np.float32)
    return Embeddings(mu / np.linalg.norm(mu, axis=1, keepdims=True), sigma_sq)


def test_rows_are_found_by_name_in_the_order_asked() -> None:
    table = FaceTable(("a", "b", "c"), embeddings(3))
    assert table.rows(["c", "a", "c"]).tolist() == [2, 0, 2]


def test_missing_images_are_named_and_counted() -> None:
    table = FaceTable(("a", "b"), embeddings(2))
    assert table.missing(["x", "a", "y", "x"]) == ("x", "y")
    with pytest.raises(DataError, match=r"image 'x': .* 2 embeddings \(2 such images\)"):
        table.rows(["a", "x", "y"])


@pytest.mark.parametrize("width", [1, 8])
def test_certainty_is_a_measure(width: int) -> None:
    faces = embeddings(4, width)
    table = FaceTable(tuple("abcd"), faces, {"norm": np.arange(4.0)})
    expected = [-np.log(sum(float(v) for v in row)) for row in faces.sigma_sq]
    np.testing.assert_allclose(table.quality(UNCERTAINTY), expected, rtol=1e-12)
    assert table.quality("norm").tolist() == [0, 1, 2, 3]
    with pytest.raises(InvalidValue, match="'sharp': must be one of sigma\\^2, norm"):
        table.quality("sharp")


def test_a_table_checks_itself() -> None:
    with pytest.raises(InvalidValue, match="1 names for 2 embeddings"):
        FaceTable(("a",), embeddings(2))
    with pytest.raises(DataError, match="'a': is in the embeddings twice"):
        FaceTable(("a", "a"), embeddings(2))
    with pytest.raises(InvalidValue, match=r"'norm' of shape \(3,\): must be \(2,\)"):
        FaceTable(("a", "b"), embeddings(2), {"norm": np.zeros(3)})
    with pytest.raises(InvalidValue, match="'norm' of image 'b' is nan"):
        FaceTable(("a", "b"), embeddings(2), {"norm": np.array([0, np.nan])})
