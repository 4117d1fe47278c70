"""What the bytes must be is written here with struct, after the layout of InsightFace's sets."""

import io
import itertools
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from probface.errors import DataError, InvalidValue, StorageError, UnreadableImage
from probface.readers.item import Broken, Item
from probface.readers.recordio import MAGIC, Property, read_property, read_recordio
from probface.writers.record_file import RecordFile
from probface.writers.recordio import WrittenSet, write_recordio

WORD = struct.pack("<I", 0xCED7230A)


def _image(tail: bytes = b"", size: tuple[int, int] = (6, 4), kind: str = "PNG") -> bytes:
    """A whole image of so many pixels, filled up to an aligned length, and then anything."""
    buffer = io.BytesIO()
    Pillow.new("RGB", size, "navy").save(buffer, kind)
    return buffer.getvalue() + bytes(-len(buffer.getvalue()) % 4) + tail


def _items(*images: tuple[str, bytes]) -> list[Item]:
    return [Item(f"image-{number}", content, label) for number, (label, content) in enumerate(images)]


def _frame(content: bytes, kind: int = 0) -> bytes:
    return WORD + struct.pack("<I", kind * 2**29 + len(content)) + content + b"\0" * (-len(content) % 4)


def test_the_layout_byte_by_byte(tmp_path: Path) -> None:
    plain, odd = _image(), _image(b"odd")
    start = _image()
    cut = start + WORD + b"1234" + WORD + WORD + b"tail!"
    made = write_recordio(_items(("b", odd), ("a", plain), ("b", cut)), tmp_path / "train.rec")
    assert made == WrittenSet(3, 2, ())
    third = struct.pack("<IfQQ", 0, 1, 3, 0) + start
    records = [
        _frame(struct.pack("<IfQQff", 2, 0, 0, 0, 4, 6)),
        _frame(struct.pack("<IfQQ", 0, 0, 1, 0) + plain),
        _frame(struct.pack("<IfQQ", 0, 1, 2, 0) + odd),
        _frame(third, 1) + _frame(b"1234", 2) + _frame(b"", 2) + _frame(b"tail!", 3),
        _frame(struct.pack("<IfQQff", 2, 0, 4, 0, 1, 2)),
        _frame(struct.pack("<IfQQff", 2, 0, 5, 0, 2, 4)),
    ]
    assert (tmp_path / "train.rec").read_bytes() == b"".join(records)
    offsets = [0, *itertools.accumulate(map(len, records))]
    index = "".join(f"{key}\t{offsets[key]}\n" for key in range(6))
    assert (tmp_path / "train.idx").read_bytes() == index.encode()
    assert (tmp_path / "property").read_bytes() == b"2,4,6\n"
    assert (tmp_path / "identities.txt").read_bytes() == b"a\nb\n"
    assert len(list(tmp_path.iterdir())) == 4


def test_the_magic_number_where_the_image_would_begin(tmp_path: Path) -> None:
    file, index = io.BytesIO(), io.StringIO()
    records = RecordFile(file, index)
    records.add(0, WORD + b"abc")
    records.add(0, b"a" + WORD + b"bcd")  # not aligned: no cut
    first = _frame(struct.pack("<IfQQ", 0, 0, 0, 0), 1) + _frame(b"abc", 3)
    assert file.getvalue() == first + _frame(struct.pack("<IfQQ", 0, 0, 1, 0) + b"a" + WORD + b"bcd")
    assert index.getvalue() == f"0\t0\n1\t{len(first)}\n"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["7", "42", "anna", "0"]),
            st.lists(st.sampled_from([WORD, b"\0", b"abcd", WORD[:2], WORD[2:]]), max_size=8).map(b"".join),
        ),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, given: list[tuple[str, bytes]], index: bool
) -> None:
    folder = tmp_path_factory.mktemp("set")
    images = [(label, _image(tail)) for label, tail in given]
    made = write_recordio(_items(*images), folder / "x.rec")
    if not index:
        (folder / "x.idx").unlink()
    names = (folder / "identities.txt").read_text().splitlines()
    read = [(names[int(item.label or "")], item.source) for item in read_recordio(folder / "x.rec")]
    order = ["0", "7", "42", "anna"]
    assert read == sorted(images, key=lambda image: order.index(image[0]))
    assert names == [name for name in order if name in dict(images)]
    assert made == WrittenSet(len(images), len(names), ())
    assert read_property(folder / "property") == Property(len(names), 4, 6)


