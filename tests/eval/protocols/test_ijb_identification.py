import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import DataError, InsufficientData, InvalidValue
from probface.eval.metrics.identification import Searches, threshold_at_fpir
from probface.eval.protocols.ijb_identification import GallerySearch, IjbIdentification, search_gallery, search_ijb
from probface.eval.protocols.templates import Templates
from probface.readers.ijb import IjbSearch, IjbSubjects
from probface.types import METRICS, Embeddings


def random_embeddings(rng: np.random.Generator, count: int, dim: int = 3) -> Embeddings:
    """Few directions, so that scores are tied."""
    mu = np.eye(dim, dtype=np.float32)[rng.integers(0, dim, count)]
    mu[rng.random(count) < 0.3] *= -1
    return Embeddings(mu, rng.choice(np.array([0.25, 0.5], np.float32), (count, 1)))


def formula(a: Embeddings, b: Embeddings, metric: str) -> np.ndarray:
    cos = a.mu.astype(np.float64) @ b.mu.astype(np.float64).T
    t = a.sigma_sq.astype(np.float64) + b.sigma_sq.astype(np.float64).T
    fast = -(2 - 2 * cos) / t - np.log(t)
    return {"cosine": cos, "fastmls": fast, "mls": fast * a.dim / 2}[metric]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 12), st.sampled_from(METRICS))
