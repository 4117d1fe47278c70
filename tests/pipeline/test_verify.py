from pathlib import Path

import numpy as np
import pytest

import probface
from photos import far_away, portrait, save
from probface.cli.demo import PORTRAITS, _carried
from probface.errors import InvalidValue, NoFace
from probface.pipeline.detect import detect
from probface.pipeline.recogniser import Recogniser
from probface.pipeline.verify import verify


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser()


@pytest.mark.parametrize("metric", ["fastmls", "mls", "cosine"])
def test_one_person_matches_and_another_does_not(recogniser: Recogniser, metric: str) -> None:
    other = _carried(*PORTRAITS["hopper.jpg"])
    for fmr in (1e-2, 1e-3, 1e-4, 1e-5):
        same = verify(portrait(), portrait(300, noise=8), metric=metric, fmr=fmr, model=recogniser)  # type: ignore[arg-type]
        different = verify(portrait(), other, metric=metric, fmr=fmr, model=recogniser)  # type: ignore[arg-type]
        assert same.match
        assert not different.match
        assert same.fmr == fmr
        assert same.threshold == different.threshold == recogniser.contract.threshold(metric, fmr).threshold  # type: ignore[arg-type]
        assert same.match == (same.score > same.threshold)
        assert same.cosine > different.cosine


def test_thresholds_rise_as_the_rate_falls(recogniser: Recogniser) -> None:
    for metric in ("fastmls", "mls", "cosine"):
        entries = sorted((e for e in recogniser.contract.thresholds if e.metric == metric), key=lambda e: -e.fmr)
        assert [entry.fmr for entry in entries] == [1e-2, 1e-3, 1e-4, 1e-5]
        assert (np.diff([entry.threshold for entry in entries]) > 0).all()


def test_a_worse_image_is_less_sure(recogniser: Recogniser) -> None:
    faces = [recogniser(far_away(pixels))[0] for pixels in (90, 30, 16)]
    variances = [face.sigma_sq for face in faces]
    assert variances == sorted(variances)
    assert [face.quality for face in faces] == sorted((face.quality for face in faces), reverse=True)
    assert faces[0].warnings == ()


def test_a_face_below_20_pixels_is_answered_with_a_warning(recogniser: Recogniser) -> None:
    answer = verify(portrait(), far_away(16), model=recogniser)
    assert answer.faces[0].warnings == ()
    assert "below 20: too small" in answer.faces[1].warnings[0]
    assert answer.faces[1].sigma_sq > 1.5 * answer.faces[0].sigma_sq


def test_a_wrong_metric_or_rate_is_told_before_an_image_is_read(recogniser: Recogniser, tmp_path: Path) -> None:
    missing = tmp_path / "missing.jpg"
    with pytest.raises(InvalidValue, match=r"FMR 0.002: model 'sface' carries fastmls thresholds"):
        verify(missing, missing, fmr=2e-3, model=recogniser)
    with pytest.raises(InvalidValue, match="thresholds for none"):
        verify(missing, missing, metric="l2", model=recogniser)  # type: ignore[arg-type]


def test_the_public_function_with_its_defaults(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", portrait())
    answer = probface.verify(path, path.read_bytes())
    assert (answer.match, answer.metric, answer.fmr) == (True, "fastmls", 1e-3)
    assert [face.source for face in answer.faces] == [str(path), "<bytes>"]
    assert answer.cosine == pytest.approx(1, abs=1e-5)


def test_an_aligned_image_of_another_size(recogniser: Recogniser) -> None:
    with pytest.raises(InvalidValue, match="the model takes 112 x 112; cut it to that size"):
        verify(portrait(), portrait(), aligned=True)
    crops = [recogniser.find(photo)[0].crop for photo in (portrait(), portrait(300))]
    assert verify(*crops, aligned=True).match


def test_arrays_that_are_no_image(recogniser: Recogniser) -> None:
    with pytest.raises(InvalidValue, match="dtype float64 with NaN: must be uint8"):
        verify(portrait(), np.full((200, 200, 3), np.nan), model=recogniser)
    with pytest.raises(InvalidValue, match=r"shape \(0, 200, 3\)"):
        verify(np.zeros((0, 200, 3), np.uint8), portrait(), model=recogniser)


def test_no_face() -> None:
    with pytest.raises(NoFace, match="no face found; give a photo in which a face is to be seen"):
        probface.verify(np.zeros((200, 200, 3), np.uint8), portrait())


def test_detect_finds_all_the_largest_or_the_most_central() -> None:
    photo = np.full((500, 1100, 3), 90, np.uint8)
    photo[:, 600:] = portrait(500)
    photo[150:350, 440:640] = portrait(200)
    found = detect(photo)
    assert len(found) == 2
    assert found[0].size > found[1].size
    assert detect(photo, policy="largest") == found[:1]
    assert detect(photo, policy="central") == found[1:]
    assert detect(np.zeros((100, 100, 3), np.uint8), policy="central") == ()
    with pytest.raises(InvalidValue, match="face policy 'first': must be one of largest, central, all"):
        detect(photo, policy="first")  # type: ignore[arg-type]
