import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import InvalidValue
from probface.gallery.fusion import fuse, fuse_groups
from probface.gallery.records import ESTIMATORS, Estimator
from probface.types import Embeddings


def random_embeddings(seed: int, rows: int, dim: int, width: int, spread: float = 2.0) -> Embeddings:
    """Vectors in one half of the space, so that none cancel out, variances over e^-2spread to e^spread."""
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(rows, dim))
    mu[:, 0] = np.abs(mu[:, 0]) + 0.5
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return Embeddings(mu.astype(np.float32), np.exp(rng.uniform(-2 * spread, spread, (rows, width))).astype(np.float32))


def plain_loop(embeddings: Embeddings, estimator: Estimator, temperature: float) -> tuple[list[float], list[float]]:
    """The equations, number by number."""
    mu, sigma_sq = embeddings.mu.tolist(), embeddings.sigma_sq.tolist()
    rows, dim, width = range(len(mu)), embeddings.dim, len(sigma_sq[0])
    mean, variance = [], []
    for column in range(dim):
        s = [sigma_sq[row][column if width > 1 else 0] for row in rows]
        w = [(1 / value + 1e-6) ** (1 / temperature) for value in s]
        mean.append(sum(w[row] * mu[row][column] for row in rows) / sum(w))
        variance.append(
            {
                "minimum": min(s),
                "weighted_mean": sum(w[row] * s[row] for row in rows) / sum(w),
                "precision_sum": 1 / sum(1 / value for value in s),
            }[estimator]
        )
    length = math.sqrt(sum(value * value for value in mean))
    return [value / length for value in mean], variance[:width]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("width", [1, 16])
def test_against_a_plain_loop(estimator: Estimator, temperature: float, width: int) -> None:
    for rows in (2, 3, 17):
        embeddings = random_embeddings(rows, rows, 16, width)
        fused = fuse(embeddings, estimator, temperature)
        mu, sigma_sq = plain_loop(embeddings, estimator, temperature)
        assert fused.sigma_sq.shape == (1, width)
        np.testing.assert_allclose(fused.mu[0], mu, rtol=0, atol=1e-7)
        np.testing.assert_allclose(fused.sigma_sq[0], sigma_sq, rtol=1e-6)


def test_values_by_hand() -> None:
    embeddings = Embeddings(np.eye(2, dtype=np.float32), np.array([[1], [0.25]], np.float32))
    fused = fuse(embeddings)
    np.testing.assert_allclose(fused.mu[0], np.array([1, 4]) / math.sqrt(17), rtol=1e-5)
    np.testing.assert_allclose(fused.sigma_sq, [[2 / (1 + 4)]], rtol=1e-5)  # the harmonic mean
    np.testing.assert_allclose(fuse(embeddings, "precision_sum").sigma_sq, [[1 / 5]])
    assert fuse(embeddings, "minimum").sigma_sq.tolist() == [[0.25]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 12),
    width=st.sampled_from([1, 6]),
    temperature=st.floats(0.01, 100),
    spread=st.floats(0, 20),
)
def test_invariants(seed: int, rows: int, width: int, temperature: float, spread: float) -> None:
    embeddings = random_embeddings(seed, rows, 6, width, spread)
    fused = {estimator: fuse(embeddings, estimator, temperature) for estimator in ESTIMATORS}
    order = np.random.default_rng(seed).permutation(rows)
    for estimator, one in fused.items():
        np.testing.assert_allclose(np.linalg.norm(one.mu, axis=1), 1, atol=1e-3 if rows == 1 else 1e-6)
        other = fuse(embeddings[order], estimator, temperature)
        np.testing.assert_allclose(other.mu, one.mu, rtol=0, atol=1e-6)
        np.testing.assert_allclose(other.sigma_sq, one.sigma_sq, rtol=1e-6)
    assert (fused["precision_sum"].sigma_sq <= fused["minimum"].sigma_sq).all()
    assert (fused["minimum"].sigma_sq <= fused["weighted_mean"].sigma_sq).all()
    assert (fused["weighted_mean"].sigma_sq <= embeddings.sigma_sq.max(axis=0)).all()


