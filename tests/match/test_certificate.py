"""Certified search on inner-product engines: FAISS's, and ones made up to be wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import InvalidValue
from probface.match.certificate import (
    augment,
    augment_probes,
    certified_search,
    certify,
    float32_slack,
    least_products,
    slopes,
)
from probface.match.exact import SearchIndex
from probface.types import Embeddings

Pair = tuple[Embeddings, Embeddings]


def flat(references: Embeddings) -> faiss.IndexFlatIP:
    engine = faiss.IndexFlatIP(references.dim + 1)
    engine.add(augment(references))
    return engine


class Loop:
    """An engine that computes in float64: the K largest products, in a stable order."""

    def __init__(self, held: np.ndarray) -> None:
        self.held, self.asked = held.astype(np.float64), 0

    def search(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        self.asked += len(x)
        products = x.astype(np.float64) @ self.held.T
        rows = np.argsort(-products, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(products, rows, 1).astype(np.float32), rows


def one(sigma_sq: float, dim: int = 2) -> Embeddings:
    return Embeddings(np.eye(1, dim, dtype=np.float32), np.full((1, 1), sigma_sq, np.float32))


@pytest.mark.parametrize("k", [1, 10, 100])
def test_flat_faiss_gives_what_the_index_gives(hard_set: Pair, k: int) -> None:
    references, probes = hard_set
    expected = SearchIndex(references).search(probes, k)
    for engine in (flat(references), Loop(augment(references))):
        found = certified_search(engine, references, probes, k, start=20, exact=True)
        assert found.certified.all()
        np.testing.assert_array_equal(found.scores, expected.scores, strict=True)
        np.testing.assert_array_equal(found.indices, expected.indices, strict=True)
        assert ((found.asked >= min(k, len(references))) & (found.asked <= len(references))).all()


def test_most_are_proved_by_a_small_part(bench: SimpleNamespace) -> None:
    """The certificate is not just the end of the doubling."""
    references = bench.faces(20_000, 64, 0, low=0.1, high=1)
    probes = bench.near(references, np.arange(100), 0.7, 1)
    found = certified_search(flat(references), references, probes, 10)
    assert (found.engine, found.certified.all()) == ("exact", True)
    assert np.median(found.asked) <= 1000
    expected = SearchIndex(references).search(probes, 10)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.scores, expected.scores)


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 250),
    dim=st.integers(1, 40),
    k=st.integers(1, 30),
    start=st.integers(1, 60),
    spread=st.sampled_from([1e-6, 1e-3, 0.3, 3.0]),
    low=st.floats(-4, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_set(
    bench: SimpleNamespace, count: int, dim: int, k: int, start: int, spread: float, low: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mu = bench.unit(rng.normal(size=dim) + spread * rng.normal(size=(count + 12, dim)))
    faces = Embeddings(mu, rng.uniform(10**low, 10, (count + 12, 1)).astype(np.float32))
    references, probes = faces[:count], faces[count:]
    found = certified_search(flat(references), references, probes, k, start=start)
    expected = SearchIndex(references).search(probes, k)
    assert found.certified.all()
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.indices, expected.indices)


@given(
    tau=st.floats(-1e4, 12),
    old=st.floats(-1e4, 12),
    s=st.floats(1e-4, 10),
    t0=st.floats(1e-4, 10),
    low=st.floats(1e-4, 10),
    ratio=st.floats(1, 1e4),
)
def test_the_bound_against_a_scan(tau: float, old: float, s: float, t0: float, low: float, ratio: float) -> None:
    """For any slope, of either sign, alpha + beta s_j is below b everywhere, and touches it or ends in the range."""
    probe, high = one(s), low * ratio
    s = float(probe.sigma_sq[0, 0])
    beta = slopes(probe, np.array([old]), t0)
    alpha = least_products(probe, beta, np.array([tau]), (low, high))[0]
    s_j = np.geomspace(low, high, 20001).astype(np.longdouble)
    s_j[0], s_j[-1] = low, high
    t = s + s_j
    gap = 1 + t / 2 * (tau + np.log(t)) - np.longdouble(beta[0]) * s_j - alpha
    assert gap.min() >= 0
    size = 2 + (s + high) * (abs(tau) + abs(np.log(s + low)) + abs(np.log(s + high)) + abs(float(beta[0])))
    assert gap.min() <= 4e-12 * size + (s + high) * (np.log(ratio) / 20000) ** 2


def test_without_the_clamp_it_is_the_closed_form() -> None:
    for beta, tau, s in ((0.3, -1.0, 0.2), (-2.0, -5.0, 0.1), (1.5, 2.0, 0.02)):
        closed = 1 + beta * s - np.exp(2 * beta - 1 - tau) / 2
        wide = least_products(one(s), np.array([beta], np.float32), np.array([tau]), (0.0, 1e3))[0]
        assert wide == pytest.approx(closed, abs=1e-6)
        assert least_products(one(s), np.array([beta], np.float32), np.array([tau]), (0.5, 0.6))[0] >= wide


def test_the_old_tangent_point_with_the_new_tau_is_no_bound() -> None:
    """What one is tempted to do: beta from an old tau, and alpha = b(t0) - beta t0 + beta s_i with the new b."""
    rng = np.random.default_rng(0)
    broken = {"old point": 0, "ours": 0}
    for _ in range(300):
        s, median, tau = np.exp(rng.uniform(-3, 1)), np.exp(rng.uniform(-3, 1)), rng.uniform(-6, 1)
        probe, new = one(s), tau + rng.uniform(0, 2)
        s = float(probe.sigma_sq[0, 0])
        beta = slopes(probe, np.array([tau]), median)
        t0 = s + median
        alphas = {
            "old point": 1 + t0 / 2 * (new + np.log(t0)) - float(beta[0]) * t0 + float(beta[0]) * s,
            "ours": least_products(probe, beta, np.array([new]), (0.04, 3.0))[0],
        }
        s_j = np.geomspace(0.04, 3.0, 500)
        least = (1 + (s + s_j) / 2 * (new + np.log(s + s_j)) - float(beta[0]) * s_j).min()
        for name, alpha in alphas.items():
            broken[name] += bool(alpha > least + 1e-9)
    assert broken["ours"] == 0
    assert broken["old point"] > 30


def test_slopes_have_either_sign_and_are_as_sent(bench: SimpleNamespace) -> None:
    references = bench.faces(800, 16, 2, low=0.05, high=5)
    probes = Embeddings.concatenate([bench.near(references, np.arange(30), 0.2, 3), bench.faces(30, 16, 4, low=1)])
    tau = SearchIndex(references).search(probes, 5).scores[:, -1]
    beta = slopes(probes, tau, float(np.median(references.sigma_sq)))
    assert beta.dtype == np.float32
    assert beta.min() < 0 < beta.max()
    np.testing.assert_array_equal(augment_probes(probes, beta)[:, -1], -beta)
    assert (slopes(probes, np.full(60, -np.inf), 1.0) == 0).all()
    found = certified_search(flat(references), references, probes, 5, start=10)
    assert found.certified.all()
    np.testing.assert_array_equal(found.scores, SearchIndex(references).search(probes, 5).scores)


def test_the_slack_covers_what_faiss_rounds(hard_set: Pair) -> None:
    references, probes = hard_set
    for beta in (-30.0, 0.0, 0.7, 400.0):
        sent = augment_probes(probes, np.full(len(probes), beta, np.float32)).astype(np.longdouble)
        products, rows = flat(references).search(sent.astype(np.float32), len(references))
        exact = np.take_along_axis(sent @ augment(references).astype(np.longdouble).T, rows, 1)
        slack = float32_slack(probes, np.full(len(probes), beta, np.float32), float(references.sigma_sq.max()))
        assert (np.abs(products - exact) <= slack[:, None]).all()


def test_the_certificate_needs_the_slack(bench: SimpleNamespace) -> None:
    """At a last product just below alpha, rounding may hide a reference that belongs to the top k."""
    probe, beta, tau = one(0.3), np.zeros(1, np.float32), np.array([-1.0])
    alpha = least_products(probe, beta, tau, (0.2, 0.4))
    slack = float32_slack(probe, beta, 0.4)
    for below, expected in ((0.5, False), (1.0, False), (1.01, True)):
        assert certify(probe, beta, tau, alpha - below * slack, (0.2, 0.4), slack).tolist() == [expected]
    for last in (np.nan, np.inf, -np.inf):
        assert certify(probe, beta, tau, np.array([last]), (0.2, 0.4), slack).tolist() == [False]
    assert certify(probe, beta, np.array([-np.inf]), alpha - 9, (0.2, 0.4), slack).tolist() == [False]
    assert np.isinf(float32_slack(probe, np.full(1, 1e30, np.float32), 1e8)).all()


def approximate_engines(references: Embeddings) -> dict[str, Any]:
    held, width = augment(references), references.dim + 1
    metric = faiss.METRIC_INNER_PRODUCT
    hnsw = faiss.IndexHNSWFlat(width, 16, metric)
    quantiser = faiss.IndexFlatIP(width)
    ivf = faiss.IndexIVFFlat(quantiser, width, 8, metric)
    pq = faiss.IndexPQ(width, 3, 4, metric)
    scalar = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit, metric)
    engines = {"hnsw": hnsw, "ivf": ivf, "pq": pq, "scalar": scalar}
    for engine in engines.values():
        engine.train(held)
        engine.add(held)
    return engines


def test_approximate_engines_are_never_certified(bench: SimpleNamespace) -> None:
    references = bench.faces(500, 32, 5)
    probes = bench.near(references, np.arange(20), 0.4, 6)
    truth = bench.true_scores(probes, references, "fastmls")
    for name, engine in approximate_engines(references).items():
        for start in (10, 100, 500):
            found = certified_search(engine, references, probes, 5, start=start)
            assert (found.engine, found.certified.any()) == ("approximate", False), name
            assert (found.asked == start).all()  # to ask for more would prove nothing
            there = found.indices >= 0
            line = np.nonzero(there)[0]
            np.testing.assert_allclose(
                found.scores[there], truth[line, found.indices[there]].astype(np.float64), rtol=1e-12, atol=1e-12
            )
        with pytest.raises(InvalidValue, match=r"exact=True for a Index\w+: it may miss the largest products"):
            certified_search(engine, references, probes, 5, exact=True)


def test_who_is_exact(bench: SimpleNamespace) -> None:
    references, probes = bench.faces(300, 8, 7), bench.faces(10, 8, 8)
    made = faiss.index_factory(9, "Flat", faiss.METRIC_INNER_PRODUCT)
    made.add(augment(references))
    mapped = faiss.IndexIDMap(faiss.IndexFlatIP(9))
    mapped.add_with_ids(augment(references), np.arange(300))
    for engine, stated, kind in (
        (made, None, "exact"),
        (flat(references), False, "approximate"),
        (mapped, None, "approximate"),
        (mapped, True, "exact"),
        (Loop(augment(references)), None, "approximate"),
        (Loop(augment(references)), True, "exact"),
    ):
        found = certified_search(engine, references, probes, 3, exact=stated)
        assert (found.engine, found.certified.all(), found.certified.any()) == (kind, kind == "exact", kind == "exact")


class Short(Loop):
    """Finds at most a few, and says -1 for the rest."""

    def search(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        products, rows = super().search(x, k)
        products[:, 12:], rows[:, 12:] = -np.finfo(np.float32).max, -1
        return products, rows


class Silent(Loop):
    """Leaves out one row, and gives another twice."""

    def search(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        products, rows = super().search(x, k)
        products[:, -1], rows[:, -1] = products[:, -2], rows[:, -2]
        return products, rows


def test_an_engine_that_returns_fewer_certifies_nobody(bench: SimpleNamespace) -> None:
    references, probes = bench.faces(60, 8, 9), bench.faces(10, 8, 10)
    found = certified_search(Short(augment(references)), references, probes, 20, start=8, exact=True)
    assert not found.certified.any()
    assert found.scores.shape == found.indices.shape == (10, 20)
    assert (found.asked == 60).all()
    for scores, rows in zip(found.scores, found.indices, strict=True):
        there = rows >= 0
        assert 12 <= there.sum() < 20 or there.all()
        assert len(set(rows[there].tolist())) == there.sum()
        assert np.isneginf(scores[~there]).all()
    found = certified_search(Short(augment(references)), references, probes, 5, start=20, exact=True)
    assert np.isfinite(found.scores).all()
    assert not found.certified.any()
    found = certified_search(Silent(augment(references)), references, probes, 60, exact=True)
    assert not found.certified.any()


def test_an_engine_with_other_numbers_is_found_out(bench: SimpleNamespace) -> None:
    references, probes = bench.faces(200, 8, 11), bench.faces(10, 8, 12)
    other = augment(bench.faces(200, 8, 13))
    coarse = augment(references).astype(np.float16).astype(np.float32)
    swapped = augment(references)[::-1].copy()
    for held in (other, coarse, swapped):
        for engine in (Loop(held), faiss.IndexFlatIP(9)):
            if not isinstance(engine, Loop):
                engine.add(held)
            with pytest.raises(
                InvalidValue, match=r"engine's product of probe 0 with row \d+ is .*fill it with augment"
            ):
                certified_search(engine, references, probes, 3, exact=True)


def test_what_cannot_be_asked(bench: SimpleNamespace) -> None:
    references, probes = bench.faces(20, 8, 14), bench.faces(3, 8, 15)
    engine = flat(references)
    wide = bench.faces(20, 8, 16, width=8)
    euclidean = faiss.IndexFlatL2(9)
    euclidean.add(augment(references))
    for arguments, message in (
        ({"k": 0}, "k = 0, start = 100: both must be 1 or more"),
        ({"start": 0}, "k = 1, start = 0: both must be 1 or more"),
        ({"references": references[:0]}, "0 references: a search needs at least one"),
        ({"references": references[:19]}, "engine of 20 vectors, 19 references: must be as many"),
        ({"probes": bench.faces(3, 7, 0)}, "probes of D = 7, references of D = 8: must be alike"),
        ({"references": wide}, r"sigma_sq of shape \(20, 8\): FastMLS takes one variance a face"),
        ({"probes": wide}, r"sigma_sq of shape \(20, 8\): FastMLS takes one variance a face"),
        ({"engine": euclidean}, "engine IndexFlatL2 of metric 1: must compare by inner product"),
    ):
        with pytest.raises(InvalidValue, match=message):
            certified_search(**{"engine": engine, "references": references, "probes": probes, "k": 1, **arguments})
    with pytest.raises(InvalidValue, match=r"rows \(3, 20\) up to 20: must be \(3, 20\), below 20"):
        certified_search(Shifted(augment(references)), references, probes, 1)


class Shifted(Loop):
    """Counts from 1."""

    def search(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        products, rows = super().search(x, k)
        return products, rows + 1


def test_nobody_asks_and_all_are_wanted(bench: SimpleNamespace) -> None:
    references = bench.faces(20, 8, 17)
    found = certified_search(flat(references), references, references[:0], 4)
    assert (found.scores.shape, found.indices.shape, found.certified.shape) == ((0, 4), (0, 4), (0,))
    found = certified_search(flat(references), references, references[:5], 999)
    assert (np.sort(found.indices, axis=1) == np.arange(20)).all()
    assert found.certified.all()
    np.testing.assert_array_equal(found.scores, SearchIndex(references).search(references[:5], 20).scores)


def test_certified_probes_are_not_asked_again(bench: SimpleNamespace) -> None:
    references = bench.faces(3000, 32, 18, low=0.3, high=0.6)
    probes = bench.near(references, np.arange(50), 0.4, 19)
    engine = Loop(augment(references))
    found = certified_search(engine, references, probes, 1, start=50, exact=True)
    assert found.certified.all()
    assert (found.asked == 50).mean() > 0.5
    again = sum(int(np.ceil(np.log2(count / 50))) for count in found.asked)  # doublings
    assert engine.asked <= 50 + 50 + again
