import numpy as np
import pytest

from probface.contract import InputSpec, ModelContract, QualityScale
from probface.errors import InsufficientData
from probface.eval.calibrate import FALSE_MATCH_RATES, calibrate
from probface.eval.cross_pairs import CrossPairs
from probface.score.calibration import rate_upper_bound
from probface.types import Embeddings

DIM = 16


def world(people: int, width: int = 1) -> tuple[Embeddings, np.ndarray, np.ndarray]:
    """Three images a person, two states each."""
    rng = np.random.default_rng(people)
    who = np.repeat(np.arange(people), 3)
    mu = rng.normal(size=(people, DIM))[who]
    states = np.concatenate([mu + 0.3 * rng.normal(size=mu.shape), mu + 0.9 * rng.normal(size=mu.shape)])
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    sigma_sq = np.repeat([[0.4], [1.0]], len(who), axis=0) * rng.uniform(0.8, 1.2, (2 * len(who), width)) / width
    return Embeddings(states.astype(np.float32), sigma_sq.astype(np.float32)), who, np.arange(len(who))


def calibrated(
    people: int, width: int = 1, mu: np.ndarray | None = None
) -> tuple[ModelContract, Embeddings, CrossPairs]:
    embeddings, who, images = world(people, width)
    if mu is not None:
        embeddings = Embeddings(mu.astype(np.float32), embeddings.sigma_sq)
    pairs = CrossPairs.of(np.tile(who, 2), np.tile(images, 2))
    contract = calibrate(
        ModelContract("test", DIM, width, InputSpec(), "ab"),
        embeddings,
        np.tile(who, 2),
        np.tile(images, 2),
        clean_sigma_sq=embeddings.sigma_sq[: len(who)],
        extreme_sigma_sq=embeddings.sigma_sq[len(who) :],
        data="held-out",
        description="made-up people",
    )
    return contract, embeddings, pairs


@pytest.mark.parametrize("width", [1, DIM])
def test_thresholds_keep_their_rate_and_no_lower_one_does(width: int) -> None:
    contract, embeddings, pairs = calibrated(60, width)
    impostors = int((~pairs.genuine).sum())
    metrics = {"mls", "cosine"} | ({"fastmls"} if width == 1 else set())
    assert {entry.metric for entry in contract.thresholds} == metrics
    for entry in contract.thresholds:
        scores = pairs.scores(embeddings, entry.metric)[~pairs.genuine]
        above = int((scores > entry.threshold).sum())
        assert above == entry.false_matches
        assert above / impostors <= entry.fmr <= entry.fmr_upper * 1.0001
        lower = scores[scores < entry.threshold].max()
        assert (scores > lower).mean() > entry.fmr
        assert entry.impostor_pairs == impostors
        assert contract.data[entry.data] == "made-up people"


def test_only_rates_with_pairs_enough_are_measured() -> None:
    contract, _, pairs = calibrated(60)
    possible = {fmr for fmr in FALSE_MATCH_RATES if (~pairs.genuine).sum() >= 10 / fmr}
    assert {entry.fmr for entry in contract.thresholds} == possible
    assert 1e-2 in possible
    assert 1e-5 not in possible


def test_histograms_are_the_scores() -> None:
    contract, embeddings, pairs = calibrated(40)
    for histogram in contract.histograms:
        scores = pairs.scores(embeddings, histogram.metric)
        assert sum(histogram.genuine) == pytest.approx(1, abs=1e-5)
        assert sum(histogram.impostor) == pytest.approx(1, abs=1e-5)
        middle = (np.array(histogram.edges[1:]) + histogram.edges[:-1]) / 2
        mean = float(np.array(histogram.genuine) @ middle)
        assert mean == pytest.approx(scores[pairs.genuine].mean(), abs=histogram.edges[1] - histogram.edges[0])


def test_quality_is_best_on_clean_images() -> None:
    contract, embeddings, _ = calibrated(40)
    assert contract.quality is not None
    logs = np.log(embeddings.sigma_sq[:, 0])
    half = len(logs) // 2
    assert contract.quality.log_sigma_sq_best < np.median(logs[:half])
    assert contract.quality.log_sigma_sq_worst > np.median(logs[half:])


def test_scores_that_hardly_differ_still_have_a_histogram() -> None:
    embeddings, _, _ = world(40)
    near = np.eye(1, DIM) + 1e-5 * embeddings.mu
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    for mu in (near, np.repeat(np.eye(1, DIM), len(embeddings), axis=0)):
        contract, _, _ = calibrated(40, mu=mu)
        assert len(contract.histograms) == 3


def test_the_bound_is_the_larger_of_pairs_and_people() -> None:
    contract, embeddings, pairs = calibrated(60)
    for entry in contract.thresholds:
        false = np.flatnonzero((pairs.scores(embeddings, entry.metric) > entry.threshold) & ~pairs.genuine)
        alone = rate_upper_bound(entry.false_matches, entry.impostor_pairs)
        i, j = (indices[false] for indices in pairs.indices())
        shares = []
        rng = np.random.default_rng(0)  # by hand: the resamples, and every face of a person as often as he was drawn
        for _ in range(200):
            weights = rng.multinomial(60, np.full(60, 1 / 60))
            faces = weights[pairs.people]
            total = (faces.sum() ** 2 - sum(faces[pairs.people == k].sum() ** 2 for k in range(60))) / 2
            shares.append((weights[pairs.people[i]] * weights[pairs.people[j]]).sum() / total)
        over_people = np.percentile(shares, 95, method="higher")
        assert entry.fmr_upper == pytest.approx(max(alone, over_people))
    assert any(
        entry.fmr_upper > 1.01 * rate_upper_bound(entry.false_matches, entry.impostor_pairs)
        for entry in contract.thresholds
    )


def test_without_a_false_match_the_bound_is_that_of_pairs() -> None:
    """One score for all: no resample of the people has a false match, and the pairs are not endless all the same."""
    alike = np.repeat(np.eye(1, DIM), len(world(60)[0]), axis=0)
    contract, _, _ = calibrated(60, mu=alike)
    (largest, *_) = (entry for entry in contract.thresholds if entry.metric == "cosine")
    assert largest.false_matches == 0
    assert largest.fmr_upper == rate_upper_bound(0, largest.impostor_pairs) > 0


def test_of_few_people_the_bound_is_that_of_pairs_and_the_description_says_so() -> None:
    contract, _, _ = calibrated(19)
    assert contract.data["held-out"] == "made-up people; too few people (19) for bounds by resampling them"
    for entry in contract.thresholds:
        assert entry.fmr_upper == rate_upper_bound(entry.false_matches, entry.impostor_pairs)


def test_rates_of_choice_and_a_quality_scale_that_stays() -> None:
    embeddings, who, images = world(30)
    scale = QualityScale(-5.0, 1.0)
    contract = calibrate(
        ModelContract("test", DIM, 1, InputSpec(), "ab", quality=scale),
        embeddings,
        np.tile(who + 7, 2),  # numbers with gaps
        np.tile(images, 2),
        clean_sigma_sq=None,
        extreme_sigma_sq=None,
        data="own",
        description="people",
        fmrs=(0.02, 0.3, 1e-9),
    )
    assert [entry.fmr for entry in contract.thresholds] == [0.3, 0.02] * 3
    assert contract.quality == scale


def test_too_few_people_are_told() -> None:
    with pytest.raises(InsufficientData, match="needs at least 1,000 impostor comparisons, found"):
        calibrated(5)
