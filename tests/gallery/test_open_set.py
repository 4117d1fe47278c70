"""The threshold at a stated rate: which measurement it comes from, what is refused, and whether the rate comes true."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from gallery_model import ModelGallery, binding, faces, settings
from scipy.stats import binom

from probface.contract import InputSpec, ModelContract, Threshold
from probface.errors import InsufficientData
from probface.gallery import open_set
from probface.gallery.gallery import Gallery
from probface.gallery.open_set import OpenSet
from probface.gallery.records import NewReferences, Templates
from probface.score.calibration import threshold_at_fmr
from probface.score.fast_mls import fast_mls_matrix
from probface.types import Embeddings, Metric

TEMPLATES: tuple[Templates, ...] = get_args(Templates)


def entry(fmr: float, threshold: float, metric: Metric = "fastmls") -> Threshold:
    return Threshold(metric, fmr, threshold, 2 * fmr, 10**7, int(fmr * 10**7), "many pairs")


def gallery_of(
    path: Path, names: list[str], templates: Templates = "fused", thresholds: tuple[Threshold, ...] = (), seed: int = 1
) -> Gallery:
    dim = binding().dim
    contract = ModelContract("tiny", dim, 1, InputSpec(), "0" * 64, thresholds=thresholds)
    model = dataclasses.replace(binding(), contract=contract if thresholds else None)
    gallery = Gallery.create(path, dataclasses.replace(settings(templates), model=model))
    gallery.enroll(NewReferences.unlabelled(tuple(names), faces(seed, len(names))), model=model)
    return gallery


def people(count: int) -> list[str]:
    return [f"p{row}" for row in range(count)]


@pytest.mark.parametrize("templates", TEMPLATES)
def test_the_bound_counts_the_references(templates: Templates, tmp_path: Path) -> None:
    """FPIR 0.01 over 20 references needs FMR 0.0005; the entry at just that rate will do."""
    thresholds = (entry(1e-2, 1.0), entry(5e-4, 2.0), entry(1e-4, 2.5), entry(1e-5, 9.0, "cosine"))
    with gallery_of(tmp_path / "faces.db", people(10) * 2, templates, thresholds) as gallery:
        found = gallery.identify(faces(0, 1), model=gallery.settings.model, fpir=0.01)
        assert found.threshold == 2.0
        assert found.basis == (
            "20 references times the false-match rate 0.0005 of model 'tiny' is at most 0.01; that rate was measured "
            "between single images (5000 of 10000000 impostor pairs of many pairs above the threshold; with 95 % "
            "confidence it is at most 0.001 there), so the candidate's best single reference must be above it"
        )
        assert gallery.identify(faces(0, 1), model=gallery.settings.model, fpir=0.009).threshold == 2.5
        assert gallery.identify(faces(0, 1), model=gallery.settings.model, fpir=0.5).threshold == 1.0
        one = gallery.identify(faces(0, 1), model=gallery.settings.model, fpir=0.01, metric="cosine")
        assert one.threshold == 9.0


def test_the_model_that_asks_brings_its_own_thresholds(tmp_path: Path) -> None:
    """As after ``probface calibrate``: the digest is the gallery's, the thresholds are new."""
    with gallery_of(tmp_path / "faces.db", people(10), thresholds=(entry(1e-3, 2.0),)) as gallery:
        ours = gallery.settings.model
        assert ours.contract is not None
        calibrated = dataclasses.replace(
            ours, contract=dataclasses.replace(ours.contract, thresholds=(entry(1e-3, 3.0),))
        )
        for model, threshold in ((ours, 2.0), (calibrated, 3.0), (ours, 2.0)):
            assert gallery.identify(faces(0, 1), model=model, fpir=0.01).threshold == threshold


def test_the_bound_ends_with_one_more(tmp_path: Path) -> None:
    with gallery_of(tmp_path / "faces.db", people(10), thresholds=(entry(1e-3, 2.0),)) as gallery:
        model = gallery.settings.model
        assert gallery.identify(faces(0, 1), model=model, fpir=0.01).threshold == 2.0
        gallery.enroll(NewReferences.unlabelled(("one more",), faces(5, 1)), model=model)
        with pytest.raises(InsufficientData) as refused:
            gallery.identify(faces(0, 1), model=model, fpir=0.01)
        assert str(refused.value) == (
            "FPIR 0.01: needs FMR 0.00091 and model 'tiny' has fastmls thresholds down to FMR 0.001, or at least 1000 "
            "identities to measure it and the gallery has 11; ask for 0.011 or above, or enrol more people"
        )
        assert gallery.identify(faces(0, 1), model=model, fpir=0.011).threshold == 2.0  # what was offered is had
        gallery.delete(["one more"])
        assert gallery.identify(faces(0, 1), model=model, fpir=0.01).threshold == 2.0


