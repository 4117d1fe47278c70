"""BLUFR against plain float64 loops on small lists, and on LFW's own lists where they are at hand."""

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import DataError, InsufficientData, InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.protocols import all_pairs
from probface.eval.protocols.all_pairs import all_pair_rates
from probface.eval.protocols.blufr import BlufrOptions, judge_blufr, over_trials
from probface.readers.blufr import BlufrLists, BlufrTrial, read_blufr
from probface.types import METRICS, Embeddings

REAL = Path(os.environ.get("PROBFACE_LFW", Path(__file__).parents[3] / ".." / "shared" / "data" / "lfw")) / "blufr"


def faces(rng: np.random.Generator, labels: np.ndarray, dim: int = 8, noise: float = 0.5) -> Embeddings:
    centres = rng.normal(size=(int(labels.max()) + 1, dim))
    mu = centres[labels] + noise * rng.normal(size=(len(labels), dim))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return Embeddings(mu.astype(np.float32), rng.uniform(0.2, 0.6, (len(labels), 1)).astype(np.float32))


def formula(faces: Embeddings, metric: str) -> np.ndarray:
    """(N, N) scores in float64, as the definitions say."""
    cos = faces.mu.astype(np.float64) @ faces.mu.astype(np.float64).T
    if metric == "cosine":
        return cos
    t = faces.sigma_sq.astype(np.float64) + faces.sigma_sq.astype(np.float64).T
    fast = -(2 - 2 * cos) / t - np.log(t)
    return fast if metric == "fastmls" else fast * faces.dim / 2


