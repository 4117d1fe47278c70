"""Searches against loops over all probes and subjects; scores with many ties; cases worked by hand."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.errors import InsufficientData, InvalidValue
from probface.eval.metrics.identification import (
    Searches,
    cmc,
    fnir,
    fnir_at_fpir,
    fpir,
    open_set_curve,
    threshold_at_fpir,
)

# Probes of subjects 7, 5, 9 and 3 against references of 5, 7, 5 and 8: nobody is 9 or 3.
SCORES = np.array([[0.8, 0.7, 0.1, 0.8], [0.2, 0.6, 0.9, 0.9], [0.3, 0.1, 0.5, 0.4], [0.1, 0.2, 0.2, 0.7]])
REFERENCES, PROBES = np.array([5, 7, 5, 8]), np.array([7, 5, 9, 3])


def _blocks(scores: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    return (scores[start : start + rows] for start in range(0, len(scores), rows))


def _random(seed: int, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    references, probes = rng.integers(0, 6, 9), rng.integers(0, 10, 25)
    scores = (rng.integers(-3, 4, (25, 9)) + 2 * (probes[:, None] == references)) / 4
    return scores.astype(dtype), references, probes


def _by_loops(scores: np.ndarray, references: np.ndarray, probes: np.ndarray) -> tuple[list, list, list]:
    mate_score, mate_rank, top = [], [], []
    for row, probe in zip(scores.astype(np.float64), probes, strict=True):
        best = {int(s): max(row[references == s]) for s in set(references.tolist())}
        if int(probe) in best:
            mate_score.append(best[int(probe)])
            mate_rank.append(1 + sum(other >= best[int(probe)] for s, other in best.items() if s != probe))
        else:
            top.append(max(best.values()))
    return mate_score, mate_rank, top


def test_by_hand() -> None:
    found = Searches.of([SCORES], REFERENCES, PROBES)
    assert found.subjects == 3
    assert found.mate_score.tolist() == [0.7, 0.9]
    assert found.mate_rank.tolist() == [3, 2]  # behind 5 and 8; behind 8, who is as good
    assert found.top_score.tolist() == [0.5, 0.7]
    assert cmc(found, np.array([1, 2, 3, 9])).tolist() == [0, 0.5, 1, 1]
    assert fnir(found, rank=None, threshold=0.7) == 0.5  # equal to the threshold is not above it
    assert fnir(found, rank=2, threshold=0.6) == 0.5
    assert fnir(found, rank=3, threshold=-np.inf) == 0
    assert [fpir(found, t) for t in (0.4, 0.5, 0.7)] == [1, 0.5, 0]
    assert fnir_at_fpir(found, 0.5, rank=None, allow_few=True) == 0  # above 0.5 both mates are found
    assert fnir_at_fpir(found, 0.4, rank=None, allow_few=True) == 0.5  # the threshold is 0.7
    assert fnir_at_fpir(found, 0.4, allow_few=True) == 1  # none at rank 1
    curve = open_set_curve(found, rank=2)
    assert curve.threshold.tolist() == [0.9, 0.7, 0.5, -np.inf]
    assert curve.fpir.tolist() == [0, 0, 0.5, 1]
    assert curve.fnir.tolist() == [1, 0.5, 0.5, 0.5]


@given(st.integers(0, 10_000), st.integers(1, 26), st.sampled_from([np.float32, np.float64]))
def test_against_loops(seed: int, rows: int, dtype: type) -> None:
    scores, references, probes = _random(seed, dtype)
    found = Searches.of(_blocks(scores, rows), references, probes)
    mate_score, mate_rank, top = _by_loops(scores, references, probes)
    assert found.mate_score.tolist() == mate_score
    assert found.mate_rank.tolist() == mate_rank
    assert found.top_score.tolist() == top


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4, None]))
def test_every_point_of_the_open_set_curve(seed: int, rank: int | None) -> None:
    found = Searches.of([_random(seed)[0]], *_random(seed)[1:])
    curve = open_set_curve(found, rank=rank)
    for threshold, false_alarms, missed in zip(curve.threshold, curve.fpir, curve.fnir, strict=True):
        assert false_alarms == fpir(found, threshold) == np.mean(found.top_score > threshold)
        listed = found.mate_rank <= (rank or 99)
        assert missed == fnir(found, rank=rank, threshold=threshold)
        assert missed == pytest.approx(1 - np.mean(listed & (found.mate_score > threshold)), abs=1e-12)
    assert (np.diff(curve.threshold) < 0).all()
    assert (np.diff(curve.fpir) >= 0).all()
    assert (np.diff(curve.fnir) <= 0).all()
    assert curve.fnir[-1] == pytest.approx(1 - (cmc(found, np.array([rank]))[0] if rank else 1), abs=1e-12)
    for at in (0.1, 0.5, 0.9):
        best = curve.fnir[curve.fpir <= at].min()
        assert fnir_at_fpir(found, at, rank=rank, allow_few=True) == best


@given(st.integers(0, 10_000))
def test_invariants(seed: int) -> None:
    scores, references, probes = _random(seed)
    found = Searches.of([scores], references, probes)
    order = np.random.default_rng(seed).permutation(len(references))
    moved = Searches.of([np.exp(scores[:, order])], references[order], probes)
    assert (moved.mate_rank == found.mate_rank).all()
    np.testing.assert_array_equal(moved.top_score, np.exp(found.top_score.astype(np.float32)))
    # One more distractor can neither help a mate nor lower a top score.
    more = Searches.of([np.hstack([scores, scores[:, :1]])], np.append(references, 99), probes)
    assert more.subjects == found.subjects + 1
    assert (more.mate_rank >= found.mate_rank).all()
    assert (more.mate_score == found.mate_score).all()
    shares = cmc(found, np.arange(1, found.subjects + 1))
    assert (np.diff(shares) >= 0).all()
    assert shares[-1] == 1


def test_too_few_non_mated_searches() -> None:
    rng = np.random.default_rng(0)
    found = Searches(np.array([3.0]), np.array([1]), rng.normal(size=999), 5)
    with pytest.raises(InsufficientData, match=r"FPIR 0\.01 needs at least 1,000 non-mated searches, found 999"):
        threshold_at_fpir(found, 0.01)
    enough = Searches(np.array([3.0]), np.array([1]), rng.normal(size=1000), 5)
    threshold = threshold_at_fpir(enough, 0.01)
    assert threshold == np.sort(enough.top_score)[-11]
    assert fpir(enough, threshold) == 0.01
    assert threshold_at_fpir(found, 0.01, allow_few=True) == np.sort(found.top_score)[-10]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([SCORES[:, :3]], r"block of shape \(4, 3\) for probes 0\.\.3: must be \(B, 4\), 4 rows"),
        ([SCORES[:3]], "3 rows of scores for 4 probes"),
        ([SCORES, SCORES[:1]], r"block of shape \(1, 4\) for probes 4\.\.4"),
        ([SCORES[:2], SCORES[2:] * np.inf], r"scores of probes 2\.\.3: must be finite"),
        ([], "0 rows of scores for 4 probes"),
    ],
)
def test_bad_blocks(blocks: list[np.ndarray], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Searches.of(blocks, REFERENCES, PROBES)


def test_bad_values() -> None:
    none, one, first = np.empty(0), np.ones(1), np.ones(1, np.int64)
    with pytest.raises(InvalidValue, match=r"\(0,\) references"):
        Searches.of([SCORES], REFERENCES[:0], PROBES)
    with pytest.raises(InvalidValue, match="rank 0 of a mate"):
        Searches(one, 0 * first, one, 3)
    with pytest.raises(InvalidValue, match=r"rank 4 of a mate: must be in 1\.\.3"):
        Searches(one, 4 * first, one, 3)
    with pytest.raises(InvalidValue, match="score nan"):
        Searches(one, first, one * np.nan, 3)
    with pytest.raises(InvalidValue, match="searches of shapes"):
        Searches(one, first[:0], one, 3)
    with pytest.raises(InvalidValue, match="0 searches"):
        Searches(none, first[:0], none, 3)
    closed, strangers = Searches(one, first, none, 3), Searches(none, first[:0], one, 3)
    with pytest.raises(InvalidValue, match="0 non-mated searches"):
        fpir(closed, 0.0)
    with pytest.raises(InvalidValue, match="0 non-mated searches"):
        threshold_at_fpir(closed, 0.5)
    for rates in (lambda: fnir(strangers, rank=1, threshold=0.0), lambda: cmc(strangers, first)):
        with pytest.raises(InvalidValue, match="0 mated searches"):
            rates()
    for rank in (lambda: fnir(closed, rank=0, threshold=0.0), lambda: cmc(closed, 0 * first)):
        with pytest.raises(InvalidValue, match="rank 0: must be at least 1"):
            rank()
    for at in (0.0, 1.0):
        with pytest.raises(InvalidValue, match="must be between 0 and 1"):
            threshold_at_fpir(strangers, at, allow_few=True)
