"""Against checkpoints by TensorFlow (tests/golden/make_tf1_bundle.py), and against tables damaged or written here."""

import contextlib
import json
import re
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.errors import ModelError, ModelNotFound
from probface.export.leveldb_table import MAGIC
from probface.export.tf1_bundle import Bundle, read_bundle

GOLDEN = Path(__file__).parents[1] / "golden" / "tf1_bundle"
ORACLE = Path(__file__).parents[2] / ".." / "shared" / "oracle" / "resface64_half_tf1"
INDEX = (GOLDEN / "mixed-7.index").read_bytes()
DATA = (GOLDEN / "mixed-7.data-00000-of-00001").read_bytes()
with np.load(GOLDEN / "expected.npz") as arrays:
    HALVES = {name: arrays[name] for name in arrays.files if name.startswith("half_")}
    MIXED = {name: arrays[name] for name in arrays.files if name not in HALVES}


def _bits(array: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, array.tobytes()


def _write(folder: Path, index: bytes = INDEX, data: bytes = DATA) -> Path:
    """A checkpoint in the folder; mixed-7 where nothing else is given."""
    (folder / "a-1.index").write_bytes(index)
    (folder / "a-1.data-00000-of-00001").write_bytes(data)
    return folder / "a-1"


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def _masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def _closed(content: bytes, kind: int = 0) -> bytes:
    content += bytes([kind])
    return content + struct.pack("<I", _masked(content))


def _block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Every key in full: the prefixes are TensorFlow's to write."""
    entries = b"".join(_varint(0) + _varint(len(key)) + _varint(len(value)) + key + value for key, value in pairs)
    return entries + struct.pack("<II", 0, 1)


def _table(*blocks: bytes, kind: int = 0) -> bytes:
    data, places = b"", []
    for block in blocks:
        places.append((b"", _varint(len(data)) + _varint(len(block))))
        data += _closed(block, kind)
    index = _block(places)
    footer = (_varint(0) * 2 + _varint(len(data)) + _varint(len(index))).ljust(40, b"\0")
    return data + _closed(index) + footer + struct.pack("<Q", MAGIC)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _entry(kind: int, shape: tuple[int, ...], size: int, shard: int = 0, offset: int = 0, crc: int = 0) -> bytes:
    dimensions = b"".join(_message(2, _number(1, length)) for length in shape)
    numbers = _number(3, shard) + _number(4, offset) + _number(5, size)
    return _number(1, kind) + _message(2, dimensions) + numbers + _varint(6 << 3 | 5) + struct.pack("<I", crc)


HEADER = (b"", _number(1, 1))


def _bundle(folder: Path, entry: bytes, data: bytes = b"", header: tuple[bytes, bytes] = HEADER) -> Bundle:
    return read_bundle(_write(folder, _table(_block([header, (b"x", entry)])), data))


def test_every_value_is_tensorflows() -> None:
    bundle = read_bundle(GOLDEN / "mixed-7")
    assert set(bundle.names) == {*MIXED, "kinds/string"}
    for name, expected in MIXED.items():
        array = bundle.read(name)
        assert _bits(array) == _bits(expected), name
        assert bundle.names[name].shape == expected.shape
        kind = "bfloat16" if name == "kinds/bfloat16" else str(expected.dtype)
        assert (bundle.names[name].dtype, str(array.dtype)) == (kind, kind)
        assert array.flags.writeable


def test_several_data_files() -> None:
    bundle = read_bundle(GOLDEN / "shards-3.index")
    assert bundle.shards == 2
    assert {name: _bits(bundle.read(name)) for name in bundle.names} == {k: _bits(v) for k, v in HALVES.items()}
    assert {entry.shard for entry in bundle.names.values()} == {0, 1}


def test_an_index_of_several_blocks(tmp_path: Path) -> None:
    with zipfile.ZipFile(GOLDEN / "blocks.zip") as archive:
        archive.extractall(tmp_path)
    bundle = read_bundle(tmp_path)
    assert bundle.index.stat().st_size > 2 * 256 * 1024  # of which a block has no more than 256 KB
    assert [name[:9] for name in bundle.names] == [f"{number:04d}/deep" for number in range(1300)]
    assert [bundle.read(name).item() for name in bundle.names] == list(range(1300))


def test_the_networks_checkpoint() -> None:
    if not (ORACLE / "vars.json").is_file():
        pytest.skip("the checkpoint (oracle/resface64_half_tf1) is not beside this checkout")
    shapes = {name: tuple(shape) for name, shape in json.loads((ORACLE / "vars.json").read_text())}
    bundle = read_bundle(ORACLE)
    assert {name: entry.shape for name, entry in bundle.names.items()} == shapes
    for name, shape in shapes.items():
        array = bundle.read(name)
        assert (array.shape, array.dtype) == (shape, np.float32)
        assert np.isfinite(array).all()


def test_a_partitioned_variable_is_refused_by_name() -> None:
    bundle = read_bundle(GOLDEN / "sliced-1")
    assert list(bundle.names) == ["plain", "sliced"]
    assert bundle.names["sliced"].shape == (4, 3)
    assert bundle.read("plain").tolist() == [0, 1, 2]
    with pytest.raises(ModelError, match=r"sliced-1.index: variable 'sliced' is partitioned into slices; save"):
        bundle.read("sliced")


def test_what_is_not_read_here() -> None:
    bundle = read_bundle(GOLDEN / "mixed-7")
    assert bundle.names["kinds/string"].dtype == "type 7"
    with pytest.raises(ModelError, match=r"mixed-7.index: variable 'kinds/string' is of TensorFlow's type 7, must be"):
        bundle.read("kinds/string")
    with pytest.raises(ModelError, match=r"mixed-7.index: has no variable 'nothing' among its 111"):
        bundle.read("nothing")


def test_bfloat16_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ModelError, match=r"'kinds/bfloat16' is bfloat16, which needs ml_dtypes; pip install"):
        read_bundle(GOLDEN / "mixed-7").read("kinds/bfloat16")