def test_labels_come_out_dense(tmp_path: Path) -> None:
    labels = ["anna", "42", "7", "7", "\u00e5sa", "-1", "007", "9" * 5000]
    write_recordio(_items(*((label, _image(label.encode())) for label in labels)), tmp_path / "x.rec")
    read = [item.label for item in read_recordio(tmp_path / "x.rec")]
    assert read == ["0", "1", "1", "2", "3", "4", "5", "6"]  # one image is enough for an identity
    names = (tmp_path / "identities.txt").read_text(encoding="utf-8").splitlines()
    assert names == ["007", "7", "42", "-1", "9" * 5000, "anna", "\u00e5sa"]


def test_a_set_packed_again_is_the_same(tmp_path: Path) -> None:
    first = tmp_path / "a" / "train.rec"
    images = [(str(number % 12), _image(bytes([number]))) for number in range(30)]
    write_recordio(_items(*images), first)
    before = {path.name: path.read_bytes() for path in first.parent.iterdir()}
    write_recordio(read_recordio(first), tmp_path / "b" / "train.rec")
    write_recordio(read_recordio(first), first)  # onto itself: the old file stays until the new one is whole
    for folder in ("a", "b"):
        assert {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} == before


def test_the_header_alone_is_read(tmp_path: Path) -> None:
    cut = _image(size=(200, 200), kind="JPEG")[:700]
    write_recordio(_items(("a", cut)), tmp_path / "x.rec")
    assert [item.source for item in read_recordio(tmp_path / "x.rec")] == [cut]
    bomb = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    with pytest.raises(UnreadableImage, match="image image-0: no image of a known format"):
        write_recordio(_items(("a", bomb)), tmp_path / "x.rec")


def test_files_in_folders(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_image())
    item = Item("a.png", tmp_path / "a.png", "anna")
    write_recordio([item], tmp_path / "new" / "folder" / "x.rec")
    assert [item.source for item in read_recordio(tmp_path / "new" / "folder" / "x.rec")] == [_image()]


def _with_broken(folder: Path) -> list[Item]:
    """Images of four people: a file that is gone, one of text, and a record that is damaged; bert has no other."""
    write_recordio(_items(("0", _image(b"one")), ("0", _image(b"two"))), folder / "old" / "old.rec")
    content = bytearray((folder / "old" / "old.rec").read_bytes())
    content[int((folder / "old" / "old.idx").read_text().split()[3])] ^= 0xFF
    (folder / "old" / "old.rec").write_bytes(content)
    gone = Item("gone.png", folder / "gone.png", "anna")
    return [
        gone,
        *_items(("bert", b"text"), ("cem", _image(b"x")), ("anna", _image())),
        *read_recordio(folder / "old" / "old.rec"),
    ]


