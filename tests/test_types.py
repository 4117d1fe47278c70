import numpy as np
import pytest

from probface.errors import InvalidValue
from probface.types import EmbeddedFace, Embeddings, Face


def unit(rows: int, dim: int = 8) -> np.ndarray:
    values = np.random.default_rng(rows).normal(size=(rows, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def changed(values: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    copy = values.copy()
    copy[place] = value
    return copy


POINTS = ((3.0, 4.0), (7.0, 4.0), (5.0, 6.0), (3.5, 8.0), (6.5, 8.0))


def test_the_size_of_a_face_is_its_shorter_edge() -> None:
    assert Face((-2.0, 1.0, 10.0, 12.0), POINTS, 0.9).size == 10
    assert Face((0.0, 0.0, 12.0, 9.0), POINTS, 0.9).size == 9


@pytest.mark.parametrize(
    ("box", "landmarks", "score", "message"),
    [
        ((0, 0, 9, 9), POINTS[:4], 0.9, r"need five \(x, y\) points"),
        ((0, 0, 9, 9), (*POINTS[:4], (1.0, 2.0, 3.0)), 0.9, r"need five \(x, y\) points"),
        ((0, 0, 0, 9), POINTS, 0.9, r"box \(0, 0, 0, 9\): need .* width and height above 0"),
        ((0, 0, 9, -1), POINTS, 0.9, r"box \(0, 0, 9, -1\): need .* width and height above 0"),
        ((0, 0, 9, np.nan), POINTS, 0.9, "width and height above 0"),
        ((np.inf, 0, 9, 9), POINTS, 0.9, "every number must be finite"),
        ((0, 0, 9, 9), (*POINTS[:4], (np.nan, 1.0)), 0.9, "every number must be finite"),
        ((0, 0, 9, 9), POINTS, np.nan, "every number must be finite"),
    ],
)
def test_a_face_is_five_points_in_a_box(
    box: tuple[float, ...], landmarks: tuple[tuple[float, ...], ...], score: float, message: str
) -> None:
    with pytest.raises(InvalidValue, match=message):
        Face(box, landmarks, score)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mu", "sigma_sq", "message"),
    [
        (unit(3) * np.array([[1], [1], [2]], np.float32), ones(3, 1), "mu row 2 has length 2: must be 1"),
        (changed(unit(3), (1,), 0), ones(3, 1), "mu row 1 has length 0"),
        (changed(unit(3), (1, 0), np.nan), ones(3, 1), "mu row 1 has length nan"),
        (unit(3), changed(ones(3, 1), (2, 0), 0), "sigma_sq row 2 is"),
        (unit(3), changed(ones(3, 8), (1, 5), -1), "sigma_sq row 1 is"),
        (unit(3), changed(ones(3, 1), (0, 0), np.inf), "sigma_sq row 0 is"),
        (unit(3).astype(np.float64), ones(3, 1), r"float64: must be \(N, D\) float32"),
        (unit(3)[0], ones(3, 1), r"mu of shape \(8,\)"),
        (unit(3), ones(3, 2), r"sigma_sq of shape \(3, 2\)"),
        (unit(3), ones(3), r"sigma_sq of shape \(3,\)"),
        (unit(3), ones(2, 1), r"sigma_sq of shape \(2, 1\)"),
        (unit(3), ones(3, 1).astype(np.float64), "float64: must be float32"),
    ],
)
def test_embeddings_refuse_what_is_no_gaussian(mu: np.ndarray, sigma_sq: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Embeddings(mu, sigma_sq)


@pytest.mark.parametrize("width", [1, 8])
def test_rows_can_be_taken_and_put_together(width: int) -> None:
    whole = Embeddings(unit(5), np.arange(1, 5 * width + 1, dtype=np.float32).reshape(5, width))
    assert (len(whole), whole.dim) == (5, 8)
    again = Embeddings.concatenate([whole[:2], whole[[2]], whole[np.array([3, 4])]])
    np.testing.assert_array_equal(again.mu, whole.mu)
    np.testing.assert_array_equal(again.sigma_sq, whole.sigma_sq)
    assert len(whole[:0]) == 0


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"\[\(8, 1\), \(8, 8\)\]"):
        Embeddings.concatenate([Embeddings(unit(2), ones(2, 1)), Embeddings(unit(2), ones(2, 8))])
    with pytest.raises(InvalidValue, match="one or more"):
        Embeddings.concatenate([])


def test_an_embedded_face_is_one_face_with_a_quality() -> None:
    crop = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(InvalidValue, match="2 embeddings"):
        EmbeddedFace("a", None, crop, Embeddings(unit(2), ones(2, 1)), 50)
    with pytest.raises(InvalidValue, match="quality 101"):
        EmbeddedFace("a", None, crop, Embeddings(unit(1), ones(1, 1)), 101)
    assert EmbeddedFace("a", None, crop, Embeddings(unit(1), ones(1, 8) / 8), 50).sigma_sq == pytest.approx(1)
