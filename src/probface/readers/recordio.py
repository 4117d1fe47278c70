"""MXNet RecordIO, in which InsightFace's training sets come: ``train.rec``, ``train.idx``, ``property``.

    record    uint32 magic 0xced7230a; uint32 (part << 29 | length); ``length`` bytes; zeros up to a multiple of 4
    content   struct "<IfQQ": flag, label, id, id2; then ``flag`` float32 labels, which replace ``label``; the image

Content that holds the magic number itself is cut there into parts (1 first, 2 middle, 3 last; 0 is a whole record).
Record 0 of a face set has labels and no image: images are the records 1 .. labels[0] - 1.
"""

from __future__ import annotations

import io
import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from probface.errors import DataError
from probface.readers.item import Broken, Item, Origin, Span

MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_FRAME = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_BLOCK = 1 << 20
_INDEX_LINE = re.compile(r"\s*([0-9]{1,18})\s+([0-9]{1,18})\s*")


@dataclass(frozen=True, slots=True)
class Property:
    """What the file ``property`` says: how many identities, and the size of the images in pixels."""

    identities: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class _Record:
    """A record's labels, whether they are a vector, and its image (``empty`` where it only carries labels)."""

    labels: tuple[float, ...]
    vector: bool
    image: Origin
    empty: bool


class _CorruptedError(Exception):
    """The bytes at this place are no record."""


def read_property(path: Path) -> Property:
    """Read ``property``: one line, "identities,height,width".

    Raises:
        DataError: anything else.
    """
    try:
        identities, height, width = (int(field) for field in path.read_text(encoding="utf-8").strip().split(","))
    except (OSError, ValueError) as error:
        raise DataError(f'{path}: must hold one line "identities,height,width" ({error})') from error
    return Property(identities, height, width)


def read_recordio(path: Path) -> Iterator[Item]:
    """The images of a ``.rec`` file: in the order of the keys where its ``.idx`` is beside it, else as they stand.

    An item's name is the file's path, a slash and the record's key (without ``.idx``: its number); its label is the
    first label. A corrupted record becomes an item whose ``source`` raises UnreadableImage with the byte offset; the
    records after it are usable. The bytes of an image are read when it is asked for.

    Raises:
        DataError: the file cannot be opened, or a line of ``.idx`` is malformed.
    """
    index = path.with_suffix(".idx")
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            places = _indexed(index) if index.is_file() else _scanned(file, size)
            last: float = float("inf")
            for key, offset in places:
                name = f"{path.as_posix()}/{key}"
                try:
                    record = _read_record(file, path, offset, size)
                except _CorruptedError as error:
                    yield Item(name, Broken(f"{path}, record {key} at byte {offset}: {error}; the others are usable"))
                    continue
                if key == 0 and record.vector and record.empty:
                    last = record.labels[0] - 1
                elif not record.empty and key <= last:
                    yield Item(name, record.image, f"{record.labels[0]:.10g}")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a readable .rec file") from error


def _indexed(path: Path) -> Iterator[tuple[int, int]]:
    """(key, byte offset) of every record, by key."""
    keys, offsets = array("q"), array("q")  # millions of records: 16 bytes for each, not objects
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            match = _INDEX_LINE.fullmatch(line)
            if match is None:
                text = line.rstrip("\n")
                raise DataError(
                    f"{path}, line {number}: {text!r}, expected a key and a byte offset; remove the file to scan"
                )
            keys.append(int(match[1]))
            offsets.append(int(match[2]))
    for place in np.argsort(np.frombuffer(keys, np.int64), kind="stable"):
        yield keys[place], offsets[place]


def _scanned(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """(number, byte offset) of every record as they stand; after a corrupted one, from the next that is whole."""
    number, offset = 0, 0
    while offset < size:
        yield number, offset
        try:
            offset = _parts(file, offset, size)[1]
        except _CorruptedError:
            offset = _next_record(file, offset + 4, size)
        number += 1


def _next_record(file: BinaryIO, offset: int, size: int) -> int:
    """Byte offset of the first whole record at or after ``offset``, or ``size``."""
    while offset < size:
        file.seek(offset)
        block = file.read(_BLOCK)
        found = block.find(_MAGIC_BYTES)
        while found >= 0:
            try:
                if (offset + found) % 4 == 0:
                    _parts(file, offset + found, size)
                    return offset + found
            except _CorruptedError:
                pass
            found = block.find(_MAGIC_BYTES, found + 1)
        # One whole word less than the block, so that a number across two blocks is not missed.
        offset += max(len(block) - 4, 4)
    return size


def _read_record(file: BinaryIO, path: Path, offset: int, size: int) -> _Record:
    parts, _ = _parts(file, offset, size)
    if len(parts) == 1:
        start, length = parts[0]
        file.seek(start)
        labels, vector, skip = _labels(file, length)
        return _Record(labels, vector, Span(path, start + skip, length - skip), length == skip)
    pieces = []
    for start, length in parts:
        file.seek(start)
        pieces.append(file.read(length))
    content = _MAGIC_BYTES.join(pieces)
    labels, vector, skip = _labels(io.BytesIO(content), len(content))
    return _Record(labels, vector, content[skip:], len(content) == skip)


def _parts(file: BinaryIO, offset: int, size: int) -> tuple[list[tuple[int, int]], int]:
    """(start, length) of each part of the record at ``offset``, and where the next record begins."""
    parts: list[tuple[int, int]] = []
    while True:
        file.seek(offset)
        frame = file.read(_FRAME.size)
        if len(frame) < _FRAME.size:
            raise _CorruptedError("the file ends inside a record")
        magic, word = _FRAME.unpack(frame)
        kind, length = word >> 29, word & ((1 << 29) - 1)
        start = offset + _FRAME.size
        if magic != MAGIC or kind not in ((2, 3) if parts else (0, 1)):
            raise _CorruptedError("no record begins there")
        if start + length > size:
            raise _CorruptedError("the file ends inside a record")
        parts.append((start, length))
        offset = start + (length + 3) // 4 * 4
        if kind in (0, 3):
            return parts, offset


def _labels(content: BinaryIO, length: int) -> tuple[tuple[float, ...], bool, int]:
    """The labels, whether they are a vector, and how many of the ``length`` bytes come before the image."""
    if length < _HEADER.size:
        raise _CorruptedError(f"{length} bytes are too few for a record of an image")
    flag, label, _, _ = _HEADER.unpack(content.read(_HEADER.size))
    if flag == 0:
        return (label,), False, _HEADER.size
    if _HEADER.size + 4 * flag > length:
        raise _CorruptedError(f"{flag} labels do not fit into it")
    return struct.unpack(f"<{flag}f", content.read(4 * flag)), True, _HEADER.size + 4 * flag
