import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import DataError, InsufficientData, InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.protocols.distractors import search_distractors
from probface.score.by_metric import paired_scores
from probface.score.calibration import threshold_at
from probface.types import Embeddings


def table(rng: np.random.Generator, count: int, prefix: str, dim: int = 4) -> FaceTable:
    mu = rng.normal(size=(count, dim))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    embeddings = Embeddings(mu.astype(np.float32), rng.uniform(0.1, 1, (count, 1)).astype(np.float32))
    return FaceTable(tuple(f"{prefix}{n}" for n in range(count)), embeddings)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probface.eval.protocols.distractors.BLOCK_PROBES", 5)
    monkeypatch.setattr("probface.eval.protocols.distractors.BLOCK_DISTRACTORS", 7)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("metric", ["cosine", "fastmls"])
def test_against_a_plain_loop(metric: str) -> None:
    rng = np.random.default_rng(0)
    probes, distractors = table(rng, 13, "p"), table(rng, 40, "d")
    people = [f"person {n}" for n in (0, 1, 0, 2, 1, 1, 3, 0, 4, 4, 2, 5, 1)]
    sizes, draws, seed = (1, 5, 20, 1000), 4, 9
    found = search_distractors(probes, people, distractors, metric, sizes=sizes, draws=draws, seed=seed, max_rank=3)
    assert found.sizes == (1, 5, 20, 40)

    def score(a: FaceTable, i: int, b: FaceTable, j: int) -> float:
        cos = float(a.embeddings.mu[i].astype(np.float64) @ b.embeddings.mu[j].astype(np.float64))
        t = float(a.embeddings.sigma_sq[i, 0]) + float(b.embeddings.sigma_sq[j, 0])
        return cos if metric == "cosine" else -(2 - 2 * cos) / t - math.log(t)

    searches = {(i, j) for i in range(13) for j in range(13) if i != j and people[i] == people[j]}
    assert set(zip(found.probe.tolist(), found.mate.tolist(), strict=True)) == searches
    assert len(found.probe) == len(searches)
    assert [people[i] for i in found.probe] == [people[j] for j in found.mate]
    others = np.array([[score(probes, i, distractors, d) for d in range(40)] for i in range(13)])
    generator = np.random.default_rng(seed)
    for draw in range(draws):
        order = np.argsort(generator.permutation(40))  # the distractors in the order that they come in
        for level, size in enumerate(found.sizes):
            inside = others[:, order[:size]]
            expected = [
                min(4, 1 + int(np.sum(inside[i] >= score(probes, i, probes, j))))
                for i, j in zip(found.probe, found.mate, strict=True)
            ]
            assert found.ranks(draw, level).tolist() == expected
            best = np.sort(inside, axis=1)[:, ::-1][:, :3]
            np.testing.assert_allclose(found.best[draw, level][:, : best.shape[1]], best, atol=1e-5)
            for rank in (1, 2, 3):
                assert found.rank_rates(rank)[level, draw] == pytest.approx(np.mean(np.array(expected) <= rank))
    mates = np.array([score(probes, i, probes, j) for i, j in zip(found.probe, found.mate, strict=True)])
    assert found.impostors == others.size
    for fmr in (0.02, 0.1, 0.5):
        threshold = threshold_at(others.ravel(), fmr)
        assert found.threshold(fmr) == pytest.approx(threshold, abs=1e-5)
        assert found.tmr(fmr) == pytest.approx(np.mean(mates > threshold))