@pytest.mark.parametrize("temperature", [1e9, math.inf])
def test_a_high_temperature_gives_the_plain_mean(temperature: float) -> None:
    embeddings = random_embeddings(3, 9, 16, 1)
    mean = embeddings.mu.astype(np.float64).mean(axis=0)
    fused = fuse(embeddings, temperature=temperature)
    np.testing.assert_allclose(fused.mu[0], mean / np.linalg.norm(mean), rtol=0, atol=1e-7)
    np.testing.assert_allclose(fused.sigma_sq[0], embeddings.sigma_sq.mean(axis=0, dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("width", [1, 64])
def test_groups_are_what_each_gives_alone(estimator: Estimator, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    sizes = np.concatenate([rng.integers(1, 9, 400), [700, 1, 1, 2]])  # some larger than a block
    embeddings = random_embeddings(2, int(sizes.sum()), 64, width)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    monkeypatch.setattr("probface.gallery.fusion.BLOCK_ELEMENTS", 64 * 100)
    mu, sigma_sq = fuse_groups(embeddings.mu, embeddings.sigma_sq, starts, estimator, 1.5)
    monkeypatch.undo()
    assert mu.dtype == sigma_sq.dtype == np.float32
    for group, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        part = embeddings[start : start + size]
        alone = fuse(part, estimator, 1.5)
        assert np.array_equal(alone.mu[0], mu[group])
        assert np.array_equal(alone.sigma_sq[0], sigma_sq[group])
        if size == 1:  # passed through
            assert alone.mu.tobytes() == part.mu.tobytes()
            assert alone.sigma_sq.tobytes() == part.sigma_sq.tobytes()


def test_one_reference_is_passed_through_as_a_copy() -> None:
    embeddings = random_embeddings(5, 1, 8, 8)
    fused = fuse(embeddings, "precision_sum", 0.1)
    assert fused.mu.tobytes() == embeddings.mu.tobytes()
    assert fused.sigma_sq.tobytes() == embeddings.sigma_sq.tobytes()
    assert not np.shares_memory(fused.mu, embeddings.mu)


def test_variances_at_the_ends_of_float32() -> None:
    mu = np.eye(3, dtype=np.float32)
    tiny, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    for variances in ([tiny] * 3, [huge] * 3, [tiny, 1, huge]):
        sigma_sq = np.array(variances, np.float32)[:, None]
        for estimator in ESTIMATORS:
            for temperature in (1e-3, 1, 1e3):
                fused = fuse(Embeddings(mu, sigma_sq), estimator, temperature)  # Embeddings checks itself
                assert sigma_sq.min() / 3 <= fused.sigma_sq[0, 0] <= sigma_sq.max()


def test_what_is_refused() -> None:
    embeddings = random_embeddings(6, 3, 4, 1)
    with pytest.raises(InvalidValue, match="0 embeddings: a template needs one"):
        fuse(embeddings[:0])
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidValue, match=r"temperature .*: must be above 0"):
            fuse(embeddings, temperature=temperature)
    with pytest.raises(InvalidValue, match="estimator 'mean': must be one of weighted_mean"):
        fuse(embeddings, "mean")  # type: ignore[arg-type]
    opposite = Embeddings(np.array([[1, 0], [0, 1], [0, -1]], np.float32), np.ones((3, 1), np.float32))
    with pytest.raises(InvalidValue, match=r"group 1 of 2 references: their vectors cancel out"):
        fuse_groups(opposite.mu, opposite.sigma_sq, np.array([0, 1]))
    with pytest.raises(InvalidValue, match="cancel out"):
        fuse(opposite[1:])
    for starts in ([1, 2], [0, 2, 2], [0, 3], [0, 2, 1], []):
        with pytest.raises(InvalidValue, match="must begin at 0 and have a row or more each"):
            fuse_groups(embeddings.mu, embeddings.sigma_sq, np.array(starts, np.int64))
    none = fuse_groups(embeddings.mu[:0], embeddings.sigma_sq[:0], np.zeros(0, np.int64))
    assert [array.shape for array in none] == [(0, 4), (0, 1)]
