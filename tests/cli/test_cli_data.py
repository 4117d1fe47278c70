import json
import pickle
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from photos import portrait, save
from probface.cli.app import run
from probface.contract import InputSpec
from probface.errors import InvalidValue, UnreadableImage
from probface.face.image import read_image
from probface.pipeline.aligned_items import aligned_items
from probface.pipeline.recogniser import FaceFinder
from probface.readers.item import Item
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


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five photos of Anna and three of Bert, no two of one size; beside the face in the middle is a larger one."""
    for number in range(8):
        photo = np.full((520, 700 + number, 3), 90, np.uint8)
        photo[220:, :300] = portrait(300, noise=4.0, seed=number)
        photo[160:360, 300 + 3 * number : 500 + 3 * number] = portrait(200, noise=4.0, seed=number)
        name = "Anna/Anna" if number < 5 else "Bert/Bert"
        save(tmp_path / "photos" / f"{name}_{number:04d}.jpg", photo)
    return tmp_path / "photos"


def _faces(folder: Path, size: int = 112) -> list[np.ndarray]:
    """What the finder cuts out of each photo, in the order of the names."""
    find = FaceFinder(InputSpec(height=size, width=size), policy="central")
    return [find(path)[0].crop for path in sorted(folder.glob("*/*.jpg"))]


def _assert_images(items: Iterable[Item], faces: list[np.ndarray]) -> None:
    sources = [item.source for item in items]
    assert all(isinstance(source, bytes) and source.startswith(b"\x89PNG") for source in sources)
    for source, face in zip(sources, faces, strict=True):
        np.testing.assert_array_equal(read_image(source), face)


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


@pytest.mark.parametrize("size", [None, 64])
def test_photos_are_aligned(photos: Path, capsys: Capture, tmp_path: Path, size: int | None) -> None:
    out = tmp_path / "set" / "train.rec"
    options = ("--align",) if size is None else ("--align", "--size", size)
    document, err = _packed(capsys, photos, "--out", out, *options)
    assert document == {"out": str(out), "images": 8, "identities": 2, "broken": 0, "missing": 0}
    assert err == ""
    items = list(read_recordio(out))
    _assert_images(items, _faces(photos, size or 112))
    assert [item.label for item in items] == ["0"] * 5 + ["1"] * 3
    assert (out.parent / "identities.txt").read_text() == "Anna\nBert\n"
    assert (out.parent / "property").read_text() == f"2,{size or 112},{size or 112}\n"


def test_a_photo_without_a_face(photos: Path, capsys: Capture, tmp_path: Path) -> None:
    out, faces = tmp_path / "set" / "train.rec", _faces(photos)
    save(photos / "Anna" / "Anna_0002b.jpg", np.full((300, 300, 3), 120, np.uint8))
    save(photos / "Aron" / "Aron_0001.jpg", np.full((300, 300, 3), 120, np.uint8))
    (photos / "Bert" / "Bert_0000.jpg").write_text("no image")
    command = (photos, "--out", out, "--align")
    assert "Anna_0002b.jpg: no face found; give a photo in which a face is to be seen" in _refused(capsys, *command)
    assert list(out.parent.iterdir()) == []
    assert run(["data", "pack", *map(str, command), "--broken", "skip"]) == 0
    text, err = capsys.readouterr()
    left_out = "left out images: 3 unreadable or without a face, 0 missing"
    assert text == f"8 images of 2 identities -> {out}\n{left_out}\n"
    assert re.findall(r"(\w+)\.jpg: no.*\(left out\)\n", err) == ["Anna_0002b", "Aron_0001", "Bert_0000"]
    items = list(read_recordio(out))
    _assert_images(items, faces)
    assert [item.label for item in items] == ["0"] * 5 + ["1"] * 3
    assert (out.parent / "identities.txt").read_text() == "Anna\nBert\n"


def test_pairs_of_photos_are_aligned(photos: Path, capsys: Capture, tmp_path: Path) -> None:
    pairs, out = tmp_path / "pairs.txt", tmp_path / "lfw.bin"
    faces = dict(zip([path.stem for path in sorted(photos.glob("*/*.jpg"))], _faces(photos), strict=True))
    save(photos / "Bert" / "Bert_0009.jpg", np.full((300, 300, 3), 120, np.uint8))
    genuine, impostor = "Anna 0 1\nBert 5 6\nBert 7 9\n", "Anna 2 Bert 5\nAnna 0 Bert 7\nAnna 4 Bert 6\n"
    pairs.write_text(f"3\n{genuine}{impostor}")
    command = (photos, "--pairs", pairs, "--out", out, "--align")
    assert "Bert_0009: no face found" in _refused(capsys, *command)
    assert not out.exists()
    document, err = _packed(capsys, *command, "--broken", "skip")
    assert document == {"out": str(out), "pairs": 5, "genuine": 2, "broken": 1, "missing": 0}
    assert err.count("(left out)") == 1
    made = read_verification_bin(out)
    assert made.genuine.tolist() == [True, True, False, False, False]
    numbers = "Anna_0000 Anna_0001 Bert_0005 Bert_0006 Anna_0002 Bert_0005 Anna_0000 Bert_0007 Anna_0004 Bert_0006"
    _assert_images(made.items, [faces[name] for name in numbers.split()])


def test_sizes_that_differ_and_a_size_for_nothing(photos: Path, capsys: Capture, tmp_path: Path) -> None:
    out, pairs = tmp_path / "set" / "train.rec", tmp_path / "pairs.txt"
    pairs.write_text("1\nAnna\t0\t1\nAnna\t0\tBert\t5\n")
    mend = "a set holds aligned crops of one size, so cut all alike, or cut them: --align\n"
    assert _refused(capsys, photos, "--out", out).endswith(mend)
    assert _refused(capsys, photos, "--pairs", pairs, "--out", tmp_path / "lfw.bin").endswith(mend)
    assert "--size 64: images are copied as they are; add --align" in _refused(
        capsys, photos, "--out", out, "--size", 64
    )
    assert "Invalid value for '--size'" in _refused(capsys, photos, "--out", out, "--align", "--size", 4)


def test_few_photos_are_under_way_at_a_time(photos: Path) -> None:
    asked: list[Item] = []

    def items() -> Iterator[Item]:
        path = next(photos.glob("Anna/*.jpg"))
        for number in range(1000):
            asked.append(Item(str(number), path if number else b"", "Anna"))
            yield asked[-1]

    faces = aligned_items(items(), 32, workers=2)
    broken, first, second = next(faces), next(faces), next(faces)
    faces.close()
    assert len(asked) < 20
    assert [item.name for item in (broken, first, second)] == ["0", "1", "2"]
    assert first.source == second.source
    with pytest.raises(UnreadableImage, match="image 0: empty"):
        _ = broken.source
    with pytest.raises(InvalidValue, match="workers -1: must be 0 or more"):
        aligned_items([], workers=-1)
    with pytest.raises(InvalidValue, match="need at least 8 pixels"):
        aligned_items([], 4)