@pytest.mark.parametrize(
    "named", ["a-1", "./a-1", "/nowhere/now/a-1", "a\\055\\061", "\\141-1"], ids=lambda named: repr(named)
)
def test_the_checkpoint_that_the_folder_names(tmp_path: Path, named: str) -> None:
    _write(tmp_path)
    shutil.copy(GOLDEN / "shards-3.index", tmp_path)
    text = f'model_checkpoint_path: "{named}"\nall_model_checkpoint_paths: "shards-3"\n'
    (tmp_path / "checkpoint").write_text(text)
    assert read_bundle(tmp_path).index == tmp_path / "a-1.index"


def test_a_named_checkpoint_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{(GOLDEN / "mixed-7").as_posix()}"\n')
    assert read_bundle(tmp_path).index == GOLDEN / "mixed-7.index"


def test_a_folder_that_names_none(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"holds neither a file named checkpoint nor an \.index file"):
        read_bundle(tmp_path)
    for name in ("model.ckpt", "model.ckpt-9", "model.ckpt-10"):
        shutil.copy(GOLDEN / "mixed-7.index", tmp_path / f"{name}.index")
        assert read_bundle(tmp_path).index.name == f"{name}.index"
    shutil.copy(GOLDEN / "mixed-7.index", tmp_path / "other-10.index")
    with pytest.raises(ModelError, match=r"model.ckpt-10.index and other-10.index may both be the newest"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "a-1", 'model_checkpoint_path: ""', 'model_checkpoint_path: "a\\000"'])
def test_a_checkpoint_file_without_a_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "checkpoint").write_text(text)
    with pytest.raises(ModelError, match=r'checkpoint: must hold a line model_checkpoint_path: "ckpt-1"'):
        read_bundle(tmp_path)


def test_a_folder_that_names_itself_or_a_file_that_is_gone(tmp_path: Path) -> None:
    for named in (f"../{tmp_path.name}", "gone-3"):
        (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{named}"\n')
        with pytest.raises(ModelNotFound, match=re.escape(f"{tmp_path / named}.index: no such file; give")):
            read_bundle(tmp_path)


@given(st.binary(max_size=20) | st.integers(0, 10000).map(lambda length: b"a" * length))
def test_any_name_in_the_checkpoint_file(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    folder = tmp_path_factory.mktemp("named")
    (folder / "checkpoint").write_bytes(b'model_checkpoint_path: "' + name + b'"\n')
    with pytest.raises(ModelError):
        read_bundle(folder)


def test_what_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "a-1", tmp_path / "a-1.index", tmp_path / "none" / "a-1"):
        with pytest.raises(ModelNotFound, match=re.escape(f"{path.with_name('a-1.index')}: no such file; give")):
            read_bundle(path)
    bundle = read_bundle(_write(tmp_path))
    (tmp_path / "a-1.data-00000-of-00001").unlink()
    with pytest.raises(ModelNotFound, match=r"a-1.data-00000-of-00001: no such file; put the data files beside"):
        bundle.read("global_step")
    (tmp_path / "a-1.data-00000-of-00001").mkdir()
    with pytest.raises(ModelError, match=r"a-1.data-00000-of-00001: cannot be read \(Is a directory\)"):
        bundle.read("global_step")


def test_files_that_are_no_index(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"v1: is a checkpoint of format V1; load it in TensorFlow and save it as V2"):
        read_bundle(GOLDEN / "v1")
    with pytest.raises(ModelError, match=r"mixed-7.data-00000-of-00001: is no checkpoint; give its folder"):
        read_bundle(GOLDEN / "mixed-7.data-00000-of-00001")
    with pytest.raises(ModelError, match=r"a-1.index: truncated: 47 bytes"):
        read_bundle(_write(tmp_path, INDEX[:47]))
    with pytest.raises(ModelError, match=rf"a-1.index: ends with 0x61{'61' * 7}, must end with {MAGIC:#x}"):
        read_bundle(_write(tmp_path, b"a" * 100))
    with pytest.raises(ModelError, match=r"a-1.index: is a table, but without the header of a checkpoint"):
        read_bundle(_write(tmp_path, _table(_block([(b"x", b"")]))))


def test_compressed_and_big_endian_are_refused(tmp_path: Path) -> None:
    for kind, text in ((1, "snappy"), (4, "kind 4")):
        with pytest.raises(ModelError, match=rf"a-1.index: the block at byte 0 is compressed \({text}\); write"):
            read_bundle(_write(tmp_path, _table(_block([HEADER]), kind=kind)))
    with pytest.raises(ModelError, match=r"a-1.index: is big-endian, must be little-endian"):
        _bundle(tmp_path, b"", header=(b"", _number(1, 1) + _number(2, 1)))


def test_a_table_written_here(tmp_path: Path) -> None:
    data = np.arange(6, dtype="<i4").tobytes()
    bundle = _bundle(tmp_path, _entry(3, (2, 3), 24, crc=_masked(data)), data)
    assert bundle.read("x").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "entry",
    [
        _entry(3, (2, 3), 20),
        _entry(3, (2, 3), 24, shard=1),
        _entry(3, (2**64 - 1,), 24),
        _entry(3, (2**62, 2**62, 0), 0, crc=_masked(b"")),
        _entry(3, (1,) * 65, 4, crc=_masked(b"\0" * 4)),
        _entry(3, (2**60,), 2**62),
        _entry(3, (1,), 4, offset=2**63),
    ],
)
def test_entries_that_cannot_be(tmp_path: Path, entry: bytes) -> None:
    bundle = _bundle(tmp_path, entry, b"\0" * 24)
    with pytest.raises(ModelError, match=r"a-1\.(index: variable 'x'|data-00000-of-00001: 24 bytes, must have)"):
        bundle.read("x")