def test_searches_against_a_plain_loop(seed: int, enrolled: int, count: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    gallery, probes = random_embeddings(rng, enrolled), random_embeddings(rng, count)
    subjects, theirs = rng.permutation(20)[:enrolled], rng.integers(0, 20, count)
    found = search_gallery("G1", gallery, subjects, probes, theirs, metric)
    scores = formula(probes, gallery, metric).round(4)
    mates, ranks, tops = [], [], []
    for row, subject in enumerate(theirs.tolist()):
        if subject in subjects:
            place = subjects.tolist().index(subject)
            mates.append(scores[row, place])
            ranks.append(1 + int(np.sum(np.delete(scores[row], place) >= scores[row, place])))
        else:
            tops.append(scores[row].max())
    np.testing.assert_allclose(found.searches.mate_score, mates, atol=1e-3)
    np.testing.assert_allclose(found.searches.top_score, tops, atol=1e-3)
    assert found.searches.mate_rank.tolist() == ranks
    assert found.mated_subjects.tolist() == [subject for subject in theirs.tolist() if subject in subjects]
    assert found.other_subjects.tolist() == [subject for subject in theirs.tolist() if subject not in subjects]


def field_figures(similarity: np.ndarray, probes: np.ndarray, gallery: np.ndarray) -> dict[int, float]:
    """Rank rates as the field's script counts them, where nothing is tied."""
    hits = {1: 0, 5: 0, 10: 0}
    mated = [row for row, subject in enumerate(probes) if subject in gallery]
    for row in mated:
        order = np.argsort(similarity[row])[::-1]
        place = gallery.tolist().index(probes[row])
        for rank in hits:
            hits[rank] += place in order[:rank]
    return {rank: count / len(mated) for rank, count in hits.items()}


def test_both_galleries_as_the_field_counts_them() -> None:
    rng = np.random.default_rng(5)
    people, dim = 60, 16
    centres = rng.normal(size=(people, dim))

    def embed(who: np.ndarray) -> np.ndarray:
        mu = centres[who] + rng.normal(size=(len(who), dim))
        return (mu / np.linalg.norm(mu, axis=1, keepdims=True)).astype(np.float32)

    who = np.concatenate([np.arange(people), rng.integers(0, people, 400)])  # enrolled, then probes
    mu = embed(who)
    ids = np.arange(100, 100 + len(who))
    ones = np.ones(len(who), np.int64)
    templates = Templates(ids, Embeddings(mu, np.full((len(who), 1), 0.5, np.float32)), ones, ones)
    galleries = (
        IjbSubjects("G1", ids[:35], who[:35].astype(np.int64)),
        IjbSubjects("G2", ids[35:60], who[35:60].astype(np.int64)),
    )
    search = IjbSearch(galleries, IjbSubjects("probes", ids[60:], who[60:].astype(np.int64)))
    found = search_ijb(templates, search, "cosine")
    counted, rates = [], []
    for gallery, scores, rows in zip(galleries, found.galleries, (slice(0, 35), slice(35, 60)), strict=True):
        similarity = mu[60:].astype(np.float64) @ mu[rows].astype(np.float64).T
        expected = field_figures(similarity, who[60:], gallery.subjects)
        assert (scores.gallery, scores.searches.subjects) == (gallery.name, len(gallery))
        assert len(scores.mated_subjects) + len(scores.other_subjects) == 400
        for rank, rate in expected.items():
            assert scores.rank_rate(rank) == pytest.approx(rate)
        mated = np.isin(who[60:], gallery.subjects)
        counted.append((expected[5] * mated.sum(), mated.sum()))
        # Open set: the threshold lets a tenth of the non-mated searches pass.
        best = np.sort(similarity[~mated].max(axis=1))[::-1]
        threshold = best[int(0.1 * len(best))]
        assert threshold_at_fpir(scores.searches, 0.1) == pytest.approx(threshold, abs=1e-6)
        assert np.mean(best > threshold) <= 0.1
        correct = 0
        for row in np.flatnonzero(mated):
            place = gallery.subjects.tolist().index(who[60 + row])
            mate, others = similarity[row, place], np.delete(similarity[row], place)
            correct += mate > others.max() and mate > threshold + 1e-9
        rates.append(correct / mated.sum())
        assert scores.tpir(0.1) == pytest.approx(rates[-1])
    assert (
        found.rank_rate(5)
        == pytest.approx(sum(c for c, _ in counted) / 400)
        == pytest.approx(sum(c for c, _ in counted) / sum(n for _, n in counted))
    )
    assert found.tpir(0.1) == pytest.approx(np.mean(rates))


def test_by_hand() -> None:
    gallery = Embeddings(np.array([[1, 0], [0.5, -(0.75**0.5)], [0, 1]], np.float32), np.ones((3, 1), np.float32))
    probes = gallery[[0, 0, 2, 1]]
    found = search_gallery("G1", gallery, np.array([7, 8, 9]), probes, np.array([7, 9, 5, 7]), "cosine")
    assert found.mated_subjects.tolist() == [7, 9, 7]
    assert found.other_subjects.tolist() == [5]
    np.testing.assert_allclose(found.searches.mate_score, [1, 0, 0.5], atol=1e-7)
    assert found.searches.mate_rank.tolist() == [1, 3, 2]
    assert [found.rank_rate(rank) for rank in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert found.tpir(0.5, allow_few=True) == 0  # the first one's mate scores 1, not above the non-mated probe's 1


def test_means_over_galleries_by_hand() -> None:
    # 1 of 1 and 1 of 3 mates are first; of 4 searches that is a half, of the two rates two thirds.
    parts = []
    for name, ranks in (("G1", [1]), ("G2", [1, 2, 3])):
        mates, tops = np.full(len(ranks), 0.9), np.array([0.1, 0.2])
        searches = Searches(mates, np.array(ranks), tops, 5)
        parts.append(GallerySearch(name, searches, np.arange(len(ranks)), np.arange(2)))
    both = IjbIdentification((parts[0], parts[1]))
    assert both.rank_rate(1) == 0.5
    assert both.tpir(0.5, allow_few=True) == pytest.approx(2 / 3)
    with pytest.raises(InsufficientData, match=r"FPIR 0\.5 needs at least 20 non-mated searches, found 2"):
        both.tpir(0.5)


def test_what_is_refused() -> None:
    some = random_embeddings(np.random.default_rng(0), 3)
    one = np.array([1, 2, 3])
    for gallery, subjects, probes in ((some, one[:2], some), (some[:0], one[:0], some), (some, one, some[:2])):
        with pytest.raises(InvalidValue, match=r"references|rows of scores|shape"):
            search_gallery("G1", gallery, subjects, probes, one, "cosine")
    ones = np.ones(3, np.int64)
    templates = Templates(one, some, ones, ones)
    lists = (IjbSubjects("G1", one[:1], one[:1]), IjbSubjects("G2", one[1:2], one[1:2]))
    with pytest.raises(DataError, match="template 4: has no image"):
        search_ijb(templates, IjbSearch(lists, IjbSubjects("probes", one[2:] + 1, one[2:])), "cosine")
