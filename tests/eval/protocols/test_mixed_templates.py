from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import DataError, InsufficientData, InvalidValue
from probface.eval.face_table import DETECTOR_SCORE, NORM, FaceTable
from probface.eval.protocols.mixed_templates import (
    Composition,
    Copies,
    MixedTemplates,
    draw_templates,
    fuse_probes,
    fuse_references,
    score_templates,
)
from probface.eval.protocols.templates import METHODS, Method, TemplateFusion, fuse_templates
from probface.types import METRICS, Embeddings, Metric


def fuse_both(
    templates: MixedTemplates, method: Method, faces: FaceTable | None = None
) -> tuple[Embeddings, Embeddings]:
    fusion, table = TemplateFusion(method), faces or TABLE
    return fuse_references(table, COPIES, templates, fusion), fuse_probes(table, COPIES, templates, fusion)


def on_circle(degrees: list[float], sigma_sq: list[float]) -> Embeddings:
    angle = np.radians(degrees)
    mu = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    return Embeddings(mu, np.array(sigma_sq, np.float32)[:, None])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 9),
)
def test_what_is_dealt(who: list[int], k: int, p: int, rounds: int, seed: int) -> None:
    subjects = np.array(who)
    counts = {person: who.count(person) for person in who}
    mated = [person for person in sorted(counts) if counts[person] >= k + p]
    others = [person for person in sorted(counts) if p <= counts[person] < k + p]
    if not mated or len(mated) + len(others) < 2:
        with pytest.raises(InsufficientData, match=f"{len(mated)} subjects with {k + p} images"):
            draw_templates(subjects, Composition(k), Composition(p), rounds=rounds, seed=seed)
        return
    drawn = draw_templates(subjects, Composition(k), Composition(p), rounds=rounds, seed=seed)
    assert drawn.subjects.tolist() == mated + others
    assert drawn.references.shape == (rounds, len(mated), k)
    assert drawn.probes.shape == (rounds, len(mated) + len(others), p)
    assert (subjects[drawn.references] == np.array(mated)[:, None]).all()
    assert (subjects[drawn.probes] == drawn.subjects[:, None]).all()
    for references, probes in zip(drawn.references, drawn.probes, strict=True):
        for row, probe in enumerate(probes):
            together = [*probe, *(references[row] if row < len(mated) else [])]
            assert len(set(together)) == len(together)


def test_rounds_differ_and_a_seed_repeats_them() -> None:
    subjects = np.repeat(np.arange(3), 12)
    first, again, other = (
        draw_templates(subjects, Composition(5), Composition(2), rounds=2, seed=seed) for seed in (1, 1, 2)
    )
    assert (first.references == again.references).all()
    assert (first.probes == again.probes).all()
    assert (first.references != other.references).any()
    assert (first.references[0] != first.references[1]).any()


def test_a_degraded_image_more_leaves_the_others() -> None:
    subjects = np.repeat(np.arange(2), 9)
    a, b = (draw_templates(subjects, Composition(5, d), Composition(2), rounds=3, seed=0) for d in (1, 3))
    assert (a.references == b.references).all()
    assert (a.probes == b.probes).all()


def test_a_series_is_about_the_same_people_and_probes() -> None:
    subjects = np.repeat(np.arange(4), [2, 3, 6, 7])
    series = [draw_templates(subjects, Composition(k), Composition(1), rounds=2, seed=0, at_least=6) for k in (1, 3, 5)]
    for drawn in series:
        assert drawn.mated == 2
        assert drawn.subjects.tolist() == [2, 3, 0, 1]
        assert (drawn.probes == series[0].probes).all()
    for smaller, larger in pairwise(series):
        assert (larger.references[..., : smaller.reference.size] == smaller.references).all()


# Two people with three images each, clean at 0 and 90 degrees, degraded 60 degrees off and less sure; a third with one.
CLEAN = ("a1", "a2", "a3", "b1", "b2", "b3", "c1")
BAD = tuple(f"{name} bad" for name in CLEAN)
SUBJECTS = np.array([0, 0, 0, 1, 1, 1, 2])
COPIES = Copies(CLEAN, BAD, SUBJECTS)
TABLE = FaceTable(
    CLEAN + BAD,
    on_circle([0, 0, 0, 90, 90, 90, 180, 60, 60, 60, 30, 30, 30, 45], [0.25] * 7 + [1.0] * 7),
)
TEMPLATES = MixedTemplates(
    references=np.array([[[0, 1], [3, 4]]]),
    probes=np.array([[[2], [5], [6]]]),
    subjects=np.array([0, 1, 2]),
    reference=Composition(2, 1),
    probe=Composition(1),
)


def test_templates_by_hand() -> None:
    references, probes = fuse_both(TEMPLATES, "mean")
    np.testing.assert_allclose(references.mu, on_circle([30, 60], [1, 1]).mu, atol=1e-6)  # half way
    np.testing.assert_allclose(references.sigma_sq[:, 0], 0.625)
    np.testing.assert_array_equal(probes.mu, TABLE.embeddings.mu[[2, 5, 6]])
    weighted, _ = fuse_both(TEMPLATES, "uncertainty")
    # Weights 4 : 1, so that the mean is at atan(sin 60 / (4 + cos 60)) from the clean one.
    off = np.degrees(np.arctan2(np.sqrt(3) / 2, 4.5))
    np.testing.assert_allclose(weighted.mu, on_circle([off, 90 - off], [1, 1]).mu, atol=1e-6)
    np.testing.assert_allclose(weighted.sigma_sq[:, 0], 0.4, rtol=1e-5)