def _refusals(path: Path) -> list[str]:
    """Read everything: each variable is as it was, or refused. The messages."""
    try:
        bundle = read_bundle(path)
    except ModelError as error:
        return [str(error)]
    assert set(bundle.names) == {*MIXED, "kinds/string"}
    messages = []
    for name, expected in MIXED.items():
        try:
            assert _bits(bundle.read(name)) == _bits(expected)
        except ModelError as error:
            messages.append(str(error))
    return messages


@given(st.integers(0, len(INDEX) - 1) | st.integers(len(INDEX) - 80, len(INDEX) - 1), st.integers(1, 255))
def test_a_changed_byte_of_the_index(tmp_path_factory: pytest.TempPathFactory, place: int, change: int) -> None:
    index = bytearray(INDEX)
    index[place] ^= change
    path = _write(tmp_path_factory.mktemp("index"), bytes(index))
    messages = _refusals(path)
    assert [text for text in messages if not text.startswith(f"{path}.index: ") or "\n" in text] == []
    metadata = INDEX.index(_closed(_block([])))  # not used
    assert messages or metadata <= place < metadata + 13 or place >= len(INDEX) - 48


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_changed_byte_of_the_data(tmp_path_factory: pytest.TempPathFactory, place: int, change: int) -> None:
    data = bytearray(DATA)
    data[place] ^= change
    path = _write(tmp_path_factory.mktemp("data"), data=bytes(data))
    (name,) = (name for name, entry in read_bundle(path).names.items() if 0 <= place - entry.offset < entry.size)
    assert len(_refusals(path)) == (name in MIXED)
    with pytest.raises(ModelError, match=re.escape(f"variable {name!r} ")):
        read_bundle(path).read(name)


@given(st.integers(0, len(INDEX) - 1))
def test_a_truncated_index(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = _write(tmp_path_factory.mktemp("index"), INDEX[:length])
    with pytest.raises(ModelError, match=r"a-1\.index: (truncated|ends with)"):
        read_bundle(path)


@given(st.integers(0, len(DATA) - 1))
def test_truncated_data(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    bundle = read_bundle(_write(tmp_path_factory.mktemp("data"), data=DATA[:length]))
    for name in MIXED:
        entry = bundle.names[name]
        if entry.offset + entry.size <= length:
            assert _bits(bundle.read(name)) == _bits(MIXED[name])
        else:
            with pytest.raises(ModelError, match=rf"a-1.data-00000-of-00001: {length} bytes, must have"):
                bundle.read(name)


def _entry_of(draw: bytes) -> bytes:
    return _table(_block([HEADER, (b"x", draw)]))


def _changed(base: bytes, place: int, byte: int) -> bytes:
    return base[: place % len(base)] + bytes([byte]) + base[place % len(base) + 1 :]


SMALL = _block([HEADER, (b"x", _entry(3, (2,), 8, crc=_masked(DATA[:8]))), (b"y", _entry(9, (), 8))])
CHANGED = st.builds(_changed, st.just(SMALL), st.integers(0, 10_000), st.integers(0, 255))


@pytest.mark.parametrize("table", [_table, _entry_of], ids=["block", "entry"])
@given(content=st.binary(max_size=40) | CHANGED)
def test_nonsense_under_a_right_checksum(
    tmp_path_factory: pytest.TempPathFactory, table: Callable[[bytes], bytes], content: bytes
) -> None:
    path = _write(tmp_path_factory.mktemp("nonsense"), table(content))
    with contextlib.suppress(ModelError):
        bundle = read_bundle(path)
        for name in bundle.names:
            with contextlib.suppress(ModelError):
                bundle.read(name)
