import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from people_folder import write_people

from probface.contract import InputSpec
from probface.encoder.features import FeatureExtractor
from probface.errors import DataError
from probface.models.backbone import Backbone
from probface.models.taps import find_taps
from probface.readers.item import Item
from probface.readers.open import open_items
from probface.train import features as room
from probface.train.config import Variant
from probface.train.features import Faces, cache_faces, cache_features, change

KEY: dict[str, object] = {"backbone": "x"}


@pytest.fixture(scope="module")
def backbone(backbones: dict[str, Backbone]) -> Backbone:
    return backbones["resnet"]


@pytest.fixture(scope="module")
def extractor(backbone: Backbone) -> FeatureExtractor:
    return FeatureExtractor(backbone.model, find_taps(backbone.model, backbone.face), backbone.input, threads=1)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"), 12)


def faces_of(people: Path, cache: Path, backbone: Backbone) -> Faces:
    return cache_faces(tuple(open_items(people)), backbone.input, cache, aligned=True)


def test_features_are_those_of_each_image_in_its_state(
    people: Path, tmp_path: Path, backbone: Backbone, extractor: FeatureExtractor
) -> None:
    faces = faces_of(people, tmp_path, backbone)
    assert faces.failed == ()
    assert len(np.unique(faces.people)) == 12
    for variant in (Variant("clean"), Variant("mirror"), Variant("moderate", copies=2)):
        copies = cache_features(faces, extractor, variant, tmp_path, model_key=KEY, seed=4)
        assert len(copies) == variant.copies
        for copy, stored in enumerate(copies):
            for row in (0, 17, 35):
                image = change(faces.crops[row], variant.state, copy, faces.names[row], 4)
                np.testing.assert_allclose(stored[row], extractor.extract(image[None])[0], rtol=1e-3, atol=1e-4)


def test_nothing_is_computed_twice_and_what_differs_is_kept_apart(
    people: Path, tmp_path: Path, backbone: Backbone, extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original: Callable[..., object] = room._extract

    def counted(*arguments: object) -> object:
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(room, "_extract", counted)
    faces = faces_of(people, tmp_path, backbone)

    def run(state: str, seed: int, key: str) -> list[np.ndarray]:
        return cache_features(faces, extractor, Variant(state), tmp_path, model_key={"backbone": key}, seed=seed)

    first = run("moderate", 0, "x")
    assert len(calls) == 2
    np.testing.assert_array_equal(run("moderate", 0, "x")[0], first[0])
    assert len(calls) == 2
    for other in (("extreme", 0, "x"), ("moderate", 1, "x"), ("moderate", 0, "y")):
        before = len(calls)
        run(*other)
        assert len(calls) == before + 2


def test_a_changed_image_makes_another_cache(people: Path, tmp_path: Path, backbone: Backbone) -> None:
    items = list(open_items(people))
    before = cache_faces(items, backbone.input, tmp_path, aligned=True)
    items[3] = Item(items[3].name, items[5].source, items[3].label)
    after = cache_faces(items, backbone.input, tmp_path, aligned=True)
    assert before.digest != after.digest


def test_images_that_cannot_be_used_are_left_out_and_named(people: Path, tmp_path: Path, backbone: Backbone) -> None:
    items = list(open_items(people))
    items[4] = Item(items[4].name, b"no image", items[4].label)
    for _ in range(2):  # found, and then remembered
        faces = cache_faces(items, backbone.input, tmp_path, aligned=True)
        assert [name for name, _ in faces.failed] == [items[4].name]
        assert "not an image" in faces.failed[0][1]
        assert len(faces.names) == len(faces.crops) == len(items) - 1
    with pytest.raises(DataError, match="nobody's; training images need a person each"):
        cache_faces([Item("x", b"", None)], backbone.input, tmp_path, aligned=True)
    with pytest.raises(DataError, match="no face in 1 images; the first: image x: empty"):
        cache_faces([Item("x", b"", "p")], backbone.input, tmp_path, aligned=True)


KILLED = """
import os, sys
from pathlib import Path
from probface.encoder.features import FeatureExtractor
from probface.models.backbone import load_backbone
from probface.models.taps import find_taps
from probface.readers.open import open_items
from probface.train import features as room
room.CHUNK, room.SAVE_EVERY = 4, 2
people, network, cache = map(Path, sys.argv[1:4])
backbone = load_backbone(network)
extractor = FeatureExtractor(backbone.model, find_taps(backbone.model, backbone.face), backbone.input, threads=1)
faces = room.cache_faces(tuple(open_items(people)), backbone.input, cache, aligned=True)
def die(label, done, total):
    if done >= int(sys.argv[4]):
        os.kill(os.getpid(), 9)
variant, key = room.Variant("moderate"), {"backbone": "x"}
room.cache_features(faces, extractor, variant, cache, model_key=key, seed=0, progress=die)
"""


KILLED_EARLY = """
import os, sys
from pathlib import Path
from probface.contract import InputSpec
from probface.readers.open import open_items
from probface.train import features as room
room.CHUNK, room.SAVE_EVERY = 4, 2
def die(label, done, total):
    if done >= 16:
        os.kill(os.getpid(), 9)
room.cache_faces(tuple(open_items(sys.argv[1])), InputSpec(), Path(sys.argv[2]), aligned=True, progress=die)
"""


def test_finding_faces_goes_on_after_a_kill(people: Path, tmp_path: Path) -> None:
    photos, cut, whole = tmp_path / "photos", tmp_path / "cut", tmp_path / "whole"
    shutil.copytree(people, photos)
    damaged = [photos / "person-00" / "1.png", photos / "person-11" / "2.png"]  # met before the kill, and after it
    for path in damaged:
        path.write_bytes(b"no image")
    command = [sys.executable, "-c", KILLED_EARLY, str(photos), str(cut)]
    assert subprocess.run(command, check=False).returncode == -9
    done: list[int] = []
    items = tuple(open_items(photos))

    def found(cache: Path) -> Faces:
        done.clear()
        return cache_faces(items, InputSpec(), cache, aligned=True, progress=lambda _, count, __: done.append(count))

    undisturbed = found(whole)
    resumed = found(cut)
    assert done[0] > 16
    assert [name for name, _ in resumed.failed] == [path.as_posix() for path in damaged]
    for name in ("names", "digest", "failed"):
        assert getattr(resumed, name) == getattr(undisturbed, name)
    np.testing.assert_array_equal(resumed.people, undisturbed.people)
    np.testing.assert_array_equal(resumed.crops, undisturbed.crops)
    found(cut)
    assert done == []  # nothing was left to do


def test_a_killed_run_goes_on_and_ends_alike(
    people: Path, tmp_path: Path, network_files: dict[str, Path], backbone: Backbone, extractor: FeatureExtractor
) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    command = [sys.executable, "-c", KILLED, str(people), str(network_files["resnet"]), str(cut), "16"]
    assert subprocess.run(command, check=False).returncode == -9
    done: list[int] = []
    resumed = cache_features(
        faces_of(people, cut, backbone),
        extractor,
        Variant("moderate"),
        cut,
        model_key=KEY,
        seed=0,
        progress=lambda _, count, __: done.append(count),
    )
    assert done[0] > 16  # it went on, and did not begin anew
    undisturbed = cache_features(
        faces_of(people, whole, backbone), extractor, Variant("moderate"), whole, model_key=KEY, seed=0
    )
    np.testing.assert_allclose(resumed[0], undisturbed[0], rtol=1e-4, atol=1e-5)
