"""Fusion against plain loops in float64, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import DataError, InvalidValue
from probface.eval.face_table import DETECTOR_SCORE, NORM, FaceTable
from probface.eval.protocols.templates import FIELD, METHODS, TemplateFusion, fuse_templates
from probface.gallery.records import ESTIMATORS
from probface.types import Embeddings


def random_faces(seed: int, count: int, dim: int = 8, width: int = 1) -> FaceTable:
    """Faces in one half of the space, so that none cancel out."""
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(count, dim))
    mu[:, 0] = np.abs(mu[:, 0]) + 0.5
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    embeddings = Embeddings(mu.astype(np.float32), np.exp(rng.normal(0, 1, (count, width))).astype(np.float32))
    measures = {NORM: rng.uniform(5, 30, count), DETECTOR_SCORE: rng.uniform(0.1, 1, count)}
    return FaceTable(tuple(f"{n}.jpg" for n in range(count)), embeddings, measures)


def field_loop(features: np.ndarray, templates: np.ndarray, media: np.ndarray) -> np.ndarray:
    """The field's semantics, template by template: the sum of the media's means, scaled to length 1."""
    rows = []
    for template in sorted(set(templates.tolist())):
        total = np.zeros(features.shape[1])
        for one in set(media[templates == template].tolist()):
            total += features[(templates == template) & (media == one)].mean(axis=0)
        rows.append(total / np.linalg.norm(total))
    return np.array(rows)


def precision_fusion(mu: np.ndarray, variance: np.ndarray, estimator: str, t: float) -> tuple[np.ndarray, np.ndarray]:
    """PFE's fusion of a few rows of one variance."""
    if len(mu) == 1:
        return mu[0], variance[0]
    weights = (1 / variance + 1e-6) ** (1 / t)
    weights /= weights.sum()
    mean = (weights[:, None] * mu).sum(axis=0)
    fused = {
        "weighted_mean": (weights * variance).sum(),
        "minimum": variance.min(),
        "precision_sum": 1 / (1 / variance).sum(),
    }
    return mean / np.linalg.norm(mean), fused[estimator]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
    norm=st.booleans(),
    detector=st.booleans(),
    block=st.sampled_from([1, 7, 8192]),
)
def test_the_fields_mean(seed: int, count: int, norm: bool, detector: bool, block: int) -> None:
    rng = np.random.default_rng(seed)
    faces = random_faces(seed, count)
    order = rng.permutation(count)
    names = [faces.names[row] for row in order]
    templates, media = rng.integers(1, 9, count), rng.integers(0, 4, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probface.eval.protocols.templates.BLOCK_ROWS", block)
        found = fuse_templates(faces, names, templates, media, TemplateFusion(norm=norm, detector_score=detector))
    features = faces.embeddings.mu.astype(np.float64)
    features *= faces.measures[NORM][:, None] ** norm * faces.measures[DETECTOR_SCORE][:, None] ** detector
    expected = field_loop(features[order], templates, media)
    np.testing.assert_allclose(found.embeddings.mu, expected, rtol=0, atol=2e-7)
    assert found.ids.tolist() == sorted(set(templates.tolist()))
    assert found.images.tolist() == [int(np.sum(templates == one)) for one in found.ids]
    assert found.media.tolist() == [len(set(media[templates == one].tolist())) for one in found.ids]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_uncertainty_in_two_stages(estimator: str, temperature: float, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    faces = random_faces(3, 80)
    templates, media = rng.integers(1, 9, 80), rng.integers(0, 4, 80)
    fusion = TemplateFusion("uncertainty", weighted, weighted, estimator, temperature)
    found = fuse_templates(faces, faces.names, templates, media, fusion)
    mu, variance = faces.embeddings.mu.astype(np.float64), faces.embeddings.sigma_sq[:, 0].astype(np.float64)
    if weighted:
        norms = faces.measures[NORM]
        variance /= norms / norms.mean() * faces.measures[DETECTOR_SCORE]
    for row, template in enumerate(found.ids):
        parts = []
        for one in set(media[templates == template].tolist()):
            inside = (templates == template) & (media == one)
            parts.append(precision_fusion(mu[inside], variance[inside], estimator, temperature))
        mean, fused = precision_fusion(
            np.array([p[0] for p in parts]), np.array([p[1] for p in parts]), estimator, temperature
        )
        np.testing.assert_allclose(found.embeddings.mu[row], mean, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.embeddings.sigma_sq[row, 0], fused, rtol=2e-6)


@pytest.mark.parametrize("width", [1, 3])
def test_by_hand(width: int) -> None:
    # One template: a video of two frames along x and a still along y, which counts as much as the video.
    mu = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    sigma_sq = np.repeat(np.array([[0.1], [0.3], [0.6]], np.float32), width, axis=1)
    faces = FaceTable(("a", "b", "c"), Embeddings(mu, sigma_sq), {NORM: np.array([10.0, 10, 20])})
    arguments = (faces, faces.names, np.array([5, 5, 5]), np.array([1, 1, 2]))
    plain = fuse_templates(*arguments, TemplateFusion())
    np.testing.assert_allclose(plain.embeddings.mu, [[math.sqrt(0.5), math.sqrt(0.5), 0]], rtol=1e-6)
    np.testing.assert_allclose(plain.embeddings.sigma_sq[0], [(0.2 + 0.6) / 2] * width, rtol=1e-6)
    by_norm = fuse_templates(*arguments, TemplateFusion(norm=True, estimator="minimum"))
    np.testing.assert_allclose(by_norm.embeddings.mu, np.array([[1, 2, 0]]) / math.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(by_norm.embeddings.sigma_sq[0], [0.1] * width)
    scored = fuse_templates(
        *arguments,
        TemplateFusion(detector_score=True, estimator="precision_sum"),
        detector_scores=np.array([1, 0.5, 0.25]),
    )
    np.testing.assert_allclose(scored.embeddings.mu, np.array([[3, 1, 0]]) / math.sqrt(10), rtol=1e-6)
    np.testing.assert_allclose(scored.embeddings.sigma_sq[0], [1 / (1 / 0.1 + 1 / 0.3 + 1 / 0.6)] * width, rtol=1e-6)
    # Video: weights 3/4 and 1/4, variance 0.15; with the still: weights 4/5 and 1/5, variance 0.24.
    sure = fuse_templates(*arguments, TemplateFusion("uncertainty"))
    np.testing.assert_allclose(sure.embeddings.mu, np.array([[4, 1, 0]]) / math.sqrt(17), rtol=1e-5)
    np.testing.assert_allclose(sure.embeddings.sigma_sq[0], [0.24] * width, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_an_image_in_two_templates_and_one_alone(method: str) -> None:
    faces = random_faces(1, 3)
    found = fuse_templates(
        faces, ("0.jpg", "1.jpg", "0.jpg"), np.array([9, 2, 2]), np.array([1, 1, 1]), TemplateFusion(method)
    )
    np.testing.assert_allclose(found.embeddings.mu[1], faces.embeddings.mu[0], atol=1e-7)
    np.testing.assert_allclose(found.embeddings.sigma_sq[1], faces.embeddings.sigma_sq[0], rtol=1e-6)
    assert found.rows(np.array([9, 2, 9])).tolist() == [1, 0, 1]
    with pytest.raises(DataError, match=r"template 3: has no image \(2 such templates\)"):
        found.rows(np.array([2, 3, 10]))


@pytest.mark.parametrize("method", METHODS)
def test_a_template_is_the_same_whatever_is_fused_with_it(method: str) -> None:
    """A gallery and its probes may be fused one after the other, though norms weigh by their mean."""
    faces = random_faces(5, 12)
    templates, media = np.repeat([1, 2, 3], 4), np.tile([0, 0, 1, 2], 3)
    fusion = TemplateFusion(method, norm=True, detector_score=True)
    together = fuse_templates(faces, faces.names, templates, media, fusion)
    for row, template in enumerate(together.ids):
        some = np.flatnonzero(templates == template)
        names = [faces.names[image] for image in some]
        alone = fuse_templates(faces, names, templates[some], media[some], fusion).embeddings
        np.testing.assert_allclose(alone.mu[0], together.embeddings.mu[row], atol=1e-7)
        np.testing.assert_allclose(alone.sigma_sq[0], together.embeddings.sigma_sq[row], rtol=1e-6)


def test_what_is_refused() -> None:
    faces = random_faces(2, 4)
    names, templates, media = faces.names, np.array([1, 1, 2, 2]), np.zeros(4, np.int64)
    with pytest.raises(DataError, match=r"'x\.jpg': is in the protocol's lists and not among the 4 embeddings"):
        fuse_templates(faces, ("x.jpg", *names[1:]), templates, media)
    with pytest.raises(InvalidValue, match=r"4 names, templates \(4,\), media \(3,\)"):
        fuse_templates(faces, names, templates, media[1:])
    with pytest.raises(InvalidValue, match="0 names"):
        fuse_templates(faces, (), templates[:0], media[:0])
    bare = FaceTable(names, faces.embeddings)
    with pytest.raises(InvalidValue, match="quality measure 'embedding norm'"):
        fuse_templates(bare, names, templates, media, TemplateFusion(norm=True))
    with pytest.raises(InvalidValue, match="quality measure 'detector score'"):
        fuse_templates(bare, names, templates, media, TemplateFusion(detector_score=True))
    with pytest.raises(InvalidValue, match=r"detector scores of shape \(3,\): must be \(4,\)"):
        fuse_templates(faces, names, templates, media, FIELD, detector_scores=np.ones(3))
    some = np.array([1, 1, -0.5, 1])
    with pytest.raises(DataError, match=r"image '2\.jpg': its weight .* must be finite and at least 0"):
        fuse_templates(faces, names, templates, media, FIELD, detector_scores=some)
    with pytest.raises(DataError, match=r"image '2\.jpg': its weight .* is 0, must be finite and above 0"):
        fuse_templates(
            faces,
            names,
            templates,
            media,
            TemplateFusion("uncertainty", detector_score=True),
            detector_scores=some.clip(0),
        )
    with pytest.raises(DataError, match="template 2: its images' vectors"):
        fuse_templates(faces, names, templates, media, FIELD, detector_scores=np.array([1.0, 1, 0, 0]))
    for arguments, message in (
        ({"method": "median"}, "method 'median'"),
        ({"estimator": "mean"}, "estimator 'mean'"),
        ({"temperature": 0.0}, "temperature 0"),
    ):
        with pytest.raises(InvalidValue, match=message):
            TemplateFusion(**arguments)


@pytest.mark.parametrize("method", METHODS)
def test_vectors_that_cancel_out(method: str) -> None:
    mu = np.array([[1, 0], [0, 1], [0, -1]], np.float32)
    faces = FaceTable(("a", "b", "c"), Embeddings(mu, np.ones((3, 1), np.float32)))
    with pytest.raises(DataError, match=r"template.* 8.*cancel out"):
        fuse_templates(faces, faces.names, np.array([4, 8, 8]), np.array([0, 0, 0]), TemplateFusion(method))
