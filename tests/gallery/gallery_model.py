"""What a gallery must answer, from a dictionary and plain loops in float64."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np

from probface.gallery.fusion import fuse
from probface.gallery.gallery import Gallery
from probface.gallery.records import GallerySettings, ModelBinding, NewReferences, Templates
from probface.types import Embeddings, Metric

DIM = 12


def binding(width: int = 1, name: str = "tiny", dim: int = DIM) -> ModelBinding:
    return ModelBinding(name, hashlib.sha256(name.encode()).hexdigest(), dim, width)


def settings(templates: Templates = "fused", width: int = 1, dim: int = DIM) -> GallerySettings:
    return GallerySettings(binding(width, dim=dim), templates)


def faces(seed: int, rows: int, width: int = 1, dim: int = DIM) -> Embeddings:
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(rows, dim))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return Embeddings(mu.astype(np.float32), rng.uniform(0.1, 1.5, (rows, width)).astype(np.float32))


def score(probe: Embeddings, mu: np.ndarray, sigma_sq: np.ndarray, metric: Metric) -> float:
    one, two = probe.mu[0].astype(float), mu.astype(float)
    if metric == "cosine":
        return float(one @ two)
    t = probe.sigma_sq[0].astype(float) + sigma_sq.astype(float)
    if metric == "fastmls":
        return float(-(2 - 2 * (one @ two)) / t[0] - math.log(t[0]))
    apart = (one - two) ** 2
    return float(-0.5 * sum(apart[d] / t[d % len(t)] + math.log(t[d % len(t)]) for d in range(len(one))))


class ModelGallery:
    """Name -> its references, in the order of their coming."""

    def __init__(self, templates: Templates) -> None:
        self.templates = templates
        self.people: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def enroll(self, references: NewReferences) -> None:
        rows = zip(references.names, references.embeddings.mu, references.embeddings.sigma_sq, strict=True)
        for name, mu, sigma_sq in rows:
            self.people.setdefault(name, []).append((mu, sigma_sq))

    def template(self, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
        held = self.people[name]
        if self.templates == "all" or len(held) == 1:
            return held
        weights = [1 / sigma_sq.astype(float) + 1e-6 for _, sigma_sq in held]
        total = sum(weights)
        mu = sum(weight / total * mu for weight, (mu, _) in zip(weights, held, strict=True))
        sigma_sq = sum(weight / total * s for weight, (_, s) in zip(weights, held, strict=True))
        return [(np.float32(mu / math.sqrt(sum(mu * mu))), np.float32(sigma_sq))]

    def best(self, probe: Embeddings, metric: Metric) -> dict[str, float]:
        """Everybody's score, best first."""
        scores = {name: max(score(probe, *row, metric) for row in self.template(name)) for name in self.people}
        return dict(sorted(scores.items(), key=lambda item: -item[1]))


def assert_answers(gallery: Gallery, model: ModelGallery, probes: Embeddings, top: int, metric: Metric) -> None:
    found = gallery.search(probes, model=gallery.settings.model, top=top, metric=metric)
    assert len(found) == len(probes)
    for row, candidates in enumerate(found):
        expected = model.best(probes[row : row + 1], metric)
        assert len(candidates) == min(top, len(expected))
        assert len({candidate.name for candidate in candidates}) == len(candidates)
        np.testing.assert_allclose(
            [candidate.score for candidate in candidates], list(expected.values())[:top], rtol=1e-4, atol=1e-5
        )
        for candidate in candidates:
            assert abs(candidate.score - expected[candidate.name]) < 1e-4 * max(1, abs(candidate.score))


PROBES = faces(99, 3)


def named(first: int, count: int, seed: int = 0) -> NewReferences:
    return NewReferences.unlabelled(tuple(f"p{row}" for row in range(first, first + count)), faces(seed, count))


def filled(path: Path, templates: Templates = "fused", count: int = 200) -> ModelGallery:
    """A gallery of so many people, the first ten of them with two references, and its index file."""
    model = ModelGallery(templates)
    with Gallery.create(path, settings(templates)) as gallery:
        for new in (named(0, count, 1), named(0, 10, 2)):
            gallery.enroll(new, model=binding())
            model.enroll(new)
        assert_answers(gallery, model, PROBES, 5, "fastmls")
    return model


def fused(person: int) -> np.ndarray:
    """The template of one of the first ten."""
    return fuse(Embeddings.concatenate([faces(1, 200)[person : person + 1], faces(2, 10)[person : person + 1]])).mu


def index_of(path: Path) -> Path:
    return path.with_name(path.name + ".index")


def asked(path: Path, model: ModelGallery) -> None:
    with Gallery.open(path) as gallery:
        assert_answers(gallery, model, PROBES, 7, "fastmls")
        assert gallery.verify() == ()
