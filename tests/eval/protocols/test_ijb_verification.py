import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import DataError, InsufficientData, InvalidValue
from probface.eval.protocols.ijb_verification import TemplateScores, score_ijb_pairs, score_templates
from probface.eval.protocols.templates import Templates
from probface.readers.ijb_pairs import IjbPairs
from probface.types import METRICS, Embeddings


def random_templates(seed: int, ids: list[int], dim: int = 6) -> Templates:
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(len(ids), dim))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    embeddings = Embeddings(mu.astype(np.float32), rng.uniform(0.1, 1, (len(ids), 1)).astype(np.float32))
    ones = np.ones(len(ids), np.int64)
    return Templates(np.array(ids, np.int64), embeddings, ones, ones)


def pairs_of(*rows: tuple[int, int, int]) -> IjbPairs:
    first, second, label = np.array(rows).T
    return IjbPairs(first.astype(np.int32), second.astype(np.int32), label == 1)


def score_by_hand(a: Embeddings, b: Embeddings, metric: str) -> float:
    cos = float(a.mu[0].astype(np.float64) @ b.mu[0].astype(np.float64))
    t = float(a.sigma_sq[0, 0]) + float(b.sigma_sq[0, 0])
    fast = -(2 - 2 * cos) / t - math.log(t)
    return {"cosine": cos, "fastmls": fast, "mls": fast * a.dim / 2}[metric]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("elements", [6, 30, 1 << 21])
def test_scores_are_those_of_each_pair(metric: str, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probface.eval.protocols.ijb_verification.BLOCK_ELEMENTS", elements)
    ids = [2, 3, 5, 70, 110, 111]
    templates = random_templates(0, ids)
    pairs = pairs_of((2, 110, 1), (3, 111, 0), (2, 70, 1), (5, 70, 0), (110, 3, 0), (5, 111, 1), (111, 2, 0))
    found = score_ijb_pairs(templates, pairs, metric)
    rows = [(ids.index(a), ids.index(b)) for a, b in zip(pairs.first, pairs.second, strict=True)]
    expected = [
        score_by_hand(templates.embeddings[a : a + 1], templates.embeddings[b : b + 1], metric) for a, b in rows
    ]
    assert found.scores.dtype == np.float32
    np.testing.assert_allclose(found.scores, expected, rtol=2e-6, atol=2e-6)
    # Genuine pairs join 2, 110, 70 and 5, 111; 3 is alone.
    who = {2: 0, 110: 0, 70: 0, 3: 1, 5: 2, 111: 2}
    assert found.subjects == 3
    assert found.first.tolist() == [who[a] for a in pairs.first.tolist()]
    assert found.second.tolist() == [who[b] for b in pairs.second.tolist()]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_subjects_follow_from_the_labels(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    people = rng.integers(0, 4, count)
    rows = [(i, j, int(people[i] == people[j])) for i in range(count) for j in range(i)]
    found = score_ijb_pairs(random_templates(seed, list(range(count))), pairs_of(*rows), "cosine")
    assert found.subjects == len(set(people.tolist()))
    assert ((found.first == found.second) == found.genuine).all()
    number = {}
    for (i, j, _), first, second in zip(rows, found.first.tolist(), found.second.tolist(), strict=True):
        assert number.setdefault(people[i], first) == first
        assert number.setdefault(people[j], second) == second


def test_labels_that_contradict_each_other() -> None:
    templates = random_templates(1, [1, 2, 3])
    with pytest.raises(
        DataError, match=r"templates 3 and 1: labelled as two subjects, .* make them one \(1 such pairs\)"
    ):
        score_ijb_pairs(templates, pairs_of((1, 2, 1), (2, 3, 1), (3, 1, 0)), "cosine")
    pairs, who = pairs_of((1, 2, 1), (2, 3, 0)), np.arange(3, dtype=np.int32)
    with pytest.raises(DataError, match=r"templates 1 and 2: labelled as one subject, .* make them two"):
        score_templates(templates, pairs.first, pairs.second, pairs.genuine, who, 3, "cosine")


def test_what_is_refused() -> None:
    templates = random_templates(1, [1, 2, 3])
    with pytest.raises(DataError, match="template 4: has no image"):
        score_ijb_pairs(templates, pairs_of((1, 2, 1), (2, 4, 0)), "cosine")
    with pytest.raises(InvalidValue, match="metric 'euclid'"):
        score_ijb_pairs(templates, pairs_of((1, 2, 1), (2, 3, 0)), "euclid")  # type: ignore[arg-type]
    two = np.zeros(2, np.int32)
    with pytest.raises(InvalidValue, match=r"must all be \(P,\)"):
        TemplateScores(np.zeros(3, np.float32), np.zeros(2, np.bool_), two, two, 1)


def test_tmr_by_hand_and_with_too_few() -> None:
    # 100 impostors 0.00 .. 0.99: at FMR 0.1 the threshold is 0.89, and two of four genuine pairs are above.
    impostor, genuine = np.arange(100) / 100, np.array([0.5, 0.89, 0.9, 0.95])
    scores = np.concatenate([impostor, genuine]).astype(np.float32)
    first = np.zeros(104, np.int32)
    second = np.append(np.ones(100, np.int32), np.zeros(4, np.int32))
    found = TemplateScores(scores, first == second, first, second, 2)
    assert found.tmr(0.1) == 0.5
    assert found.tmrs((0.1, 0.05)) == (0.5, None)
    with pytest.raises(InsufficientData, match=r"FMR 0\.01 needs at least 1,000"):
        found.tmr(0.01)
    assert found.tmr(0.01, allow_few=True) == 0
    assert len(found) == 104