def test_what_is_refused_without_thresholds(tmp_path: Path) -> None:
    with gallery_of(tmp_path / "faces.db", people(99)) as gallery:
        model = gallery.settings.model
        with pytest.raises(InsufficientData, match=r"its model has no fastmls thresholds, .* has 99; ask for 0.11 or"):
            gallery.identify(faces(0, 1), model=model, fpir=0.1)
        assert "99 of 99 identities" in gallery.identify(faces(0, 1), model=model, fpir=0.11).basis
        gallery.enroll(NewReferences.unlabelled(("one more",), faces(5, 1)), model=model)
        assert "100 of 100 identities" in gallery.identify(faces(0, 1), model=model, fpir=0.1).basis
        gallery.delete([f"p{row}" for row in range(95)])
        with pytest.raises(InsufficientData, match=r"has 5; enrol more people$"):
            gallery.identify(faces(0, 1), model=model, fpir=0.1)


@pytest.mark.parametrize("templates", TEMPLATES)
@pytest.mark.parametrize("metric", ["fastmls", "cosine"])
def test_the_measured_threshold_is_the_plain_one(templates: Templates, metric: Metric, tmp_path: Path) -> None:
    """Everybody's template (or first reference) against everybody else, by loops; also with a tail and a deletion."""
    names = [f"p{row % 60}" for row in range(90)]
    model = ModelGallery(templates)
    with gallery_of(tmp_path / "faces.db", names, templates) as gallery:
        model.enroll(NewReferences.unlabelled(tuple(names), faces(1, len(names))))
        ours = gallery.settings.model
        for turn in range(2):
            best = []
            for name in model.people:
                mu, sigma_sq = model.template(name)[0]
                scores = model.best(Embeddings(mu[None], sigma_sq[None]), metric)
                best.append(max(score for other, score in scores.items() if other != name))
            found = gallery.identify(faces(0, 1), model=ours, fpir=0.2, metric=metric)
            expected = sorted(best)[len(best) - 1 - int(0.2 * len(best) + 1e-9)]
            assert found.threshold == pytest.approx(expected, rel=1e-4)
            assert np.mean([score > found.threshold + 1e-5 for score in best]) <= 0.2
            assert f"{len(best)} of {len(best)} identities" in found.basis
            if not turn:
                new = NewReferences.unlabelled(("p3", "new", "newer"), faces(7, 3))
                gallery.enroll(new, model=ours)
                model.enroll(new)
                gallery.delete(["p5"])
                del model.people["p5"]


