import numpy as np
import pytest

from probface.errors import DataError, InsufficientData, InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.protocols.ijba import (
    OverSplits,
    rank_rate_over_splits,
    search_ijba,
    tmr_over_splits,
    tpir_over_splits,
    verify_ijba,
)
from probface.eval.protocols.templates import TemplateFusion
from probface.readers.ijba import IjbaFaces, IjbaSearch, IjbaVerification
from probface.types import Embeddings

PLAIN = TemplateFusion()
PEOPLE, DIM = 12, 8


def _split(number: int) -> tuple[FaceTable, IjbaVerification, IjbaSearch, dict[int, np.ndarray], np.ndarray]:
    """Templates of 1 to 3 images, each its own media: 0 .. 11 are enrolled, 100 .. 159 are probes."""
    rng = np.random.default_rng(number)
    centres = rng.normal(size=(PEOPLE + 3, DIM))
    ids = np.concatenate([np.arange(PEOPLE), np.arange(100, 160)])
    who = np.concatenate([np.arange(PEOPLE), rng.integers(0, PEOPLE + 3, 60)]) + 40
    names, templates, subjects, media, rows = [], [], [], [], []
    for template, subject in zip(ids, who, strict=True):
        for image in range(rng.integers(1, 4)):
            mu = centres[subject - 40] + 0.6 * rng.normal(size=DIM)
            rows.append(mu / np.linalg.norm(mu))
            names.append(f"img/{template}_{image}.jpg:{len(names)}")
            templates.append(template)
            subjects.append(subject)
            media.append(image)
    mu = np.array(rows, np.float32)
    table = FaceTable(tuple(names), Embeddings(mu, np.full((len(mu), 1), 0.3, np.float32)))
    arrays = [np.array(values, np.int64) for values in (templates, subjects, media)]
    fused = {int(t): mu[arrays[0] == t].astype(np.float64).sum(axis=0) for t in ids}
    fused = {t: vector / np.linalg.norm(vector) for t, vector in fused.items()}

    def part(keep: np.ndarray) -> IjbaFaces:
        chosen = tuple(name for name, stays in zip(names, keep, strict=True) if stays)
        return IjbaFaces(chosen, chosen, *(a[keep] for a in arrays), np.zeros((int(keep.sum()), 4)))

    first, second = np.repeat(ids[:PEOPLE], 60), np.tile(ids[PEOPLE:], PEOPLE)
    genuine = np.repeat(who[:PEOPLE], 60) == np.tile(who[PEOPLE:], PEOPLE)
    task = IjbaVerification(number, part(arrays[0] >= 0), first, second, genuine)
    return table, task, IjbaSearch(number, part(arrays[0] < 100), part(arrays[0] >= 100)), fused, who


def test_both_tasks_over_splits() -> None:
    verified, searched, tmrs, rates = [], [], [], []
    for number in (1, 2, 3):
        faces, task, search, fused, who = _split(number)
        scores = verify_ijba(faces, task, "cosine", PLAIN)
        expected = np.array(
            [fused[a] @ fused[b] for a, b in zip(task.first.tolist(), task.second.tolist(), strict=True)]
        )
        np.testing.assert_allclose(scores.scores, expected, atol=1e-6)
        assert ((scores.first == scores.second) == task.genuine).all()
        assert scores.subjects == len(set(who.tolist()))
        impostors = np.sort(expected[~task.genuine])[::-1]
        tmrs.append(np.mean(expected[task.genuine] > impostors[int(0.1 * len(impostors))] + 1e-6))
        verified.append(scores)
        found = search_ijba(faces, search, "cosine", PLAIN)
        similarity = np.array([[fused[p] @ fused[g] for g in range(PEOPLE)] for p in range(100, 160)])
        mated = np.flatnonzero(who[PEOPLE:] < 40 + PEOPLE)
        rates.append(np.mean(similarity[mated].argmax(axis=1) == who[PEOPLE:][mated] - 40))
        assert found.gallery == f"split {number}"
        searched.append(found)
    over = tmr_over_splits(verified, 0.1)
    assert over.per_split == pytest.approx(tmrs)
    assert (over.mean, over.standard_deviation) == pytest.approx((np.mean(tmrs), np.std(tmrs, ddof=1)))
    assert rank_rate_over_splits(searched, 1).per_split == pytest.approx(rates)
    with pytest.raises(InsufficientData, match=r"FMR 0\.001 needs at least 10,000"):
        tmr_over_splits(verified, 1e-3)
    with pytest.raises(InsufficientData, match=r"FPIR 0\.1 needs at least 100 non-mated"):
        tpir_over_splits(searched, 0.1)
    few = tpir_over_splits(searched, 0.1, allow_few=True)
    assert few.per_split == tuple(found.tpir(0.1, allow_few=True) for found in searched)
    assert 0 < few.mean <= min(1, rank_rate_over_splits(searched, 1).mean)


def test_over_splits_by_hand() -> None:
    assert OverSplits.of([0.5, 0.7, 0.9]) == OverSplits(pytest.approx(0.7), pytest.approx(0.2), (0.5, 0.7, 0.9))
    for values in ([0.5], [0.5, float("nan")]):
        with pytest.raises(InvalidValue, match="need finite ones of two splits or more"):
            OverSplits.of(values)


def test_what_is_refused() -> None:
    faces, task, search, *_ = _split(1)
    fewer = FaceTable(faces.names[1:], faces.embeddings[1:])
    with pytest.raises(DataError, match="is in the protocol's lists and not among"):
        verify_ijba(fewer, task, "cosine", PLAIN)
    with pytest.raises(InvalidValue, match="quality measure 'embedding norm'"):
        search_ijba(faces, search, "cosine")