def test_degraded_probes_by_hand() -> None:
    drawn = MixedTemplates(
        TEMPLATES.references, TEMPLATES.probes, TEMPLATES.subjects, Composition(2, 2), Composition(1, 1)
    )
    references, probes = fuse_both(drawn, "mean")
    np.testing.assert_allclose(references.mu, on_circle([60, 30], [1, 1]).mu, atol=1e-6)
    np.testing.assert_allclose(probes.mu, on_circle([60, 30, 45], [1, 1, 1]).mu, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_an_image_alone_is_what_it_is_as_a_template(method: Method) -> None:
    """Weights are in the variance of one image, too, where they are in that of several."""
    count = len(TABLE)
    measures = {NORM: np.linspace(10, 30, count), DETECTOR_SCORE: np.linspace(0.3, 0.9, count)}
    table, fusion = replace(TABLE, measures=measures), TemplateFusion(method, norm=True, detector_score=True)
    probes = fuse_probes(table, COPIES, TEMPLATES, fusion)
    images = [CLEAN[image] for image in (2, 5, 6)]
    expected = fuse_templates(table, images, np.arange(3), np.zeros(3, np.int64), fusion).embeddings
    np.testing.assert_allclose(probes.mu, expected.mu, atol=1e-7)
    np.testing.assert_allclose(probes.sigma_sq, expected.sigma_sq, rtol=1e-6)
    changed = not np.allclose(probes.sigma_sq, TABLE.embeddings.sigma_sq[[2, 5, 6]])
    assert changed is (method == "uncertainty")


def test_scores_by_hand() -> None:
    scores = score_templates(TEMPLATES, *fuse_both(TEMPLATES, "mean"), "cosine")
    np.testing.assert_allclose(scores.genuine, np.cos(np.radians([30, 30])), atol=1e-6)
    assert scores.person.tolist() == [0, 1]
    np.testing.assert_allclose(scores.impostor, np.cos(np.radians([60, 150, 60, 120])), atol=1e-6)
    assert list(zip(scores.first.tolist(), scores.second.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 0), (1, 2)]
    # At FMR 0 the threshold is cos 60: both genuine comparisons are above it.
    assert scores.tmr(3, np.array([0.0]))(np.ones(3, np.int64)).tolist() == [1]


@pytest.mark.parametrize("metric", METRICS)
def test_rounds_stay_apart(metric: Metric) -> None:
    """Against a plain loop over two rounds, each scored by itself."""
    drawn = draw_templates(SUBJECTS, Composition(2, 1), Composition(1, 1), rounds=2, seed=3)
    references, probes = fuse_both(drawn, "uncertainty")
    scores = score_templates(drawn, references, probes, metric)
    genuine, impostor = [], []
    for at in range(2):
        one = MixedTemplates(
            drawn.references[at : at + 1], drawn.probes[at : at + 1], drawn.subjects, drawn.reference, drawn.probe
        )
        part = score_templates(one, *fuse_both(one, "uncertainty"), metric)
        genuine += part.genuine.tolist()
        impostor += part.impostor.tolist()
        assert (part.first != part.second).all()
    assert scores.genuine.tolist() == pytest.approx(genuine)
    assert scores.impostor.tolist() == pytest.approx(impostor)
    assert len(scores.person) == 4
    assert len(scores.first) == len(scores.second) == 8


def test_what_does_not_go_together() -> None:
    with pytest.raises(InvalidValue, match="3 degraded images of 2"):
        Composition(2, 3)
    with pytest.raises(InvalidValue, match="0 degraded images of 0"):
        Composition(0)
    with pytest.raises(InvalidValue, match="1 clean and 2 degraded images of 1 subjects"):
        Copies(("a",), ("b", "c"), np.zeros(1, np.int64))
    with pytest.raises(InvalidValue, match="0 rounds"):
        draw_templates(SUBJECTS, Composition(1), Composition(1), rounds=0, seed=0)
    with pytest.raises(InvalidValue, match=r"references \(1, 2, 2\): must be \(R, G, 3\)"):
        replace(TEMPLATES, reference=Composition(3))
    with pytest.raises(InvalidValue, match=r"probes \(1, 3, 1\): must be \(1, 2, 1\)"):
        replace(TEMPLATES, subjects=np.array([0, 1]))
    with pytest.raises(InvalidValue, match="3 subjects of the probes: must be there once"):
        replace(TEMPLATES, subjects=np.array([0, 1, 1]))
    faces = TABLE.embeddings[:2]
    with pytest.raises(InvalidValue, match="2 references and 2 probes: must be 2 and 3"):
        score_templates(TEMPLATES, faces, faces, "cosine")
    with pytest.raises(DataError, match="image 'a1 bad': is in the protocol's lists"):
        fuse_both(TEMPLATES, "mean", FaceTable(CLEAN, TABLE.embeddings[:7]))