def test_broken_images_are_left_out_or_end_it(tmp_path: Path) -> None:
    items = _with_broken(tmp_path)
    made = write_recordio(items, tmp_path / "new" / "x.rec", broken="skip")
    assert (made.images, made.identities) == (3, 3)
    read = [(item.label, item.source) for item in read_recordio(tmp_path / "new" / "x.rec")]
    assert read == [("0", _image(b"two")), ("1", _image()), ("2", _image(b"x"))]
    assert (tmp_path / "new" / "identities.txt").read_text() == "0\nanna\ncem\n"
    assert (tmp_path / "new" / "property").read_text() == "3,4,6\n"
    expected = [
        r"old.rec, record 1 at byte 40: no record begins there; the others are usable",
        r"image gone.png: No such file or directory; give an image file that can be opened",
        r"image image-0: no image of a known format (JPEG, PNG, WEBP, BMP, TIFF, GIF); leave it out or mend it",
    ]
    assert [line.removeprefix(f"{tmp_path}/old/") for line in made.left_out] == expected
    for item in items[:2] + items[4:5]:
        with pytest.raises(UnreadableImage, match=r"No such file|no image of a known|no record begins"):
            write_recordio([items[3], item], tmp_path / "error" / "x.rec")
    assert list((tmp_path / "error").iterdir()) == []


def test_nothing_to_write(tmp_path: Path) -> None:
    for items in ([], _items(("a", b"text"))):
        with pytest.raises(DataError, match="no image to write; give at least one that can be read"):
            write_recordio(items, tmp_path / "x.rec", broken="skip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        (
            _items(("a", _image()), ("a", _image(size=(4, 6)))),
            DataError,
            "4 x 6 pixels, and image-0 has 6 x 4",
        ),
        ([Item("x", _image())], DataError, "image x: has no label"),
        (_items(("a\nb", _image())), InvalidValue, r"label 'a\nb': must be one line of text"),
        (_items(("a\u2028b", _image())), InvalidValue, "must be one line of text"),
        (_items(("", _image())), InvalidValue, "label '': must be one line of text, not empty"),
        (_items(("\udcff", _image())), InvalidValue, r"label '\udcff': must be one line"),
    ],
)
def test_what_a_set_cannot_hold(tmp_path: Path, items: list[Item], error: type[Exception], message: str) -> None:
    write_recordio(_items(("old", _image())), tmp_path / "x.rec")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(error, match=re.escape(message)):
        write_recordio(items, tmp_path / "x.rec", broken="skip")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_image_longer_than_a_record(tmp_path: Path) -> None:
    long = _items(("a", _image(bytes(1 << 29))))
    with pytest.raises(DataError, match=r"image image-0: 5368\d+ bytes, a record holds 536870887; leave the image out"):
        write_recordio(long, tmp_path / "x.rec")
    assert list(tmp_path.iterdir()) == []


def test_more_images_than_float32_can_count(tmp_path: Path) -> None:
    (item,) = _items(("a", _image()))
    with pytest.raises(DataError, match="16777215 images of 1 people: a face set can number 16777215 records"):
        write_recordio(itertools.repeat(item, 2**24 - 1), tmp_path / "x.rec")


def test_places_that_are_refused(tmp_path: Path) -> None:
    items = _items(("a", _image()))
    with pytest.raises(InvalidValue, match=r"x.bin: a face set must end in .rec"):
        write_recordio(items, tmp_path / "x.bin")
    with pytest.raises(InvalidValue, match="broken 'ignore': must be 'error' or 'skip'"):
        write_recordio(items, tmp_path / "x.rec", broken="ignore")  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_recordio(items, tmp_path / "file" / "x.rec")
    (tmp_path / "identities.txt").write_text("a list of mine")
    with pytest.raises(StorageError, match=r"identities.txt: is there and no part of a set; remove it or"):
        write_recordio(items, tmp_path / "x.rec")
    assert (tmp_path / "identities.txt").read_text() == "a list of mine"
    write_recordio(items, tmp_path / "set" / "x.rec")
    with pytest.raises(StorageError, match=r"y.rec: x.rec is in this folder, and the files beside it can"):
        write_recordio(items, tmp_path / "set" / "y.rec")
    (tmp_path / "set" / "property").unlink()
    (tmp_path / "set" / "property").mkdir()
    with pytest.raises(StorageError, match="property: is there and no part of a set"):
        write_recordio(items, tmp_path / "set" / "x.rec")


