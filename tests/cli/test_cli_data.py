import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from photos import save
from probface.cli.app import run
from probface.readers.recordio import read_recordio
from probface.readers.verification_bin import read_verification_bin

Capture = pytest.CaptureFixture[str]


def _crop(path: Path, grey: int) -> Path:
    return save(path, np.full((112, 112, 3), grey, np.uint8))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Two images of Anna, one of Bert, and a file that is no image in Bert's folder."""
    for number, name in enumerate(("Anna/Anna_0001.jpg", "Anna/Anna_0002.jpg", "Bert/Bert_0001.jpg")):
        _crop(tmp_path / "lfw" / name, 40 * number)
    (tmp_path / "lfw" / "Bert" / "Bert_0002.jpg").write_text("no image")
    return tmp_path / "lfw"


def _packed(capsys: Capture, *arguments: object) -> tuple[dict[str, object], str]:
    """Run ``data pack --json``: the document, and what is on standard error."""
    assert run(["data", "pack", *map(str, arguments), "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert isinstance(document, dict)
    return document, captured.err


def _refused(capsys: Capture, *arguments: object) -> str:
    assert run(["data", "pack", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("probface: ")
    assert err.count("\n") == 1
    return err


def test_a_folder_of_people(people: Path, capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "set" / "train.rec"
    assert "Bert_0002.jpg: no image of a known format" in _refused(capsys, people, "--out", out)
    assert run(["data", "pack", str(people), "--out", str(out), "--broken", "skip"]) == 0
    captured = capsys.readouterr()
    assert captured.out == (f"3 images of 2 identities -> {out}\nleft out images: 1 unreadable, 0 missing\n")
    assert "warning: image" in captured.err
    assert "Bert_0002.jpg" in captured.err
    assert [item.source for item in read_recordio(out)] == [
        path.read_bytes() for path in sorted(people.glob("*/*.jpg")) if path.name != "Bert_0002.jpg"
    ]
    assert (out.parent / "identities.txt").read_text() == "Anna\nBert\n"
    assert (out.parent / "property").read_text() == "2,112,112\n"


@pytest.mark.parametrize("suffix", ["txt", "lst"])
def test_a_list(people: Path, capsys: Capture, tmp_path: Path, suffix: str) -> None:
    rows = [("lfw/Anna/Anna_0001.jpg", 9), ("lfw/none.jpg", 9), ("lfw/Bert/Bert_0001.jpg", 4)]
    form = "{name} {label}\n" if suffix == "txt" else "0\t{label}.000\t{name}\n"
    listed, out = tmp_path / f"list.{suffix}", tmp_path / "set" / "train.rec"
    listed.write_text("".join(form.format(name=name, label=label) for name, label in rows))
    assert "line 2: 'lfw/none.jpg': no such file" in _refused(capsys, listed, "--out", out)
    document, err = _packed(capsys, listed, "--out", out, "--missing", "skip")
    assert document == {"out": str(out), "images": 2, "identities": 2, "broken": 0, "missing": 1}
    assert "lfw/none.jpg: no such file (left out)" in err
    assert (out.parent / "identities.txt").read_text() == "4\n9\n"


def test_sources_together(people: Path, capsys: Capture, tmp_path: Path) -> None:
    shard, out = tmp_path / "shard.tar", tmp_path / "set" / "train.rec"
    _crop(tmp_path / "1.png", 200)
    (tmp_path / "1.cls").write_text("Anna")
    with tarfile.open(shard, "w") as tar:
        tar.add(tmp_path / "1.png", "1.png")
        tar.add(tmp_path / "1.cls", "1.cls")
    document, _ = _packed(capsys, people / "Anna", shard, people / "Bert" / "*1.jpg", "--out", out)
    assert document == {"out": str(out), "images": 4, "identities": 2, "broken": 0, "missing": 0}
    assert [item.label for item in read_recordio(out)] == ["0", "0", "0", "1"]


def test_a_rec_numbers_its_people_for_itself(people: Path, capsys: Capture, tmp_path: Path) -> None:
    first, second, both = (tmp_path / name / "train.rec" for name in ("a", "b", "both"))
    _packed(capsys, people / "Anna", "--out", first)
    document, _ = _packed(capsys, first, "--out", second)
    assert document["identities"] == 1
    assert second.read_bytes() == first.read_bytes()
    _packed(capsys, people / "Anna", first, "--out", both)  # no label in common
    line = _refused(capsys, first, second, "--out", tmp_path / "c" / "train.rec")
    assert "its label '0' is in another source too" in line


def test_pairs(people: Path, capsys: Capture, tmp_path: Path) -> None:
    pairs, out = tmp_path / "pairs.txt", tmp_path / "lfw.bin"
    pairs.write_text("1\t1\nAnna\t1\t2\nAnna\t1\tBert\t1\n")
    document, err = _packed(capsys, people, "--pairs", pairs, "--out", out)
    assert document == {"out": str(out), "pairs": 2, "genuine": 1, "broken": 0, "missing": 0}
    assert err == ""
    images, genuine = pickle.loads(out.read_bytes(), encoding="bytes")  # noqa: S301
    names = ("Anna/Anna_0001", "Anna/Anna_0002", "Anna/Anna_0001", "Bert/Bert_0001")
    assert images == [(people / f"{name}.jpg").read_bytes() for name in names]
    assert genuine == [True, False]


def test_pairs_that_lack_an_image(people: Path, capsys: Capture, tmp_path: Path) -> None:
    pairs, out = tmp_path / "pairs.txt", tmp_path / "lfw.bin"
    pairs.write_text("3\nAnna\t1\t2\nBert\t1\t2\nCem\t1\t2\nAnna\t1\tBert\t1\nAnna\t2\tBert\t1\nAnna\t2\tBert\t2\n")
    command = (people, "--pairs", pairs, "--out", out)
    assert "Cem/Cem_0001: not in" in _refused(capsys, *command, "--broken", "skip")
    assert "Bert_0002: no image of a known format" in _refused(capsys, *command, "--missing", "skip")
    assert not out.exists()
    assert run(["data", "pack", *map(str, command), "--broken", "skip", "--missing", "skip"]) == 0
    captured = capsys.readouterr()
    assert captured.out == (f"3 pairs, 1 of them genuine -> {out}\nleft out pairs: 2 unreadable, 1 missing\n")
    assert captured.err.count("(left out)") == 3
    assert read_verification_bin(out).genuine.tolist() == [True, False, False]


def test_what_is_refused(people: Path, capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "set" / "train.rec"
    assert "image" in _refused(capsys, people / "Anna" / "Anna_0001.jpg", "--out", out)  # an image has no label
    assert "must end in .rec" in _refused(capsys, people, "--out", tmp_path / "train.zip")
    assert "must end in .bin" in _refused(capsys, people, "--out", out, "--pairs", tmp_path / "pairs.txt")
    assert "2 sources" in _refused(capsys, people, people, "--out", out, "--pairs", tmp_path / "pairs.txt")
    assert "no such file or folder" in _refused(capsys, tmp_path / "none", "--out", out)
    assert "Invalid value for '--broken'" in _refused(capsys, people, "--out", out, "--broken", "ignore")
    assert not out.exists()
