"""Small lists in MegaFace's format, and every way that they can be broken."""

import json
import re
from pathlib import Path

import pytest

from probface.errors import DataError
from probface.readers.megaface import read_megaface

PROBES = ["Adam Brody/Adam_Brody_1.png", "Adam Brody/Adam_Brody_2.png", "Al Pacino/Al Pacino_7.png"]
PEOPLE = ["Adam Brody", "Adam Brody", "Al Pacino"]
DISTRACTORS = ["63/10063@N03_identity_1/3484_0.jpg", "63/10063@N03_identity_1/3485_0.jpg", "7/7@N01_identity_0/1_0.jpg"]


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Path, Path]:
    probes, distractors = tmp_path / "facescrub_features_list.json", tmp_path / "megaface_features_list.json_100_1"
    probes.write_text(json.dumps({"id": PEOPLE, "path": PROBES}))
    distractors.write_text(json.dumps({"path": DISTRACTORS}))
    return probes, distractors


def test_lists(lists: tuple[Path, Path]) -> None:
    found = read_megaface(*lists)
    assert (found.probes.paths, found.probes.people, found.probes.noise) == (tuple(PROBES), tuple(PEOPLE), 0)
    assert (found.distractors.paths, found.distractors.people) == (tuple(DISTRACTORS), ())
    assert (len(found.probes), len(found.distractors)) == (3, 3)


def test_ids_of_distractors_and_numbers_as_people(lists: tuple[Path, Path]) -> None:
    lists[0].write_text(json.dumps({"id": [5, 5, 6], "path": PROBES}))
    lists[1].write_text(json.dumps({"path": DISTRACTORS, "id": [7, 7, 8]}))
    found = read_megaface(*lists)
    assert (found.probes.people, found.distractors.people) == (("5", "5", "6"), ("7", "7", "8"))


def test_noise_is_left_out(lists: tuple[Path, Path], tmp_path: Path) -> None:
    probe_noise, distractor_noise = tmp_path / "facescrub_noises.txt", tmp_path / "megaface_noises.txt"
    probe_noise.write_text("# wrong people\nAl_Pacino_7.png\n\nBob_1.png\n")
    distractor_noise.write_text(f"12\t{DISTRACTORS[1]}\n{DISTRACTORS[2]}\n")
    found = read_megaface(*lists, probe_noise=probe_noise, distractor_noise=distractor_noise)
    assert (found.probes.paths, found.probes.people, found.probes.noise) == (tuple(PROBES[:2]), tuple(PEOPLE[:2]), 1)
    assert (found.distractors.paths, found.distractors.noise) == (tuple(DISTRACTORS[:1]), 2)
    with pytest.raises(DataError, match="names none of the 3 images of facescrub_features_list"):
        read_megaface(*lists, probe_noise=distractor_noise)
    distractor_noise.write_text("\n".join(DISTRACTORS))
    with pytest.raises(DataError, match="names all of the 3 images of megaface_features_list"):
        read_megaface(*lists, distractor_noise=distractor_noise)
    with pytest.raises(DataError, match=r"none\.txt: No such file"):
        read_megaface(*lists, probe_noise=tmp_path / "none.txt")
    probe_noise.write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match=r"facescrub_noises\.txt: no text in UTF-8"):
        read_megaface(*lists, probe_noise=probe_noise)


@pytest.mark.parametrize(
    ("which", "text", "message"),
    [
        (1, json.dumps({"path": DISTRACTORS})[:-20], "line 1: not JSON"),  # cut short
        (1, "[1]", "expected an object whose 'path' is a list"),
        (1, json.dumps({"paths": DISTRACTORS}), "expected an object whose 'path' is a list"),
        (1, json.dumps({"path": []}), "expected an object whose 'path' is a list"),
        (1, json.dumps({"path": ["a", 3]}), "expected an object whose 'path' is a list"),
        (1, json.dumps({"path": ["a", "b"], "id": ["x"]}), "1 ids for 2 paths"),
        (1, json.dumps({"path": ["a"], "id": [None]}), "'id' must be a list of names or numbers"),
        (1, json.dumps({"path": ["a", "b", "a"]}), "entry 3: 'a' is entry 1 already"),
        (
            1,
            json.dumps({"path": ["a", PROBES[2]]}),
            f"{PROBES[2]!r} is a probe in facescrub_features_list.json, too (1 such",
        ),
        (1, json.dumps({"path": ["a", "b"], "id": ["z", "Al Pacino"]}), "'Al Pacino' is one of the probes' people"),
        (0, json.dumps({"path": PROBES}), "no 'id' beside 'path'"),
        (
            0,
            json.dumps({"path": [*PROBES, PROBES[0]], "id": [*PEOPLE, "x"]}),
            "entry 4: 'Adam Brody/Adam_Brody_1.png' is",
        ),
        (0, "[" * 100_000, "no JSON text in UTF-8"),
        (0, f'{{"id": [{"9" * 5000}], "path": ["a"]}}', "has a number of more than 4300 digits; write ids as names"),
        (1, f'{{"path": ["a"], "else": -{"9" * 5000}}}', "has a number of more than 4300 digits; write ids as names"),
    ],
)
def test_broken_lists(lists: tuple[Path, Path], which: int, text: str, message: str) -> None:
    lists[which].write_text(text)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_megaface(*lists)
    assert str(lists[which]) in str(caught.value)


def test_unreadable_lists(lists: tuple[Path, Path]) -> None:
    lists[1].write_bytes(b'{"path": ["\xff"]}')
    with pytest.raises(DataError, match="no JSON text in UTF-8"):
        read_megaface(*lists)
    lists[1].unlink()
    with pytest.raises(DataError, match="No such file"):
        read_megaface(*lists)
