"""MXNet RecordIO, record by record, with the index that says where each begins.

The format stands in :mod:`probface.readers.recordio`.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, TextIO

import numpy as np

from probface.readers.recordio import MAGIC

_HEADER = struct.Struct("<IfQQ")
LONGEST_IMAGE = (1 << 29) - 1 - _HEADER.size
"""Bytes; the length of a record has 29 bits."""


class RecordFile:
    """The records and their index, as they grow.

    Attributes:
        next: the number of the record that comes next.
    """

    def __init__(self, file: BinaryIO, index: TextIO) -> None:
        self._file = file
        self._index = index
        self._offset = 0
        self.next = 0

    def add(self, label: int | tuple[int, int], image: bytes = b"") -> None:
        """Write the next record, with one label or two."""
        record = _record(_content(self.next, label, image))
        self._index.write(f"{self.next}\t{self._offset}\n")
        self._file.write(record)
        self._offset += len(record)
        self.next += 1

    def put_first(self, labels: tuple[int, int]) -> None:
        """Write record 0 again; it must have had two labels before."""
        self._file.seek(0)
        self._file.write(_record(_content(0, labels)))


def _content(number: int, label: int | tuple[int, int], image: bytes = b"") -> bytes:
    if isinstance(label, tuple):
        return _HEADER.pack(len(label), 0, number, 0) + struct.pack("<2f", *label)
    return _HEADER.pack(0, label, number, 0) + image


def _record(content: bytes) -> bytes:
    """Content with its frame; cut into parts where an aligned word is the magic number, which is left out."""
    words = np.frombuffer(content, "<u4", count=len(content) // 4)
    cuts = [4 * int(place) for place in np.flatnonzero(words == MAGIC)]
    if not cuts:
        return _framed(content, 0)
    starts, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(content)]
    kinds = [1, *(2 for _ in cuts[1:]), 3]
    return b"".join(_framed(content[a:b], kind) for a, b, kind in zip(starts, ends, kinds, strict=True))


def _framed(part: bytes, kind: int) -> bytes:
    return struct.pack("<II", MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
