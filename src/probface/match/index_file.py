"""One file of arrays that is mapped from disk: the derived index of a gallery, or any other search index.

    bytes 0 - 7     the letters PFINDEX and the version
    bytes 8 - 15    length of the header, little-endian
    header          JSON: {"arrays": {name: [dtype, shape, offset]}, ...}, spaces up to a multiple of 4096
    arrays          each at a multiple of 4096, little-endian

The file is derived: whatever is wrong with it, deleting it loses nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.storage import replacing, storage_errors

MAGIC = b"PFINDEX1"
PAGE = 4096
_WRITE_BYTES = 1 << 26


def write(path: Path, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Write arrays and a header whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    table: dict[str, Any] = {name: [values.dtype.str, list(values.shape), 0] for name, values in arrays.items()}
    room = _pages(len(json.dumps({**header, "arrays": table})) + 24 * len(table) + 16)
    offset = room
    for name, values in arrays.items():
        table[name][2] = offset
        offset += _pages(values.nbytes)
    text = json.dumps({**header, "arrays": table}).encode().ljust(room - 16)
    with replacing(path, "free space, or choose another place") as temporary, temporary.open("wb") as file:
        file.write(MAGIC + len(text).to_bytes(8, "little") + text)
        for name, values in arrays.items():
            file.seek(table[name][2])
            rows = max(1, _WRITE_BYTES // max(1, values[:1].nbytes))
            for start in range(0, len(values), rows):
                file.write(np.ascontiguousarray(values[start : start + rows]).data)
        file.truncate(offset)


def read(path: Path, *, writable_copies: Collection[str] = ()) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Map the arrays of a file, for reading.

    Args:
        path: the file.
        writable_copies: names of arrays that may be changed in memory; the file is not.

    Raises:
        DataError: not such a file, one of another version, or cut off.
    """
    table, header = _header(path)
    arrays = {
        name: _mapped(path, dtype, tuple(shape), offset, "c" if name in writable_copies else "r")
        for name, (dtype, shape, offset) in table.items()
    }
    return arrays, header


def erase_rows(path: Path, rows: NDArray[np.int64], *, extra: Mapping[str, int] | None = None) -> None:
    """Overwrite everything that the file knows of some rows, in place, and see it through to the disk.

    Args:
        path: a file that :meth:`probface.match.exact.SearchIndex.save` wrote.
        rows: which.
        extra: arrays beside the index -> what to put into these rows.

    Raises:
        DataError: not such a file.
        StorageError: it cannot be written.
    """
    table, _ = _header(path)

    def changeable(name: str) -> NDArray[Any]:
        dtype, shape, offset = table[name]
        return _mapped(path, dtype, tuple(shape), offset, "r+")

    with storage_errors(path, "make it writable"):
        order, sigma_sq, codes = changeable("order"), changeable("sigma_sq"), changeable("codes")
        positions = np.flatnonzero(np.isin(order, rows))
        changed = [order, sigma_sq, codes]
        if len(codes):
            codes[positions // codes.shape[2], :, positions % codes.shape[2]] = 128
        order[positions], sigma_sq[positions] = -1, 1
        for name, value in {
            "mu": 0,
            "variances": 1,
            **{"extra." + key: value for key, value in (extra or {}).items()},
        }.items():
            values = changeable(name)
            values[rows] = value
            changed.append(values)
        for values in changed:
            base = values.base
            if isinstance(base, np.memmap):
                base.flush()


def _header(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Where each array is, and the rest of the header."""
    mend = "delete it, so that it is made anew"
    try:
        with path.open("rb") as file:
            start = file.read(16)
            if start[:8] != MAGIC:
                raise DataError(f"{path}: no search index of this version of ProbFace; {mend}")
            header = json.loads(file.read(int.from_bytes(start[8:], "little")))
        table = header.pop("arrays")
        end = max(offset + np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape, offset in table.values())
        size = path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: not readable as a search index ({error}); {mend}") from error
    if end > size:
        raise DataError(f"{path}: a search index that is cut off after {size} of {end} bytes; {mend}")
    return table, header


def _mapped(path: Path, dtype: str, shape: tuple[int, ...], offset: int, mode: Any) -> NDArray[Any]:
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    mapped: NDArray[Any] = np.asarray(np.memmap(path, np.dtype(dtype), mode, offset, shape))
    return mapped


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE
