"""The sorted table of LevelDB, in which TensorFlow keeps the index of a checkpoint.

    file      data blocks; a metadata block; the index block, whose values are the places of the data blocks; footer
    block     entries; uint32 where every 16th entry starts; uint32 how many of these there are
              then a trailer of 5 bytes: how it is compressed (0 not, 1 snappy); uint32 masked CRC-32C of all before
    entry     varints shared, rest, size; ``rest`` bytes after ``shared`` bytes of the key before; ``size`` bytes value
    footer    48 bytes: the places of the metadata and the index block; zeros; uint64 magic 0xdb4775248b80fb57

A place is two varints, byte offset and size without the trailer. Every byte that is used is under a checksum, but for
the footer, which can only point to bytes that are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from probface.errors import ModelError, ModelNotFound

MAGIC = 0xDB4775248B80FB57
_FOOTER_SIZE = 48
_TRAILER = struct.Struct("<BI")
_COMPRESSIONS = {1: "snappy"}


class CorruptedError(Exception):
    """The bytes at this place are not what the format says; whoever knows the file makes a ModelError of it."""


def read_table(path: Path) -> dict[bytes, bytes]:
    """All keys and values, in the order of the file.

    Raises:
        ModelNotFound: no such file.
        ModelError: it cannot be read, is no such table, is truncated, compressed, or fails its checksums.
    """
    data = _content(path)
    table: dict[bytes, bytes] = {}
    try:
        for _, place in _entries(_block(path, data, _index_offset_and_size(data))):
            table.update(_entries(_block(path, data, _offset_and_size(place, 0)[0])))
    except CorruptedError as error:
        raise ModelError(f"{path}: {error}; get a complete copy of the file") from error
    return table


def is_table(path: Path) -> bool:
    """Whether the file ends as such a table does.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(max(file.seek(0, 2) - 8, 0))
        return file.read() == struct.pack("<Q", MAGIC)


def masked_crc(data: bytes) -> int:
    """The CRC-32C as LevelDB and TensorFlow store it: rotated, with a constant added."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number of up to 64 bits at byte ``at``, seven bits to a byte, lowest first; and where it ends.

    Raises:
        CorruptedError: it is longer, or the data end inside it.
    """
    value = 0
    for number, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + number + 1
    raise CorruptedError("holds a number that does not end")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give a readable file") from error


def _index_offset_and_size(data: bytes) -> tuple[int, int]:
    """The place of the index block, from the footer."""
    if len(data) < _FOOTER_SIZE:
        raise CorruptedError(f"truncated: {len(data)} bytes, and the footer alone has {_FOOTER_SIZE}")
    footer = data[-_FOOTER_SIZE:]
    (magic,) = struct.unpack_from("<Q", footer, _FOOTER_SIZE - 8)
    if magic != MAGIC:
        raise CorruptedError(f"ends with {magic:#x}, must end with {MAGIC:#x}: truncated, or no TensorFlow index")
    _, after = _offset_and_size(footer, 0)
    return _offset_and_size(footer, after)[0]


def _offset_and_size(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """The place that is written at byte ``at``, and where that ends."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(path: Path, data: bytes, place: tuple[int, int]) -> bytes:
    """A block without its trailer, once the checksum is right."""
    offset, size = place
    end = offset + size
    if end + _TRAILER.size > len(data) - _FOOTER_SIZE:
        raise CorruptedError(f"the block at byte {offset} does not fit into the {len(data)} bytes")
    compression, crc = _TRAILER.unpack_from(data, end)
    if masked_crc(data[offset : end + 1]) != crc:
        raise CorruptedError(f"the block at byte {offset} fails its checksum")
    if compression != 0:
        kind = _COMPRESSIONS.get(compression, f"kind {compression}")
        raise ModelError(f"{path}: the block at byte {offset} is compressed ({kind}); write the table uncompressed")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block."""
    if len(block) < 4:
        raise CorruptedError(f"a block of {len(block)} bytes is too short")
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 - 4 * restarts
    key, at = b"", 0
    while at < end:
        shared, at = varint(block, at)
        rest, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or at + rest + size > end:
            raise CorruptedError("an entry does not fit into its block")
        key = key[:shared] + block[at : at + rest]
        at += rest + size
        yield key, block[at - size : at]
    if at != end:
        raise CorruptedError("the entries do not fill their block")
