"""Streamed figures against the ones of all scores in memory, and against scikit-learn: equal to the bit."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from probface.errors import InsufficientData, InvalidValue
from probface.eval.metrics import impostor_tail
from probface.eval.metrics.impostor_tail import ImpostorTail
from probface.eval.metrics.score_digits import CHUNK
from probface.eval.metrics.streaming import StreamedRates, operating_points
from probface.eval.metrics.verification import eer, threshold_at, tmr_at_fmr

Block = tuple[np.ndarray, np.ndarray]
RATES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 0.999)

_32, _64 = np.finfo(np.float32), np.finfo(np.float64)
SPECIAL_32 = [0.0, -0.0, *(s * float(v) for v in (_32.smallest_subnormal, _32.tiny, _32.max) for s in (1, -1))]
SPECIAL_64 = [0.0, -0.0, *(s * float(v) for v in (_64.smallest_subnormal, _64.tiny, _64.max) for s in (1, -1))]


def comparisons(width: int, special: list[float]) -> st.SearchStrategy[list[tuple[float, bool]]]:
    tied = st.integers(-3, 3).map(lambda v: v / 4)
    near = st.integers(0, 5).map(lambda v: float(np.float32(1) + v * np.finfo(np.float32).eps))
    finite = st.floats(width=width, allow_nan=False, allow_infinity=False)
    return st.lists(st.tuples(st.one_of(tied, near, st.sampled_from(special), finite), st.booleans()), max_size=60)


def in_blocks(scores: np.ndarray, genuine: np.ndarray, size: int) -> list[Block]:
    return [(scores[i : i + size], genuine[i : i + size]) for i in range(0, len(scores), size)]


def check(found: StreamedRates, scores: np.ndarray, genuine: np.ndarray) -> None:
    mates, impostors = scores[genuine], scores[~genuine]
    assert (found.genuine, found.impostors) == (len(mates), len(impostors))
    for point in found.points:
        assert point.threshold == threshold_at(impostors, point.fmr)
        assert point.tmr == tmr_at_fmr(mates, impostors, point.fmr, allow_few=True)
        assert point.false_matches == np.count_nonzero(impostors > point.threshold)
    assert found.eer == eer(mates, impostors)


def check_curve(found: StreamedRates, scores: np.ndarray, genuine: np.ndarray) -> None:
    for threshold, fmr, tmr in zip(found.curve.threshold, found.curve.fmr, found.curve.tmr, strict=True):
        assert (fmr, tmr) == (np.mean(scores[~genuine] > threshold), np.mean(scores[genuine] > threshold))


@given(comparisons(32, SPECIAL_32), st.integers(1, 20))
def test_float32(pairs: list[tuple[float, bool]], size: int) -> None:
    scores, genuine = np.array([s for s, _ in pairs], np.float32), np.array([g for _, g in pairs], np.bool_)
    assume(genuine.any() and not genuine.all())
    found = operating_points(in_blocks(scores, genuine, size), RATES, allow_few=True)
    assert found.passes == 2
    check(found, scores, genuine)
    check_curve(found, scores, genuine)


@settings(max_examples=12, deadline=None)  # 4 million counts an example
@given(comparisons(64, SPECIAL_64), st.integers(1, 20))
def test_float64(pairs: list[tuple[float, bool]], size: int) -> None:
    scores, genuine = np.array([s for s, _ in pairs], np.float64), np.array([g for _, g in pairs], np.bool_)
    assume(genuine.any() and not genuine.all())
    found = operating_points(in_blocks(scores, genuine, size), RATES[1:4], allow_few=True)
    assert found.passes == 3
    check(found, scores, genuine)
    check_curve(found, scores, genuine)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", ["normal", "negative", "crowded", "constant", "few values"])
def test_distributions(dtype: type, shape: str) -> None:
    """Blocks longer than a chunk; crowded: all scores share their upper bits."""
    rng = np.random.default_rng(3)
    genuine = rng.random(2 * CHUNK + 77) < 0.03
    scores = rng.normal(genuine * 3.0, 1).astype(dtype)
    if shape == "negative":
        scores = -(np.abs(scores) + dtype(1))
    elif shape == "crowded":
        scores = (1 + scores * np.finfo(dtype).eps * 50).astype(dtype)
    elif shape == "constant":
        scores = np.full_like(scores, -0.25)
    elif shape == "few values":
        scores = np.round(scores)
    found = operating_points(in_blocks(scores, genuine, CHUNK + 1000), (1e-1, 1e-3, 1e-4))
    check(found, scores, genuine)


def test_against_scikit_learn() -> None:
    """The coarse curve's points lie on scikit-learn's curve of all points."""
    rng = np.random.default_rng(4)
    genuine = rng.random(20_000) < 0.3
    scores = rng.normal(genuine * 1.5, 1).astype(np.float32)
    found = operating_points(in_blocks(scores, genuine, 999), (1e-2,))
    fpr, tpr, _ = roc_curve(genuine, scores, drop_intermediate=False)
    everywhere = set(zip(fpr.tolist(), tpr.tolist(), strict=True))
    points = list(zip(found.curve.fmr.tolist(), found.curve.tmr.tolist(), strict=True))
    assert len(points) > 500
    assert set(points) <= everywhere
    (point,) = found.points
    assert point.tmr == tpr[fpr <= 1e-2].max()


class Computed:
    """A million scores, made anew in each pass; counts the passes and the blocks alive."""

    def __init__(self, blocks: int, size: int) -> None:
        self.blocks, self.size, self.passes = blocks, size, 0

    def __iter__(self) -> Iterator[Block]:
        self.passes += 1
        for number in range(self.blocks):
            rng = np.random.default_rng(number)
            genuine = rng.random(self.size) < 0.01
            yield rng.normal(genuine * 4, 1).astype(np.float32), genuine


def test_memory_does_not_grow_with_the_scores() -> None:
    peaks = []
    for blocks in (4, 40):
        tracemalloc.start()
        found = operating_points(Computed(blocks, 50_000), (1e-3,))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.genuine + found.impostors == blocks * 50_000
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 40 * 50_000 * 4  # less than the scores themselves


def test_progress_and_passes() -> None:
    blocks, seen = Computed(3, 1000), []
    found = operating_points(blocks, (1e-2,), progress=lambda number, scores: seen.append((number, scores)))
    assert blocks.passes == found.passes == 2
    assert seen == [(1, 1000), (1, 2000), (1, 3000), (2, 1000), (2, 2000), (2, 3000)]


def test_empty_blocks_and_no_rate() -> None:
    empty = (np.empty(0, np.float32), np.empty(0, np.bool_))
    block = (np.array([1, 2, 3, 4], np.float32), np.array([False, True, False, True]))
    found = operating_points([empty, block, empty], ())
    assert found.points == ()
    check(found, *block)


def test_too_few_impostors() -> None:
    blocks = in_blocks(np.arange(1000, dtype=np.float32), np.arange(1000) % 10 == 0, 100)
    with pytest.raises(InsufficientData, match=r"FMR 0\.01 needs at least 1,000 impostor comparisons, found 900"):
        operating_points(blocks, (0.1, 0.01))
    assert operating_points(blocks, (0.01,), allow_few=True).points[0].false_matches == 9


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_names_the_block_and_row_of_a_score_that_is_not_finite(value: float, dtype: type) -> None:
    scores, genuine = np.zeros(CHUNK + 10, dtype), np.arange(CHUNK + 10) % 2 == 0
    bad = scores.copy()
    bad[CHUNK + 3] = value
    with pytest.raises(InvalidValue, match=f"score {value} in block 1, row {CHUNK + 3}: must be finite"):
        operating_points([(scores, genuine), (bad, genuine)], (0.1,))


GOOD = (np.array([1.0, 2.0], np.float32), np.array([True, False]))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "no score"),
        ([(np.ones(2, np.float32), np.array([True, True]))], "impostor scores: none among 2"),
        ([(np.ones(2, np.float32), np.array([False, False]))], "genuine scores: none among 2"),
        ([(np.ones(2, np.float16), GOOD[1])], "block 0: scores of shape .2,., float16"),
        ([(np.ones((2, 1), np.float32), GOOD[1])], "block 0: scores of shape .2, 1."),
        ([GOOD, (np.ones(2, np.float64), GOOD[1])], "block 1: scores of shape .2,., float64"),
        ([GOOD, (GOOD[0], np.array([1, 0]))], "block 1: genuine of shape .2,., int64"),
        ([(GOOD[0], np.array([True]))], "block 0: genuine of shape .1,."),
        (iter([GOOD]), "list_iterator: can be read only once"),
    ],
)
def test_refuses_blocks(blocks: list[Block], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        operating_points(blocks, (0.1,), allow_few=True)


@pytest.mark.parametrize("fmrs", [(1.0,), (-0.1,), (float("nan"),), (0.1,) * 17])
def test_refuses_rates(fmrs: tuple[float, ...]) -> None:
    with pytest.raises(InvalidValue, match="at most 16 rates, each at least 0 and below 1"):
        operating_points([GOOD], fmrs)


class Changing:
    """Other scores in the second pass."""

    def __init__(self, second: np.ndarray) -> None:
        self.passes, self.second = 0, second

    def __iter__(self) -> Iterator[Block]:
        self.passes += 1
        scores = np.array([1, 2, 3, 4], np.float32) if self.passes == 1 else self.second
        yield scores, np.arange(len(scores)) % 2 == 0


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (np.array([1, 2], np.float32), "pass 2 over the blocks gave 2 scores, pass 1 gave 4"),
        (np.array([9, 9, 9, 9], np.float32), "pass 2 over the blocks gave other scores"),
        (np.array([3, 3, 3, 4], np.float32), "pass 2 over the blocks gave other scores"),
    ],
)
def test_refuses_blocks_that_change(second: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        operating_points(Changing(second), (0.1,), allow_few=True)


@given(
    st.lists(st.integers(-4, 4), min_size=1, max_size=200),
    st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9]),
    st.integers(1, 9),
)
def test_tail(values: list[int], fmr: float, size: int) -> None:
    """In chunks so small that the tail is pruned again and again."""
    scores = np.array(values, np.float32) / 4
    tail = ImpostorTail(len(scores), fmr)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(impostor_tail, "CHUNK", 3)
        for start in range(0, len(scores), size):
            tail.add(np.append(scores[start : start + size], np.float32(-np.inf)))
    for rate in (fmr, fmr / 2):
        threshold = tail.threshold(rate)
        assert threshold == threshold_at(scores, rate)
        assert tail.false_matches(threshold) == np.count_nonzero(scores > threshold)


def test_tail_of_many_scores_holds_few() -> None:
    scores = np.random.default_rng(5).normal(size=20 * CHUNK).astype(np.float32)
    tracemalloc.start()
    tail = ImpostorTail(len(scores), 1e-3)
    tail.add(scores)
    threshold = tail.threshold(1e-3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert threshold == threshold_at(scores, 1e-3)
    assert peak < scores.nbytes / 2


def test_tail_refuses() -> None:
    for count, fmr in ((0, 0.1), (10, 1.0), (10, -0.1)):
        with pytest.raises(InvalidValue, match="need an impostor and a rate"):
            ImpostorTail(count, fmr)
    tail = ImpostorTail(100, 0.1)
    tail.add(np.arange(100, dtype=np.float32))
    with pytest.raises(InvalidValue, match="announce the highest rate"):
        tail.threshold(0.2)
    with pytest.raises(InvalidValue, match="needs the 11 highest impostor scores, 0 of 11 are held"):
        ImpostorTail(100, 0.1).threshold(0.1)
