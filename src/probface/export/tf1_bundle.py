"""TensorFlow 1 checkpoints, read without TensorFlow: ``ckpt-1.index`` and ``ckpt-1.data-00000-of-00001``.

    checkpoint    a text file; ``model_checkpoint_path: "ckpt-1"`` names the newest of a folder
    .index        a table (leveldb_table.py) from names to protocol buffers; the header has the empty name
    .data         the bytes of the variables, little-endian, row by row; over several files, the shards

    header        1 number of shards, 2 byte order (0 little)
    entry         1 type, 2 shape (2 dimension (1 size), ...), 3 shard, 4 offset, 5 size, 6 masked CRC-32C, 7 slices

A partitioned variable has an entry with slices and no bytes; those of its slices have names that begin with a zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probface.errors import ModelError, ModelNotFound
from probface.export.leveldb_table import CorruptedError, is_table, masked_crc, read_table, varint

_TYPES = {1: "float32", 2: "float64", 3: "int32", 9: "int64", 10: "bool", 14: "bfloat16", 19: "float16"}
_NAMED = re.compile(rb'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\]|\\.)+)"', re.M)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)")
_STEP = re.compile(r"-([0-9]+)\.index$")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of one variable.

    Attributes:
        shape: all of it, also of a partitioned variable.
        dtype: NumPy's name of the type; "type 7" for one that is not read here, by TensorFlow's number.
        shard, offset, size: which data file has the bytes, where they begin, and how many they are.
        crc: their masked CRC-32C.
        partitioned: whether the bytes lie elsewhere, in slices.
    """

    shape: tuple[int, ...]
    dtype: str
    shard: int
    offset: int
    size: int
    crc: int
    partitioned: bool


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checkpoint whose index has been read; the values are read when they are asked for.

    Attributes:
        index: the ``.index`` file.
        shards: how many data files there are.
        names: the variables by name, in the order of the index.
    """

    index: Path
    shards: int
    names: Mapping[str, Entry]

    def read(self, name: str) -> np.ndarray:
        """The values of one variable.

        Raises:
            ModelNotFound: the data file is not there.
            ModelError: there is no such variable, it is partitioned or of a type that is not read, or the data file is
                too short or fails the checksum.
        """
        entry = self.names.get(name)
        if entry is None:
            raise ModelError(f"{self.index}: has no variable {name!r} among its {len(self.names)}; see names")
        where = f"{self.index}: variable {name!r}"
        if entry.partitioned:
            raise ModelError(f"{where} is partitioned into slices; save it from TensorFlow without a partitioner")
        dtype = _dtype(entry.dtype, where)
        if entry.size != math.prod(entry.shape) * dtype.itemsize or entry.shard >= self.shards:
            raise ModelError(
                f"{where}: {entry.size} bytes in shard {entry.shard} of {self.shards} cannot be {entry.dtype} of shape "
                f"{entry.shape}; save the checkpoint again"
            )
        shard = self._shard(entry.shard)
        data = _span(shard, entry.offset, entry.size)
        if masked_crc(data) != entry.crc:
            raise ModelError(f"{shard}: variable {name!r} fails its checksum; get a complete copy of the file")
        try:
            return np.frombuffer(data, dtype).reshape(entry.shape).copy()
        except ValueError as error:
            raise ModelError(f"{where}: shape {entry.shape} is none for an array ({error}); save it again") from error

    def _shard(self, number: int) -> Path:
        return self.index.with_name(f"{self.index.name.removesuffix('.index')}.data-{number:05}-of-{self.shards:05}")


def read_bundle(path: Path) -> Bundle:
    """Read the index of a checkpoint.

    Args:
        path: a folder, of which the file ``checkpoint`` names the newest checkpoint (without that file: the only one,
            or the one of the highest step); or ``dir/ckpt-1``; or ``dir/ckpt-1.index``.

    Raises:
        ModelNotFound: no checkpoint is there.
        ModelError: it is of the old format V1, big-endian, no checkpoint, truncated or corrupted.
    """
    try:
        index = _index_of(_newest(path) if path.is_dir() else path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give a readable checkpoint") from error
    table = read_table(index)
    try:
        numbers, _ = _fields(_header(table))
        names = {_text(key): _entry(value) for key, value in table.items() if key and key[0] != 0}
    except CorruptedError as error:
        raise ModelError(f"{index}: {error}; get a complete copy, or save the checkpoint again") from error
    if numbers.get(2, 0) != 0:
        raise ModelError(f"{index}: is big-endian, must be little-endian; save it on a little-endian machine")
    return Bundle(index, numbers.get(1, 0), names)


def _index_of(path: Path) -> Path:
    index = path if path.suffix == ".index" else path.with_name(f"{path.name}.index")
    if index.is_file():
        return index
    if path.is_file() and is_table(path):
        raise ModelError(f"{path}: is a checkpoint of format V1; load it in TensorFlow and save it as V2")
    if path.is_file():
        raise ModelError(f"{path}: is no checkpoint; give its folder, its .index file, or that without .index")
    raise ModelNotFound(f"{index}: no such file; give a checkpoint's folder, its .index file, or that without .index")


def _newest(folder: Path) -> Path:
    """The prefix that ``checkpoint`` names, also where the folder has moved; without it, the index of the last step."""
    listing = folder / "checkpoint"
    if listing.is_file():
        named = _named(listing)
        place, moved = folder / named, folder / named.name
        return moved if _exists(moved) and not _exists(place) else place
    found = sorted(folder.glob("*.index"))
    if not found:
        raise ModelNotFound(f"{folder}: holds neither a file named checkpoint nor an .index file; check the path")
    steps = {file: int(match[1]) if (match := _STEP.search(file.name)) else -1 for file in found}
    last = [file for file in found if steps[file] == max(steps.values())]
    if len(last) > 1:
        raise ModelError(f"{folder}: {last[0].name} and {last[1].name} may both be the newest; give one of them")
    return last[0]


def _exists(prefix: Path) -> bool:
    return prefix.with_name(f"{prefix.name}.index").is_file() or prefix.is_file()


def _named(listing: Path) -> Path:
    """The prefix in ``checkpoint``, with the escapes of protocol buffers' text undone."""
    match = _NAMED.search(listing.read_bytes())
    name = _ESCAPE.sub(lambda escape: _unescaped(escape[1]), match[1] if match else b"").decode(errors="replace")
    if "\0" in name or Path(name).name in ("", ".."):
        raise ModelError(f'{listing}: must hold a line model_checkpoint_path: "ckpt-1"; mend it, or remove it')
    return Path(name)


