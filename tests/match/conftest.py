"""Sets that are hard for a filter, and an oracle that scores every pair in extended precision."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from probface.types import Embeddings, Metric

Truth = NDArray[np.longdouble]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _faces(count: int, dim: int, seed: int, *, low: float = 0.05, high: float = 2, width: int = 1) -> Embeddings:
    """Random unit vectors, variances spread evenly over the logarithm."""
    rng = np.random.default_rng(seed)
    sigma_sq = np.exp(rng.uniform(np.log(low), np.log(high), (count, width))).astype(np.float32)
    return Embeddings(_unit(rng.normal(size=(count, dim))), sigma_sq)


def _near(faces: Embeddings, rows: np.ndarray, noise: float, seed: int) -> Embeddings:
    """Probes beside some of the faces: each has a mate."""
    rng = np.random.default_rng(seed)
    moved = faces.mu[rows] + noise / np.sqrt(faces.dim) * rng.normal(size=(len(rows), faces.dim))
    return Embeddings(_unit(moved), faces.sigma_sq[rows[::-1]])


Pair = tuple[Embeddings, Embeddings]


def _ordinary() -> Pair:
    references = _faces(400, 128, 0)
    return references, _near(references, np.arange(0, 60), 0.7, 1)


def _duplicates() -> Pair:
    few = _faces(9, 32, 2)
    references = few[np.random.default_rng(3).integers(0, 9, 330)]
    return references, Embeddings.concatenate([few, few, _near(few, np.arange(9), 0.3, 4)])


def _wide_variances() -> Pair:
    references = _faces(500, 33, 5, low=1e-4, high=10)
    return references, Embeddings.concatenate(
        [_near(references, np.arange(30), 0.4, 6), _faces(10, 33, 7, low=1e-4, high=10)]
    )


def _all_alike() -> Pair:
    """Every cosine above 0.9998."""
    rng = np.random.default_rng(8)
    centre = rng.normal(size=64) / 8
    mu = _unit(centre + 0.006 / 8 * rng.normal(size=(320, 64)))
    sigma_sq = np.float32(rng.uniform(0.3, 0.301, (320, 1)))
    faces = Embeddings(mu, sigma_sq)
    assert (mu @ mu.T).min() > 0.9998
    return faces[40:], faces[:40]


def _hair_apart() -> Pair:
    """Cosines that differ in the last digits of float32, and equal variances."""
    rng = np.random.default_rng(9)
    centre = rng.normal(size=128) / np.sqrt(128)
    mu = _unit(centre + 1e-5 / np.sqrt(128) * rng.normal(size=(300, 128)))
    return Embeddings(mu[30:], np.full((270, 1), 0.25, np.float32)), Embeddings(mu[:30], np.full((30, 1), 0.25, "f4"))


def _spiky() -> Pair:
    """One component holds nearly all: a code has one scale, and the rest of the vector vanishes in it."""
    rng = np.random.default_rng(10)
    mu = 0.002 * rng.normal(size=(360, 31))
    mu[np.arange(360), rng.integers(0, 31, 360)] += rng.choice([-1, 1], 360)
    faces = Embeddings(_unit(mu), rng.uniform(0.1, 1, (360, 1)).astype(np.float32))
    return faces[30:], faces[:30]


def _mixed_spikes() -> Pair:
    """Spiky and flat vectors, so that tiles hold both."""
    spiky = _spiky()[0]
    flat = _faces(200, 31, 11)
    both = Embeddings.concatenate([spiky, flat])[np.random.default_rng(12).permutation(len(spiky) + 200)]
    return both[40:], both[:40]


def _one_hot() -> Pair:
    rng = np.random.default_rng(13)
    mu = np.zeros((200, 32), np.float32)
    mu[np.arange(200), rng.integers(0, 32, 200)] = rng.choice([-1, 1], 200)
    faces = Embeddings(mu, rng.choice([0.25, 0.5, 1], (200, 1)).astype(np.float32))
    return faces[20:], faces[:20]


def _equal_variances() -> Pair:
    references = Embeddings(_faces(450, 200, 14).mu, np.full((450, 1), 0.4, np.float32))
    return references, _near(references, np.arange(30), 0.9, 15)


def _few() -> Pair:
    references = _faces(7, 5, 16)
    return references, _faces(30, 5, 17)


def _opposite() -> Pair:
    """Every cosine is below 0."""
    rng = np.random.default_rng(18)
    centre = np.eye(32)[0]
    references = Embeddings(_unit(0.1 * rng.normal(size=(260, 32)) + centre), _faces(260, 32, 19).sigma_sq)
    probes = Embeddings(_unit(0.1 * rng.normal(size=(26, 32)) - centre), _faces(26, 32, 20, low=1e-4).sigma_sq)
    assert (probes.mu @ references.mu.T).max() < 0
    return references, probes


def _off_length() -> Pair:
    """Lengths off 1 by up to 9e-4: cosines leave [-1, 1]."""
    rng = np.random.default_rng(21)
    faces = _near(_faces(20, 128, 22), np.repeat(np.arange(20), 20), 0.02, 23)
    mu = faces.mu * (1 + rng.uniform(-9e-4, 9e-4, (400, 1))).astype(np.float32)
    faces = Embeddings(mu, rng.uniform(1e-4, 1e-3, (400, 1)).astype(np.float32))
    return faces[30:], faces[:30]


def _dim(dim: int) -> Callable[[], Pair]:
    def make() -> Pair:
        references = _faces(190, dim, 24 + dim, low=0.01)
        return references, Embeddings.concatenate([_faces(20, dim, 25 + dim), references[:10]])

    return make


def _count(count: int) -> Callable[[], Pair]:
    return lambda: (_faces(count, 24, 26 + count, low=1e-3, high=5), _faces(25, 24, 27 + count))


def _equal_count(count: int) -> Callable[[], Pair]:
    """Equal variances fill buckets of 16 tiles to their border."""
    return lambda: (Embeddings(_faces(count, 8, count).mu, np.ones((count, 1), np.float32)), _faces(25, 8, 28))


SETS: dict[str, Callable[[], Pair]] = {
    "ordinary": _ordinary,
    "duplicates": _duplicates,
    "wide variances": _wide_variances,
    "all alike": _all_alike,
    "hair apart": _hair_apart,
    "spiky": _spiky,
    "mixed spikes": _mixed_spikes,
    "one-hot": _one_hot,
    "equal variances": _equal_variances,
    "few": _few,
    "opposite": _opposite,
    "off length": _off_length,
    **{f"D = {dim}": _dim(dim) for dim in (1, 2, 3, 5, 31, 32, 33, 200)},
    **{f"M = {count}": _count(count) for count in (1, 63, 64, 65, 127, 128, 129)},
    **{f"M = {count} of one variance": _equal_count(count) for count in (1023, 1024, 1025)},
}


@pytest.fixture(scope="session", params=SETS)
def hard_set(request: pytest.FixtureRequest) -> Pair:
    """(references, probes) that are hard in some way."""
    return SETS[request.param]()


def true_scores(probes: Embeddings, references: Embeddings, metric: Metric) -> Truth:
    """(N, M) scores in extended precision, by the formulas as they are printed."""
    a, b = (side.mu.astype(np.longdouble) for side in (probes, references))
    s, r = (side.sigma_sq.astype(np.longdouble) for side in (probes, references))
    if metric == "mls" and s.shape[1] > 1:
        t = s[:, None] + r[None]
        scores: Truth = -((a[:, None] - b[None]) ** 2 / t + np.log(t)).sum(axis=2) / 2
        return scores
    cosines = a @ b.T
    if metric == "cosine":
        return cosines
    t = s + r.T
    scores = -(2 - 2 * cosines) / t - np.log(t)
    return scores * probes.dim / 2 if metric == "mls" else scores


def rounding(probes: Embeddings, references: Embeddings, metric: Metric) -> NDArray[np.float64]:
    """(N, M) how far a float64 score may be from the true one."""
    if metric == "mls" and probes.sigma_sq.shape[1] > 1:
        t = probes.sigma_sq.astype(np.float64)[:, None] + references.sigma_sq.astype(np.float64)[None]
        apart = (probes.mu.astype(np.float64)[:, None] - references.mu.astype(np.float64)[None]) ** 2
        return 1e-14 * (apart / t + np.abs(np.log(t)) + 1e-3).sum(axis=2)
    cosine = np.full((len(probes), len(references)), 3e-15)
    if metric == "cosine":
        return cosine
    t = probes.sigma_sq.astype(np.float64) + references.sigma_sq.astype(np.float64).T
    off = 2 * cosine / t + 1e-15 * np.abs(np.log(t)) + 1e-15
    return off * probes.dim / 2 if metric == "mls" else off


def check_top_k(
    scores: np.ndarray,
    indices: np.ndarray,
    probes: Embeddings,
    references: Embeddings,
    metric: Metric,
    truth: Truth | None = None,
) -> None:
    """Fail where a top k is not that of the true scores, so far as float64 can tell, or has a tie in the wrong order.

    Where two true scores are closer than float64 rounds, either order is right, unless the two references are equal
    to the bit: then the lower row must come first.
    """
    if truth is None:
        truth = true_scores(probes, references, metric)
    off = rounding(probes, references, metric)
    count, k = scores.shape
    assert indices.shape == (len(probes), k)
    line = np.arange(count)[:, None]
    assert ((indices >= 0) & (indices < len(references))).all()
    assert (np.abs(scores - truth[line, indices]) <= off[line, indices]).all()
    rows_rise = (scores[:, 1:] == scores[:, :-1]) & (indices[:, 1:] > indices[:, :-1])
    assert ((scores[:, 1:] < scores[:, :-1]) | rows_rise).all()

    # Nobody who was left out is clearly better than the last.
    left_out = truth - off
    left_out[line, indices] = -np.inf
    assert (left_out.max(axis=1) <= truth[line[:, 0], indices[:, -1]] + off[line[:, 0], indices[:, -1]]).all()
    # Where the true scores are clearly apart, the row is that of the true order.
    order = np.argsort(-truth, axis=1, kind="stable")
    by_rank, room = np.take_along_axis(truth, order, 1), np.take_along_axis(off, order, 1)
    apart = np.full((count, len(references) + 1), True)
    apart[:, 1:-1] = by_rank[:, :-1] - by_rank[:, 1:] > room[:, :-1] + room[:, 1:]
    clear = (apart[:, :-1] & apart[:, 1:])[:, :k]
    assert (indices[clear] == order[:, :k][clear]).all()
    # Of references that are equal to the bit the lowest rows come first, without a gap.
    _, group = np.unique(np.concatenate([references.mu, references.sigma_sq], axis=1), axis=0, return_inverse=True)
    group = group.ravel()
    place = np.argsort(np.argsort(group, kind="stable")) - np.searchsorted(np.sort(group), group)
    for row in indices:
        seen: dict[int, int] = {}
        for index in row:
            assert place[index] == seen.get(group[index], 0)
            seen[group[index]] = place[index] + 1


@pytest.fixture(scope="session")
def bench() -> SimpleNamespace:
    """What the tests of this folder share: makers of faces, and the oracle."""
    return SimpleNamespace(
        faces=_faces,
        near=_near,
        unit=_unit,
        sets=SETS,
        true_scores=true_scores,
        rounding=rounding,
        check_top_k=check_top_k,
    )
