"""What is written must open by plain pickle, in the manner of every other reader of these files."""

import io
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from probface.errors import DataError, InvalidValue, StorageError, UnreadableImage
from probface.readers.item import Item
from probface.readers.verification_bin import read_verification_bin
from probface.writers.verification_bin import WrittenPairs, write_verification_bin


def _image(tail: bytes = b"", size: tuple[int, int] = (6, 4)) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", size, "navy").save(buffer, "PNG")
    return buffer.getvalue() + tail


A, B, C = (Item(name, _image(name.encode())) for name in "abc")
TEXT = Item("text", b"no image")


def test_plain_pickle_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "set.bin"
    assert write_verification_bin([(A, B, True), (A, C, False)], path) == WrittenPairs(2, 1, ())
    content = path.read_bytes()
    assert content.startswith(b"\x80\x02")
    expected = ([A.origin, B.origin, A.origin, C.origin], [True, False])
    assert pickle.loads(content, encoding="bytes") == expected  # noqa: S301
    assert pickle.loads(content) == expected  # noqa: S301
    assert [entry.name for entry in path.parent.iterdir()] == ["set.bin"]


def test_it_needs_only_the_names_that_our_reader_knows(tmp_path: Path) -> None:
    write_verification_bin([(A, B, True)], tmp_path / "set.bin")
    opcodes = pickletools.genops((tmp_path / "set.bin").read_bytes())
    assert {argument for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"} == {"_codecs encode"}


@given(st.lists(st.tuples(st.binary(), st.binary(), st.booleans()), min_size=1))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, given: list[tuple[bytes, bytes, bool]]
) -> None:
    path = tmp_path_factory.mktemp("set") / "set.bin"
    images = [_image(tail) for a, b, _ in given for tail in (a, b)]
    items = [Item(str(number), image) for number, image in enumerate(images)]
    genuine = [same for _, _, same in given]
    made = write_verification_bin(zip(items[::2], items[1::2], genuine, strict=True), path)
    read = read_verification_bin(path)
    assert [item.source for item in read.items] == images
    assert read.genuine.tolist() == genuine
    assert made == WrittenPairs(len(given), sum(genuine), ())


def test_a_pair_with_a_broken_image(tmp_path: Path) -> None:
    path = tmp_path / "set.bin"
    pairs = [(A, TEXT, True), (Item("gone", tmp_path / "gone.png"), A, False), (B, C, False)]
    with pytest.raises(UnreadableImage, match="image text: no image of a known format"):
        write_verification_bin(pairs, path)
    assert not path.exists()
    made = write_verification_bin(pairs, path, broken="skip")
    assert (made.pairs, made.genuine, len(made.left_out)) == (1, 0, 2)
    assert made.left_out[1] == "image gone: No such file or directory; give an image file that can be opened"
    assert [item.source for item in read_verification_bin(path).items] == [B.origin, C.origin]


def test_what_a_set_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "set.bin"
    for pairs in ([], [(A, TEXT, True)]):
        with pytest.raises(DataError, match="no pair to write; give at least one whose images can be read"):
            write_verification_bin(pairs, path, broken="skip")
    with pytest.raises(DataError, match="image other: 4 x 6 pixels, and a has 6 x 4; a set holds aligned crops"):
        write_verification_bin([(A, Item("other", _image(size=(4, 6))), True)], path, broken="skip")
    with pytest.raises(InvalidValue, match=r"set.rec: a verification set must end in .bin; rename it"):
        write_verification_bin([(A, B, True)], tmp_path / "set.rec")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_verification_bin([(A, B, True)], tmp_path / "file" / "set.bin")


FULL = """
import resource, signal, sys
from pathlib import Path
from probface.errors import StorageError
from probface.readers.item import Item
from probface.writers.verification_bin import write_verification_bin
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
item = Item("a", Path(sys.argv[2]))
try:
    write_verification_bin([(item, item, True)], Path(sys.argv[1]))
except StorageError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path, image = tmp_path / "set" / "set.bin", tmp_path / "a.png"
    image.write_bytes(_image(bytes(5000)))
    write_verification_bin([(A, B, True)], path)
    before = path.read_bytes()
    ended = subprocess.run([sys.executable, "-c", FULL, path, image], capture_output=True, text=True, check=True)
    assert f"{path}: cannot be written (File too large)" in ended.stdout
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["set.bin"]
