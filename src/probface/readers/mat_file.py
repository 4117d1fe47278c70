"""Numbers and texts from MATLAB files of version 5, the form of protocol lists; nothing else in them is looked at.

Reads numeric arrays, texts, and cells of these, compressed or not. scipy reads far more, and a hostile file can bring
its process down: cells nested thousands deep overflow the stack. Here nesting ends at one cell, and size at a limit.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError

LARGEST_BYTES = 64 << 20
"""Of the file, and of all that it decompresses to."""
MOST_PARTS = 1 << 18
"""Of one cell."""
MOST_DIMENSIONS = 32
"""Of an array; the time to multiply their sizes grows with the square of their number."""

Value: TypeAlias = NDArray[np.number] | str
"""A numeric array as a row, in MATLAB's order, or a text."""

_HEADER, _COMPRESSED, _MATRIX = 128, 15, 14
_CELL, _CHAR, _NUMERIC = 1, 4, range(6, 16)
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}


@dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    data: memoryview


def read_mat(path: Path) -> dict[str, Value | tuple[Value, ...]]:
    """Read the numeric arrays, texts and cells of a file; variables of other kinds are left out.

    Returns:
        name -> a row of numbers, a text, or, for a cell, a tuple of these.

    Raises:
        DataError: not such a file, a damaged one, or one beyond 64 MiB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a readable .mat file") from error
    try:
        return _Reader(content).variables()
    except (ValueError, struct.error, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no sound MATLAB 5 file ({error}); get the file again from its source") from error


class _Reader:
    def __init__(self, content: bytes) -> None:
        if len(content) > LARGEST_BYTES:
            raise ValueError(f"larger than {LARGEST_BYTES >> 20} MiB")
        mark = content[126:128]
        if mark not in (b"IM", b"MI"):
            raise ValueError("its header has no mark of byte order")
        self._order: Literal["<", ">"] = "<" if mark == b"IM" else ">"
        (version,) = struct.unpack(f"{self._order}H", content[124:126])
        if version != 0x0100:
            raise ValueError(f"version {version:#06x}, must be 0x0100; save it with -v7, not -v7.3")
        self._content = memoryview(content)
        self._left = LARGEST_BYTES

    def variables(self) -> dict[str, Value | tuple[Value, ...]]:
        found: dict[str, Value | tuple[Value, ...]] = {}
        for element in self._elements(self._content[_HEADER:]):
            if element.kind == _COMPRESSED:
                inner = list(islice(self._elements(self._decompress(element.data)), 2))
                if len(inner) != 1:
                    raise ValueError(f"{len(inner)} elements in one compressed, must be one")
                (element,) = inner
            if element.kind != _MATRIX:
                raise ValueError(f"an element of kind {element.kind} where a variable must be")
            name, value = self._variable(element.data)
            if value is not None:
                found[name] = value
        return found

    def _variable(self, data: memoryview) -> tuple[str, Value | tuple[Value, ...] | None]:
        kind, count, name, parts = self._matrix(data)
        if kind != _CELL:
            return name, self._value(kind, count, parts)
        if any(part.kind != _MATRIX for part in parts) or len(parts) != count:
            raise ValueError(f"cell {name!r} has {len(parts)} parts, must be {count} arrays")
        values = []
        for part in parts:
            inner, inner_count, _, inner_parts = self._matrix(part.data)
            value = self._value(inner, inner_count, inner_parts)
            if value is None:
                raise ValueError(f"cell {name!r} holds something else than numbers and texts")
            values.append(value)
        return name, tuple(values)

    def _matrix(self, data: memoryview) -> tuple[int, int, str, list[_Element]]:
        """Class, number of elements, name, and the elements that follow these."""
        elements = list(islice(self._elements(data), MOST_PARTS + 4))
        if len(elements) > MOST_PARTS + 3:
            raise ValueError(f"an array of more than {MOST_PARTS} parts")
        if len(elements) < 3:
            raise ValueError("an array without flags, dimensions and name")
        flags, dimensions, name, *parts = elements
        if flags.kind != 6 or len(flags.data) != 8 or dimensions.kind != 5 or name.kind != 1:
            raise ValueError("an array whose flags, dimensions and name are of other kinds")
        if len(dimensions.data) > 4 * MOST_DIMENSIONS:
            raise ValueError(f"an array of {len(dimensions.data) // 4} dimensions, must be at most {MOST_DIMENSIONS}")
        sizes = [int(size) for size in self._numbers(dimensions)]
        if min(sizes, default=0) < 0:
            raise ValueError(f"an array of size {sizes}")
        (word,) = struct.unpack(f"{self._order}I", flags.data[:4])
        return word & 0xFF, math.prod(sizes), bytes(name.data).decode("latin-1"), parts

    def _value(self, kind: int, count: int, parts: list[_Element]) -> Value | None:
        if kind not in (_CHAR, *_NUMERIC):
            return None
        if not parts:
            raise ValueError("an array without data")
        if kind == _CHAR:
            return self._text(parts[0])
        numbers = self._numbers(parts[0])
        if len(numbers) != count:
            raise ValueError(f"{len(numbers)} numbers in an array of {count}")
        return numbers

    def _text(self, element: _Element) -> str:
        if element.kind not in _TEXTS:
            raise ValueError(f"a text of kind {element.kind}")
        encoding = _TEXTS[element.kind]
        if encoding == "utf-16":
            encoding = "utf-16-le" if self._order == "<" else "utf-16-be"
        return bytes(element.data).decode(encoding)

    def _numbers(self, element: _Element) -> NDArray[np.number]:
        if element.kind not in _TYPES:
            raise ValueError(f"numbers of kind {element.kind}")
        return np.frombuffer(element.data, np.dtype(_TYPES[element.kind]).newbyteorder(self._order))

    def _elements(self, data: memoryview) -> Iterator[_Element]:
        """Split at the tags: (kind, size) of 4 bytes each, or of 2 each with up to 4 bytes of data behind."""
        place = 0
        while place < len(data):
            if len(data) - place < 8:
                raise ValueError("it ends within a tag")
            kind, size = struct.unpack_from(f"{self._order}II", data, place)
            start, step = place + 8, 8 + size
            if kind >> 16:
                kind, size = kind & 0xFFFF, kind >> 16
                start, step = place + 4, 8
                if size > 4:
                    raise ValueError(f"a short element of {size} bytes")
            elif kind != _COMPRESSED:
                step += -size % 8
            if start + size > len(data):
                raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
            yield _Element(kind, data[start : start + size])
            place += step

    def _decompress(self, data: memoryview) -> memoryview:
        stream = zlib.decompressobj()
        plain = stream.decompress(data, self._left + 1)
        if len(plain) > self._left:
            raise ValueError(f"it decompresses to more than {LARGEST_BYTES >> 20} MiB")
        if not stream.eof:
            raise ValueError("compressed data that end too early")
        self._left -= len(plain)
        return memoryview(plain)