@pytest.mark.parametrize("templates", TEMPLATES)
def test_the_rate_comes_true(templates: Templates, tmp_path: Path) -> None:
    """Of people who are not enrolled, about the stated share gets a name: within the doubt of both measurements."""
    enrolled, strangers, fpir = 2000, 2000, 0.05
    names = people(enrolled) if templates == "fused" else people(enrolled) * 2
    with gallery_of(tmp_path / "faces.db", names, templates) as gallery:
        model = gallery.settings.model
        probes = faces(12345, strangers)
        threshold = gallery.identify(probes[:1], model=model, fpir=fpir).threshold
        best = [found[0].score for found in gallery.search(probes, model=model, top=1)]
        named = int(np.count_nonzero(np.array(best) > threshold))
        # Both shares are of 2000 draws of one distribution: their difference has twice the variance of one.
        low, high = binom.interval(1 - 1e-6, strangers // 2, fpir)
        assert 2 * low <= named <= 2 * high
        decided = [gallery.identify(probes[row : row + 1], model=model, fpir=fpir) for row in range(20)]
        assert [found.name is not None for found in decided] == [score > threshold for score in best[:20]]


@pytest.mark.parametrize("templates", TEMPLATES)
def test_the_bound_holds_for_several_references_a_person(templates: Templates, tmp_path: Path) -> None:
    """A template of several images scores wider than a single image: the decision must not rest on it.

    Images of one person lie close together in few dimensions, where fusing widens the scores of strangers most.
    """
    rng, count, each = np.random.default_rng(3), 100, 7

    def images(of: np.ndarray) -> Embeddings:
        noise = rng.normal(size=of.shape)
        mu = of + noise / np.linalg.norm(noise, axis=1, keepdims=True)
        mu /= np.linalg.norm(mu, axis=1, keepdims=True)
        return Embeddings(mu.astype(np.float32), np.full((len(of), 1), 0.35, np.float32))

    def persons(number: int) -> np.ndarray:
        spread = np.zeros((number, binding().dim))
        spread[:, :8] = rng.normal(size=(number, 8))
        return spread / np.linalg.norm(spread, axis=1, keepdims=True)

    one, other = images(persons(2000)), images(persons(2000))
    impostors = fast_mls_matrix(one.mu, one.sigma_sq, other.mu, other.sigma_sq).ravel()
    fpir = 0.35
    level = threshold_at_fmr(impostors, fpir / (count * each), metric="fastmls", data="strangers")
    contract = ModelContract("tiny", binding().dim, 1, InputSpec(), "0" * 64, thresholds=(level,))
    model = dataclasses.replace(binding(), contract=contract)
    with Gallery.create(tmp_path / "faces.db", dataclasses.replace(settings(templates), model=model)) as gallery:
        known = images(persons(count).repeat(each, axis=0))
        gallery.enroll(NewReferences.unlabelled(tuple(np.repeat(people(count), each).tolist()), known), model=model)
        strangers = images(persons(300))
        answers = [gallery.identify(strangers[row : row + 1], model=model, fpir=fpir) for row in range(300)]
        named = sum(answer.name is not None for answer in answers)
        assert all("so the candidate's best single reference" in answer.basis for answer in answers)
        assert all(("the best reference of" in answer.reason) == (templates == "fused") for answer in answers)
        assert named <= binom.ppf(1 - 1e-6, 300, fpir)


def test_a_person_under_two_names_raises_the_threshold(tmp_path: Path) -> None:
    with gallery_of(tmp_path / "faces.db", people(100)) as gallery:
        model = gallery.settings.model
        before = gallery.identify(faces(0, 1), model=model, fpir=0.1)
        assert "one person under two names raises the threshold" in before.basis
        twice = NewReferences.unlabelled(tuple(f"again {row}" for row in range(20)), faces(1, 100)[:20])
        gallery.enroll(twice, model=model)
        assert gallery.identify(faces(0, 1), model=model, fpir=0.1).threshold > before.threshold


def test_measured_once_a_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, float]] = []
    real = open_set.measured

    def counted(searched: open_set.Searched, metric: Metric, fpir: float, *, threads: int = 0) -> open_set.Rule:
        calls.append((metric, fpir))
        return real(searched, metric, fpir, threads=threads)

    monkeypatch.setattr(open_set, "measured", counted)
    with gallery_of(tmp_path / "faces.db", people(100)) as gallery:
        model = gallery.settings.model
        for fpir in (0.1, 0.1, 0.2, 0.1):
            gallery.identify(faces(0, 1), model=model, fpir=fpir)
        assert calls == [("fastmls", 0.1), ("fastmls", 0.2)]
        gallery.identify(faces(0, 1), model=model, fpir=0.1, metric="cosine")
        gallery.enroll(NewReferences.unlabelled(("new",), faces(3, 1)), model=model)
        gallery.identify(faces(0, 1), model=model, fpir=0.1)
        assert calls[2:] == [("cosine", 0.1), ("fastmls", 0.1)]


def test_the_sample_is_evenly_spaced_and_large_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_set, "MOST_SAMPLED", 100)
    with gallery_of(tmp_path / "faces.db", people(300) * 2, "all") as gallery:
        model = gallery.settings.model
        assert "100 of 300 identities" in gallery.identify(faces(0, 1), model=model, fpir=0.3).basis
        assert "200 of 300 identities" in gallery.identify(faces(0, 1), model=model, fpir=0.05).basis
        gallery.enroll(NewReferences.unlabelled(("p0", "new"), faces(3, 2)), model=model)
        with gallery._index.current() as now:
            _, own = open_set.sample(now, 100)
            assert len(set(own.tolist())) == 100
            assert set(np.diff(sorted(own)).tolist()) <= {1, 2, 3, 4}
            _, everybody = open_set.sample(now, 10**6)
            assert sorted(everybody.tolist()) == list(range(1, 302))


def test_rules_of_an_empty_gallery_need_no_data(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "faces.db", settings()) as gallery, gallery._index.current() as now:
        assert OpenSet().rule(now, gallery.settings, "fastmls", 1e-9, lambda: 0).basis == "the gallery is empty"