@pytest.mark.usefixtures("small_blocks")
def test_larger_sets_hold_the_smaller_ones() -> None:
    rng = np.random.default_rng(1)
    probes, distractors = table(rng, 20, "p"), table(rng, 60, "d")
    found = search_distractors(
        probes, [str(n // 4) for n in range(20)], distractors, "cosine", sizes=(3, 9, 30), draws=5
    )
    assert (found.best[:, 1:] >= found.best[:, :-1]).all()
    assert (np.diff(found.rank_rates(1), axis=0) <= 0).all()
    assert (found.best[:, -1] == found.best[0, -1]).all()  # all of them, in every draw
    assert len(np.unique(found.best[:, 0, 0, 0])) > 1
    again = search_distractors(
        probes, [str(n // 4) for n in range(20)], distractors, "cosine", sizes=(3, 9, 30), draws=5
    )
    assert (again.best == found.best).all()


def test_by_hand_ties_count_against_the_mate() -> None:
    mu = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    probes = FaceTable(("a", "b", "alone"), Embeddings(mu, np.ones((3, 1), np.float32)))
    for vector, ranks in (((0.6, 0.8), [2, 2]), ((0.6, -0.8), [2, 1]), ((0.0, -1.0), [1, 1])):
        one = FaceTable(("d",), Embeddings(np.array([vector], np.float32), np.ones((1, 1), np.float32)))
        found = search_distractors(probes, ["x", "x", "y"], one, "cosine", sizes=(10,), draws=1)
        assert (found.probe.tolist(), found.mate.tolist(), found.sizes) == ([0, 1], [1, 0], (1,))
        assert found.ranks(0, 0).tolist() == ranks
        assert found.rank_rates().tolist() == [[np.mean(np.array(ranks) == 1)]]


@pytest.mark.parametrize("metric", ["cosine", "fastmls", "mls"])
def test_a_copy_of_the_mate_is_as_high(metric: str) -> None:
    """A matrix product gives the same pair other last digits in other places; a tie must be a tie all the same."""
    rng = np.random.default_rng(4)
    probes, strangers = table(rng, 60, "p", dim=128), table(rng, 500, "d", dim=128)
    copies = Embeddings(probes.embeddings.mu.copy(), probes.embeddings.sigma_sq.copy())
    pool = Embeddings.concatenate([strangers.embeddings, copies])
    order = rng.permutation(len(pool))
    distractors = FaceTable(tuple(f"d{n}" for n in range(len(pool))), pool[order])
    found = search_distractors(
        probes, [str(n // 2) for n in range(60)], distractors, metric, sizes=(len(pool),), draws=2, max_rank=10
    )
    # The probe's own copy is ahead, and the mate's copy as high: one place each, beside strangers.
    own, mates = probes.embeddings[found.probe], probes.embeddings[found.mate]
    everybody = [np.full(len(own), row) for row in range(len(strangers))]
    score = np.stack([paired_scores(own, strangers.embeddings[rows], metric) for rows in everybody])
    mate = paired_scores(own, mates, metric)
    others = np.stack([paired_scores(own, copies[(found.probe + shift) % 60], metric) for shift in range(60)])
    ahead = (score >= mate).sum(axis=0) + (others >= mate).sum(axis=0)
    for draw in range(2):
        assert found.ranks(draw, 0).tolist() == np.minimum(1 + ahead, 11).tolist()
    assert (ahead >= 2).all()
    assert (1 + ahead <= 10).any()


def test_more_sizes_than_a_byte_counts() -> None:
    rng = np.random.default_rng(5)
    probes, distractors = table(rng, 4, "p"), table(rng, 200, "d")
    found = search_distractors(probes, list("aabb"), distractors, "cosine", sizes=range(1, 201), draws=1, max_rank=1)
    assert found.sizes == tuple(range(1, 201))
    others = probes.embeddings.mu.astype(np.float64) @ distractors.embeddings.mu.T.astype(np.float64)
    order = np.argsort(np.random.default_rng(0).permutation(200))
    for level in (0, 126, 127, 128, 199):
        best = others[:, order[: level + 1]].max(axis=1)
        np.testing.assert_allclose(found.best[0, level, :, 0], best, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 50), st.sampled_from([1e-4, 0.01, 0.3]), st.integers(1, 300))
def test_the_highest_scores_in_little_memory(seed: int, blocks: int, share: float, kept: int) -> None:
    from probface.eval.protocols.distractors import _Highest

    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, 40, (blocks, 5, 9)) / 8).astype(np.float32)
    highest = _Highest(kept, spare=20)
    for block in scores:
        highest.add(block)
    expected = np.sort(scores.ravel())[::-1][:kept]
    assert (highest.falling() == expected).all()


def test_too_few_and_too_large_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probface.eval.protocols.distractors.LEAST_KEPT", 100)
    rng = np.random.default_rng(2)
    probes, distractors = table(rng, 6, "p"), table(rng, 50, "d")
    found = search_distractors(probes, list("aabbcc"), distractors, "cosine", sizes=(10, 50), draws=1)
    assert len(found.highest) == 100
    with pytest.raises(InsufficientData, match=r"FMR 1e-06 needs at least 10,000,000 impostor comparisons, found 300"):
        found.tmr(1e-6)
    assert found.threshold(1e-6, allow_few=True) == found.highest[0]
    for fmr in (0.34, 0.0):
        with pytest.raises(InvalidValue, match=r"must be above 0 and below 0\.333"):
            found.tmr(fmr, allow_few=True)
    for rank in (0, 11):
        with pytest.raises(InvalidValue, match=r"must be in 1\.\.10"):
            found.rank_rates(rank)


def test_what_is_refused() -> None:
    rng = np.random.default_rng(3)
    probes, distractors, people = table(rng, 4, "p"), table(rng, 6, "d"), ["a", "a", "b", "b"]
    with pytest.raises(DataError, match=r"distractor 'p2': is a probe, too \(1 such images\)"):
        search_distractors(probes, people, FaceTable(("p2", "x"), distractors.embeddings[:2]), "cosine")
    many = table(rng, 40, "p")
    with pytest.raises(DataError, match=r"distractor 'p0': is a probe, too \(40 such images\)"):
        search_distractors(many, ["a"] * 40, many, "cosine")
    with pytest.raises(DataError, match=r"distractors: 'b' is one of the probes' people \(1 such people\)"):
        search_distractors(probes, people, distractors, "cosine", distractor_people=["u", "b", "v", "w", "b", "z"])
    with pytest.raises(InsufficientData, match="4 probes: nobody has two images"):
        search_distractors(probes, list("abcd"), distractors, "cosine")
    for arguments, message in (
        ({"people": people[:3]}, "4 probes with 3 people"),
        ({"distractor_people": ["a"]}, "6 distractors with 1"),
        ({"sizes": ()}, "all must be 1 or more"),
        ({"sizes": (0, 5)}, "all must be 1 or more"),
        ({"draws": 0}, "all must be 1 or more"),
        ({"max_rank": 0}, "all must be 1 or more"),
        ({"distractors": FaceTable((), distractors.embeddings[:0])}, "0 distractors"),
        ({"metric": "euclid"}, "metric 'euclid'"),
    ):
        with pytest.raises(InvalidValue, match=message):
            search_distractors(
                **{"probes": probes, "people": people, "distractors": distractors, "metric": "cosine", **arguments}
            )