def rate_by_loop(genuine: list[float], impostors: list[float], fmr: float) -> tuple[float, float]:
    """Threshold and TMR: try every impostor score, from the lowest."""
    for threshold in sorted(impostors):
        if np.count_nonzero(np.array(impostors) > threshold) <= fmr * len(impostors) + 1e-9:
            return threshold, np.count_nonzero(np.array(genuine) > threshold) / len(genuine)
    raise AssertionError


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 60), st.sampled_from(METRICS), st.sampled_from([3, 16, 256]))
def test_all_pairs_against_a_plain_loop(seed: int, count: int, metric: str, rows: int) -> None:
    """Blocks smaller than a person's images, and larger than everything."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, max(2, count // 4), count)
    labels[:3] = [0, 0, 1]
    embedded = faces(rng, labels)
    genuine, impostors = [], []
    scores = formula(embedded, metric)
    for i, j in combinations(range(count), 2):
        (genuine if labels[i] == labels[j] else impostors).append(scores[i, j])
    fmrs = (0.0, 0.05, 0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(all_pairs, "ROWS", rows)
        found = all_pair_rates(embedded, labels, fmrs, metric, allow_few=True)
    assert (found.genuine, found.impostors) == (len(genuine), len(impostors))
    for point in found.points:
        threshold, tmr = rate_by_loop(genuine, impostors, point.fmr)
        assert point.threshold == pytest.approx(threshold, abs=1e-4)
        assert point.tmr == pytest.approx(tmr, abs=1e-9)
        assert point.false_matches <= point.fmr * len(impostors) + 1e-9


def test_all_pairs_by_hand() -> None:
    """Ann at 0 and 10 degrees, Bo at 30 and 90: cosines 0.985 and 0.5; impostors 0.866, 0.940, 0.174, 0."""
    angles = np.radians([0, 30, 10, 90])
    mu = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    embedded = Embeddings(mu, np.ones((4, 1), np.float32))
    found = all_pair_rates(embedded, np.array([7, 2, 7, 2]), (0.0, 0.25, 0.5), "cosine", allow_few=True)
    assert (found.genuine, found.impostors) == (2, 4)
    assert [point.tmr for point in found.points] == [0.5, 0.5, 1.0]
    assert [point.false_matches for point in found.points] == [0, 1, 2]
    assert [point.threshold for point in found.points] == pytest.approx(
        [np.cos(np.radians(20)), np.cos(np.radians(30)), np.cos(np.radians(80))], abs=1e-6
    )


def test_ties_stand_or_fall_together() -> None:
    mu = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    found = all_pair_rates(
        Embeddings(mu, np.ones((4, 1), np.float32)), np.array([0, 0, 1, 2]), (0.2, 0.4), "cosine", allow_few=True
    )
    assert [(point.threshold, point.tmr, point.false_matches) for point in found.points] == [(1, 0, 0), (0, 1, 2)]


def test_all_pairs_refuses() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0, 0, 1, 1])
    embedded = faces(rng, labels)
    for wrong, fmrs, message in (
        (labels[:3], (0.1,), r"labels of shape \(3,\)"),
        (labels, (), "0 rates"),
        (np.zeros(4, int), (0.1,), "6 genuine and 0 impostor pairs"),
        (np.arange(4), (0.1,), "0 genuine and 6 impostor pairs"),
        (labels, (1.0,), "rate of at least 0 and below 1"),
        (labels, (-0.5,), "rate of at least 0 and below 1"),
    ):
        with pytest.raises(InvalidValue, match=message):
            all_pair_rates(embedded, wrong, fmrs, "cosine", allow_few=True)
    with pytest.raises(InsufficientData, match="needs at least 100 impostor comparisons, found 4"):
        all_pair_rates(embedded, labels, (0.1,), "cosine")
    opposite = np.eye(4, dtype=np.float32)[[0, 0, 0, 0]] * np.array([[1], [1], [-1], [-1]], np.float32)
    tiny = Embeddings(opposite, np.full((4, 4), 1e-40, np.float32))
    with pytest.raises(InvalidValue, match=r"mls scores of faces 0\.\.3: must be finite"):
        all_pair_rates(tiny, labels, (0.1,), "mls", allow_few=True)


def protocol(rng: np.random.Generator, people: int, images: int, trials: int) -> BlufrLists:
    """As BLUFR draws them: half of the people train; of the rest two thirds are enrolled, with one image each."""
    labels = np.repeat(np.arange(people), images)
    names = tuple(f"P{label}/P{label}_{number:04d}" for number, label in enumerate(labels))
    drawn = []
    for _ in range(trials):
        order = rng.permutation(people)
        train, test = (np.flatnonzero(np.isin(labels, half)) for half in (order[: people // 2], order[people // 2 :]))
        enrolled = order[people // 2 :][: (people - people // 2) * 2 // 3]
        gallery = np.sort([rng.choice(np.flatnonzero(labels == person)) for person in enrolled])
        drawn.append(BlufrTrial(train, test, gallery, np.setdiff1d(test, gallery)))
    return BlufrLists(names, labels, tuple(drawn), drawn[0].train, drawn[0].test)


def search_by_loop(
    lists: BlufrLists, trial: BlufrTrial, matrix: np.ndarray, fpir: float, rank: int
) -> tuple[float, int, int]:
    """DIR, and how many mated and non-mated probes there are."""
    mates, tops = [], []
    for probe in trial.probes:
        scores = {g: matrix[probe, g] for g in trial.gallery}
        mate = [g for g in trial.gallery if lists.labels[g] == lists.labels[probe]]
        if mate:
            score = scores.pop(mate[0])
            mates.append((score, 1 + sum(other >= score for other in scores.values())))
        else:
            tops.append(max(scores.values()))
    threshold, _ = rate_by_loop([0.0], tops, fpir)
    return sum(score > threshold and place <= rank for score, place in mates) / len(mates), len(mates), len(tops)


OPTIONS = BlufrOptions(fmrs=(0.02, 0.1), fpirs=(0.5, 0.7), ranks=(1, 3))


@pytest.mark.parametrize("metric", METRICS)
def test_protocol_against_a_plain_loop(metric: str) -> None:
    rng = np.random.default_rng(8)
    lists = protocol(rng, people=24, images=6, trials=3)
    embedded = faces(rng, lists.labels, noise=0.9)
    scores = formula(embedded, metric)
    shuffled = rng.permutation(len(lists.names))  # rows are found by name
    table = FaceTable(tuple(lists.names[row] for row in shuffled), embedded[shuffled])
    done = []
    result = judge_blufr(lists, table, metric, OPTIONS, progress=done.append)
    assert done == [1, 1, 1]
    assert (result.tmr.shape, result.identified.shape) == ((3, 2), (3, 2, 2))
    assert 0 < result.identified.min() < result.identified.max() < 1
    for number, trial in enumerate(lists.trials):
        genuine, impostors = [], []
        for i, j in combinations(trial.test, 2):
            kind = genuine if lists.labels[i] == lists.labels[j] else impostors
            kind.append(scores[i, j])
        assert (result.genuine[number], result.impostors[number]) == (len(genuine), len(impostors))
        for k, fmr in enumerate(OPTIONS.fmrs):
            threshold, tmr = rate_by_loop(genuine, impostors, fmr)
            assert result.thresholds[number, k] == pytest.approx(threshold, abs=1e-4)
            assert result.tmr[number, k] == tmr
        for f, fpir in enumerate(OPTIONS.fpirs):
            for r, rank in enumerate(OPTIONS.ranks):
                rate, mated, others = search_by_loop(lists, trial, scores, fpir, rank)
                assert result.identified[number, f, r] == pytest.approx(rate, abs=1e-12)
                assert (result.mated[number], result.non_mated[number]) == (mated, others)


def test_over_trials() -> None:
    found = over_trials(np.array([[0.9], [0.8], [1.0]]))
    assert (found.mean[0], found.standard_deviation[0]) == pytest.approx((0.9, 0.1))  # as MATLAB's std: over T - 1
    assert found.reported[0] == pytest.approx(0.8)
    with pytest.raises(InvalidValue, match="1 trials: need two or more"):
        over_trials(np.ones((1, 2)))


@pytest.fixture
def small() -> tuple[BlufrLists, Embeddings]:
    rng = np.random.default_rng(9)
    lists = protocol(rng, people=24, images=8, trials=2)
    return lists, faces(rng, lists.labels, noise=0.9)


def test_faces_of_each_trial(small: tuple[BlufrLists, Embeddings]) -> None:
    """Heads that differ by trial: sigma_sq does, mu does not, so cosine stays."""
    lists, embedded = small
    rng = np.random.default_rng(1)
    tables = [
        FaceTable(lists.names, Embeddings(embedded.mu, rng.uniform(0.1, 1, (len(embedded), 1)).astype(np.float32)))
        for _ in lists.trials
    ]
    asked = []

    def of_trial(number: int) -> FaceTable:
        asked.append(number)
        return tables[number]

    both = judge_blufr(lists, of_trial, "fastmls", OPTIONS)
    assert asked == [0, 1]
    for number in (0, 1):
        alone = judge_blufr(lists, tables[number], "fastmls", OPTIONS, trials=[number])
        assert np.array_equal(alone.tmr[0], both.tmr[number])
        assert np.array_equal(alone.identified[0], both.identified[number])
    cosine = [judge_blufr(lists, faces, "cosine", OPTIONS) for faces in (of_trial, tables[0])]
    assert np.array_equal(cosine[0].tmr, cosine[1].tmr)
    assert not np.array_equal(both.tmr, judge_blufr(lists, tables[0], "fastmls", OPTIONS).tmr)


def without(lists: BlufrLists, embedded: Embeddings, missing: list[int]) -> FaceTable:
    kept = np.setdiff1d(np.arange(len(lists.names)), missing)
    return FaceTable(tuple(lists.names[row] for row in kept), embedded[kept])


def test_missing_images(small: tuple[BlufrLists, Embeddings]) -> None:
    lists, embedded = small
    trial = lists.trials[0]
    mated = trial.probes[np.isin(lists.labels[trial.probes], lists.labels[trial.gallery])]
    lost = [int(mated[0]), int(trial.gallery[-1]), int(trial.train[0])]
    table = without(lists, embedded, lost)
    with pytest.raises(DataError, match=f"image '{lists.names[min(lost[:2])]}': is in the protocol's lists and not"):
        judge_blufr(lists, table, "cosine", OPTIONS, trials=[0])
    options = BlufrOptions(OPTIONS.fmrs, OPTIONS.fpirs, OPTIONS.ranks, allow_missing=True)
    found = judge_blufr(lists, table, "cosine", options, trials=[0])
    assert found.missing.tolist() == [2]  # the one that trains takes no part
    gone = lists.labels[trial.gallery[-1]]
    left = np.setdiff1d(trial.probes, [*lost, *np.flatnonzero(lists.labels == gone)])
    fewer = BlufrTrial(trial.train, np.setdiff1d(trial.test, lost), trial.gallery[:-1], left)
    expected = judge_blufr(
        BlufrLists(lists.names, lists.labels, (fewer,), trial.train, trial.test), table, "cosine", OPTIONS
    )
    assert np.array_equal(found.tmr, expected.tmr)
    assert np.array_equal(found.identified, expected.identified)
    assert (found.mated, found.non_mated) == (expected.mated, expected.non_mated)


def test_nothing_left(small: tuple[BlufrLists, Embeddings]) -> None:
    lists, embedded = small
    options = BlufrOptions(allow_missing=True)
    with pytest.raises(DataError, match="none has an embedding"):
        judge_blufr(lists, without(lists, embedded, lists.trials[0].test.tolist()), "cosine", options)
    options = BlufrOptions(OPTIONS.fmrs, allow_missing=True)
    with pytest.raises(DataError, match="trial 1: no gallery image or no probe"):
        judge_blufr(lists, without(lists, embedded, lists.trials[0].gallery.tolist()), "cosine", options)


def test_too_few(small: tuple[BlufrLists, Embeddings]) -> None:
    lists, embedded = small
    table = FaceTable(lists.names, embedded)
    with pytest.raises(InsufficientData, match=r"FMR 0\.001 needs at least 10,000"):
        judge_blufr(lists, table, "cosine")
    with pytest.raises(InsufficientData, match=r"FPIR 0\.01 needs at least 1,000"):
        judge_blufr(lists, table, "cosine", BlufrOptions(fmrs=(0.1,)))


def test_verification_alone(small: tuple[BlufrLists, Embeddings]) -> None:
    lists, embedded = small
    table = FaceTable(lists.names, embedded)
    result = judge_blufr(lists, table, "cosine", BlufrOptions(OPTIONS.fmrs, fpirs=()))
    assert np.array_equal(result.tmr, judge_blufr(lists, table, "cosine", OPTIONS).tmr)
    assert (result.identified.shape, result.search_thresholds.shape) == ((2, 0, 2), (2, 0))


@pytest.mark.parametrize("trials", [[], [2], [-1]])
def test_no_such_trial(small: tuple[BlufrLists, Embeddings], trials: list[int]) -> None:
    lists, embedded = small
    with pytest.raises(InvalidValue, match=r"must be one or more of 0\.\.1"):
        judge_blufr(lists, FaceTable(lists.names, embedded), "cosine", OPTIONS, trials=trials)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs BLUFR's lists in ../shared")
def test_one_trial_of_the_real_lists() -> None:
    """On random faces: the counts that the paper states, and rates that chance explains."""
    lists = read_blufr(REAL / "blufr_lfw_config.mat")
    rng = np.random.default_rng(2)
    embedded = faces(rng, lists.labels, dim=32, noise=1.0)
    result = judge_blufr(lists, FaceTable(lists.names, embedded), "cosine", trials=[0, 1])
    images = np.array([len(trial.test) for trial in lists.trials[:2]])
    assert np.array_equal(result.genuine + result.impostors, images * (images - 1) // 2)
    assert result.impostors.min() > 40e6
    assert result.mated.tolist() == [4832, 3943]
    trial = lists.trials[0]
    i, j = rng.choice(trial.test, (2, 200_000))
    impostor = lists.labels[i] != lists.labels[j]
    sample = np.einsum("nd,nd->n", embedded.mu[i], embedded.mu[j])[impostor]
    share = np.mean(sample > result.thresholds[0, 0])
    assert share == pytest.approx(1e-3, abs=5 * (1e-3 / len(sample)) ** 0.5)