def test_images_are_prepared_in_the_order_of_the_file_one_at_a_time(tmp_path: Path) -> None:
    given: list[str] = []

    def prepare(items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            given.append(item.name)
            broken = Broken("image image-2: no face") if item.name == "image-2" else item.origin
            yield replace(item, origin=_image(b"prepared") if item.origin == b"photo" else broken)

    def tell(done: int, total: int) -> None:
        told.append((done, total, len(given)))

    told: list[tuple[int, int, int]] = []
    items = _items(("b", b"photo"), ("a", _image()), ("c", _image()), ("b", b"photo"))
    made = write_recordio(items, tmp_path / "x.rec", broken="skip", prepare=prepare, progress=tell)
    assert made == WrittenSet(3, 2, ("image image-2: no face",))
    assert given == ["image-1", "image-0", "image-3", "image-2"]
    assert told == [(1, 4, 1), (2, 4, 2), (3, 4, 3), (4, 4, 4)]
    read = [(item.label, item.source) for item in read_recordio(tmp_path / "x.rec")]
    assert read == [("0", _image()), ("1", _image(b"prepared")), ("1", _image(b"prepared"))]
    assert (tmp_path / "identities.txt").read_text() == "a\nb\n"


def test_progress(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    items = _items(("a", _image()), ("b", b"text"), ("a", _image()))
    write_recordio(items, tmp_path / "x.rec", broken="skip", progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


WRITE = """
import os, resource, signal, sys
from pathlib import Path
from probface.errors import StorageError
from probface.readers.folder import read_folder
from probface.writers.recordio import write_recordio
path, photos, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if what == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
else:
    moves = []
    def kill(event, arguments):
        if event in ("os.rename", "os.remove") and str(path.parent) in str(arguments[0]):
            moves.append(event)
            if len(moves) > int(what):
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(kill)
try:
    write_recordio(read_folder(photos), path)
except StorageError as error:
    print(error)
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for person in ("new-a", "new-b", "new-c"):
        (tmp_path / "photos" / person).mkdir(parents=True)
        (tmp_path / "photos" / person / "1.png").write_bytes(_image(bytes(600), size=(8, 8)))
    return tmp_path / "photos"


@pytest.mark.parametrize("old", [False, True])
def test_a_full_disk_leaves_no_part(tmp_path: Path, photos: Path, old: bool) -> None:
    path = tmp_path / "set" / "train.rec"
    if old:
        write_recordio(_items(("old", _image())), path)
    before = {entry.name: entry.read_bytes() for entry in path.parent.glob("*")}
    command = [sys.executable, "-c", WRITE, path, photos, "full"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{path}: cannot be written (File too large); free space or choose another place" in ended.stdout
    assert {entry.name: entry.read_bytes() for entry in path.parent.iterdir()} == before


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("moves", range(9))  # the old set goes; four times, a file is moved and its old name cleared
def test_killed_at_any_move_a_set_that_stands_is_whole(tmp_path: Path, photos: Path, moves: int, old: bool) -> None:
    path = tmp_path / "set" / "train.rec"
    if old:
        write_recordio(_items(("old", _image()), ("older", _image(b"x"))), path)
    ended = subprocess.run([sys.executable, "-c", WRITE, path, photos, str(moves)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.exists() == (moves == 8 or (moves == 0 and old))
    if path.exists():
        names = (path.parent / "identities.txt").read_text().splitlines()
        new = (photos / "new-a" / "1.png").read_bytes()
        assert names == (["old", "older"] if moves == 0 else ["new-a", "new-b", "new-c"])
        images = [_image(), _image(b"x")] if moves == 0 else [new] * 3
        assert [item.source for item in read_recordio(path)] == images
        assert {len(item.source) > 600 for item in read_recordio(path) if isinstance(item.source, bytes)} == {
            moves == 8
        }
        assert read_property(path.parent / "property").identities == len(names)


def test_the_magic_number_is_the_one_of_the_field() -> None:
    assert MAGIC == 0xCED7230A