def _unescaped(code: bytes) -> bytes:
    return bytes([int(code, 8) & 0xFF]) if code[:1].isdigit() and code[0] < 0x38 else code


def _header(table: Mapping[bytes, bytes]) -> bytes:
    if b"" not in table:
        raise CorruptedError("is a table, but without the header of a checkpoint")
    return table[b""]


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise CorruptedError(f"the name {key!r} is not UTF-8") from error


def _entry(value: bytes) -> Entry:
    numbers, messages = _fields(value)
    _, shape = _fields(b"".join(messages.get(2, [])))
    kind = numbers.get(1, 0)
    return Entry(
        shape=tuple(_fields(dimension)[0].get(1, 0) for dimension in shape.get(2, [])),
        dtype=_TYPES.get(kind, f"type {kind}"),
        shard=numbers.get(3, 0),
        offset=numbers.get(4, 0),
        size=numbers.get(5, 0),
        crc=numbers.get(6, 0),
        partitioned=7 in messages,
    )


def _fields(data: bytes) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """The fields of a protocol buffer by number: the last number of each, and all of what has a length."""
    numbers: dict[int, int] = {}
    messages: dict[int, list[bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        wire, value = tag & 7, 0
        if wire in (0, 2):
            value, at = varint(data, at)
        size = {0: 0, 1: 8, 2: value, 5: 4}.get(wire)
        if size is None or at + size > len(data):
            raise CorruptedError("an entry is no protocol buffer")
        content, at = data[at : at + size], at + size
        if wire == 2:
            messages.setdefault(tag >> 3, []).append(content)
        else:
            numbers[tag >> 3] = value if wire == 0 else int.from_bytes(content, "little")
    return numbers, messages


def _dtype(name: str, where: str) -> np.dtype:
    if name not in _TYPES.values():
        raise ModelError(f"{where} is of TensorFlow's {name}, must be one of {', '.join(_TYPES.values())}")
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError as error:
            raise ModelError(f"{where} is bfloat16, which needs ml_dtypes; pip install ml_dtypes") from error
        bfloat16: np.dtype = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def _span(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            if offset + size <= length:
                file.seek(offset)
                return file.read(size)
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path}: no such file; put the data files beside their index") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give a readable file") from error
    raise ModelError(f"{path}: {length} bytes, must have {offset + size}; get a complete copy of the file")
