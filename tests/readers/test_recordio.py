"""Records are written here with struct, after the format's description; parts and damage included."""

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.errors import DataError, UnreadableImage
from probface.readers.recordio import MAGIC, Property, read_property, read_recordio

WORD = struct.pack("<I", MAGIC)


def _frame(content: bytes, kind: int = 0) -> bytes:
    return WORD + struct.pack("<I", kind << 29 | len(content)) + content + b"\0" * (-len(content) % 4)


def _record(content: bytes) -> bytes:
    """As dmlc-core writes it: cut where an aligned word is the magic number, which is left out."""
    cuts = [i for i in range(0, len(content) - 3, 4) if content[i : i + 4] == WORD]
    if not cuts:
        return _frame(content)
    starts, ends = [0] + [cut + 4 for cut in cuts], [*cuts, len(content)]
    kinds = [1] + [2] * (len(cuts) - 1) + [3]
    return b"".join(_frame(content[a:b], kind) for a, b, kind in zip(starts, ends, kinds, strict=True))


def _content(key: int, label: float | list[float], image: bytes) -> bytes:
    if isinstance(label, list):
        return struct.pack(f"<IfQQ{len(label)}f", len(label), 0, key, 0, *label) + image
    return struct.pack("<IfQQ", 0, label, key, 0) + image


def _write(folder: Path, contents: list[bytes], index: bool) -> list[int]:
    offsets, data = [], b""
    for content in contents:
        offsets.append(len(data))
        data += _record(content)
    (folder / "train.rec").write_bytes(data)
    if index:
        lines = [f"{key}\t{offset}\n" for key, offset in enumerate(offsets)]
        (folder / "train.idx").write_text("".join(reversed(lines)))
    return offsets


def _faces() -> tuple[list[bytes], list[bytes]]:
    """A small set as InsightFace makes it: record 0, three images, two identity ranges without an image."""
    images = [b"first", b"second image" + WORD + b"tail", WORD + b"\xff\xd8" * 9]
    contents = [_content(0, [4.0, 6.0], b"")]
    contents += [_content(1, 7.0, images[0]), _content(2, [7.0, 0.5], images[1]), _content(3, 8.0, images[2])]
    contents += [_content(4, [1.0, 3.0], b""), _content(5, [3.0, 4.0], b"")]
    return contents, images


@pytest.mark.parametrize("index", [False, True])
def test_reads_a_face_set(tmp_path: Path, index: bool) -> None:
    contents, images = _faces()
    _write(tmp_path, contents, index)
    items = list(read_recordio(tmp_path / "train.rec"))
    assert [item.source for item in items] == images
    assert [item.label for item in items] == ["7", "7", "8"]
    assert [item.name for item in items] == [f"{(tmp_path / 'train.rec').as_posix()}/{key}" for key in (1, 2, 3)]


@pytest.mark.parametrize("index", [False, True])
def test_reads_a_plain_set(tmp_path: Path, index: bool) -> None:
    _write(tmp_path, [_content(0, 3.0, b"a"), _content(1, 2.5, b"bcd")], index)
    items = list(read_recordio(tmp_path / "train.rec"))
    assert [(item.source, item.label) for item in items] == [(b"a", "3"), (b"bcd", "2.5")]


def test_a_plain_set_with_vectors_of_labels(tmp_path: Path) -> None:
    _write(tmp_path, [_content(key, [key + 0.5, 9.0], b"image") for key in range(3)], False)
    assert [item.label for item in read_recordio(tmp_path / "train.rec")] == ["0.5", "1.5", "2.5"]


def test_the_magic_number_within_the_header(tmp_path: Path) -> None:
    _write(tmp_path, [struct.pack("<IfQQ", 0, 5.0, MAGIC, MAGIC) + b"image"], False)
    (item,) = read_recordio(tmp_path / "train.rec")
    assert (item.source, item.label) == (b"image", "5")


@given(st.lists(st.lists(st.sampled_from([WORD, b"\0", b"abcd", WORD[:2]]), max_size=8).map(b"".join), min_size=1))
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, images: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("rec")
    _write(folder, [_content(key, 1.0, image + b"!") for key, image in enumerate(images)], False)
    assert [item.source for item in read_recordio(folder / "train.rec")] == [image + b"!" for image in images]


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("damaged", [0, 1, 2, 3])
def test_a_corrupted_record_is_named_and_the_rest_is_read(tmp_path: Path, index: bool, damaged: int) -> None:
    images = [b"image %d" % key * 5 for key in range(4)]
    offsets = _write(tmp_path, [_content(key, 1.0, image) for key, image in enumerate(images)], index)
    path = tmp_path / "train.rec"
    data = bytearray(path.read_bytes())
    data[offsets[damaged]] ^= 0xFF
    path.write_bytes(data)
    items = list(read_recordio(path))
    assert len(items) == 4
    for key, item in enumerate(items):
        if key == damaged:
            with pytest.raises(UnreadableImage, match=rf"record {key} at byte {offsets[key]}: no record begins there"):
                _ = item.source
        else:
            assert item.source == images[key]


@pytest.mark.parametrize("index", [False, True])
def test_a_truncated_file(tmp_path: Path, index: bool) -> None:
    offsets = _write(tmp_path, [_content(key, 1.0, b"image" * 5) for key in range(3)], index)
    path = tmp_path / "train.rec"
    path.write_bytes(path.read_bytes()[:-9])
    items = list(read_recordio(path))
    assert [item.source for item in items[:2]] == [b"image" * 5] * 2
    with pytest.raises(UnreadableImage, match=rf"byte {offsets[2]}: the file ends inside a record"):
        _ = items[2].source


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    contents = [struct.pack("<IfQQ", 99, 0, 0, 0) + b"image", b"short", _content(2, 1.0, b"good")]
    offsets = _write(tmp_path, contents, False)
    items = list(read_recordio(tmp_path / "train.rec"))
    with pytest.raises(UnreadableImage, match=rf"byte {offsets[0]}: 99 labels do not fit"):
        _ = items[0].source
    with pytest.raises(UnreadableImage, match=rf"byte {offsets[1]}: 5 bytes are too few"):
        _ = items[1].source
    assert items[2].source == b"good"


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    _write(tmp_path, [_content(0, 1.0, b"image")], False)
    (item,) = read_recordio(tmp_path / "train.rec")
    (tmp_path / "train.rec").write_bytes(b"")
    with pytest.raises(UnreadableImage, match="ends before byte 37; get a complete copy"):
        _ = item.source
    (tmp_path / "train.rec").unlink()
    with pytest.raises(UnreadableImage, match="No such file"):
        _ = item.source


def test_malformed_index(tmp_path: Path) -> None:
    _write(tmp_path, [_content(0, 1.0, b"image")], False)
    for line in ("1", "1\t-5", "1\t2\t3", "", "a\t2", "1\t" + "9" * 30, "\ufffd"):
        (tmp_path / "train.idx").write_text(f"0\t0\n{line}\n", encoding="utf-8")
        message = re.escape(f"train.idx, line 2: {line!r}, expected a key and a byte offset")
        with pytest.raises(DataError, match=message):
            list(read_recordio(tmp_path / "train.rec"))


def test_property(tmp_path: Path) -> None:
    path = tmp_path / "property"
    path.write_text("85742,112,112\n")
    assert read_property(path) == Property(85742, 112, 112)
    for text in ("85742,112", "a,b,c", ""):
        path.write_text(text)
        with pytest.raises(DataError, match='must hold one line "identities,height,width"'):
            read_property(path)
    with pytest.raises(DataError, match="No such file"):
        read_property(tmp_path / "none")
