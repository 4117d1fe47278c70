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
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue
from probface.storage import replacing, storage_errors
from probface.types import Embeddings, FloatArray

MAGIC = b"PFINDEX1"
PAGE = 4096
KINDS = "iufb"
"""Of arrays: numbers. What a file calls an object would be read as an address in memory."""
MOST_DIMENSIONS = 4
_MEND = "delete it, so that it is made anew"
_WRITE_BYTES = 1 << 26


def write(path: Path, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Write arrays and a header whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    table: dict[str, Any] = {name: [values.dtype.str, list(values.shape), 0] for name, values in arrays.items()}
    odd = [name for name, values in arrays.items() if values.dtype.kind not in KINDS or values.ndim == 0]
    if odd:
        raise InvalidValue(f"array {odd[0]!r} of {arrays[odd[0]].dtype}: must be rows of numbers; save texts elsewhere")
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
    with _opened(path, "rb") as file:  # once: another process may put a new file into its place at any time
        table, header = _header(path, file)
        arrays = {
            name: _mapped(file, dtype, tuple(shape), offset, "c" if name in writable_copies else "r")
            for name, (dtype, shape, offset) in table.items()
        }
    return arrays, header


def is_ours(path: Path) -> bool:
    """Whether a file begins as an index of any version does."""
    with path.open("rb") as file:
        return file.read(7) == MAGIC[:7]


def erase_rows(path: Path, rows: NDArray[np.int64], *, extra: Mapping[str, int] | None = None) -> None:
    """Overwrite everything that the file knows of some rows, in place, and see it through to the disk.

    Of a row whose tile lives on, the tile's scale and bounds, which are largest values over 64 rows, stay as they are.

    Args:
        path: a file that :meth:`probface.match.exact.SearchIndex.save` wrote.
        rows: which.
        extra: arrays beside the index -> what to put into these rows.

    Raises:
        DataError: not such a file.
        InvalidValue: a row that is not there; nothing is erased then.
        StorageError: it cannot be written.
    """
    with storage_errors(path, "make it writable"), _opened(path, "r+b") as file:
        arrays = {
            name: _mapped(file, dtype, tuple(shape), offset, "r+")
            for name, (dtype, shape, offset) in _header(path, file)[0].items()
        }
        if not {"order", "sigma_sq", "codes", "mu", "variances", "bucket_first"} <= arrays.keys():
            raise DataError(f"{path}: not a search index, or a damaged one; {_MEND}")
        order, sigma_sq, codes = arrays["order"], arrays["sigma_sq"], arrays["codes"]
        outside = rows[(rows < 0) | (rows >= len(order))]
        if len(outside) or codes.ndim != MOST_DIMENSIONS:
            raise InvalidValue(f"{path}: row {outside[:1]}: must be in 0 .. {len(order) - 1}; nothing was erased")
        positions = np.flatnonzero(np.isin(order, rows))
        order[positions], sigma_sq[positions] = -1, 1
        tile = codes.shape[2]
        if len(codes):
            codes[positions // tile, :, positions % tile] = 128
        for number in np.unique(positions // tile):
            if (order[number * tile : (number + 1) * tile] < 0).all():
                for name in ("tile_norm", "tile_scale", "tile_residual"):
                    arrays[name][number] = 1
        first = arrays["bucket_first"]
        for bucket in np.unique(np.searchsorted(first, positions, side="right") - 1):
            own = slice(first[bucket], first[bucket + 1])
            left = sigma_sq[own][order[own] >= 0]
            arrays["bucket_low"][bucket] = left.min() if len(left) else 1
            arrays["bucket_high"][bucket] = left.max() if len(left) else 1
        values = {"mu": 0, "variances": 1, **{"extra." + key: value for key, value in (extra or {}).items()}}
        for name, value in values.items():
            arrays[name][rows] = value
        for array in arrays.values():
            if isinstance(array.base, np.memmap):
                array.base.flush()


def _opened(path: Path, mode: Literal["rb", "r+b"]) -> BinaryIO:
    try:
        return path.open(mode)
    except OSError as error:
        if mode == "r+b" and not isinstance(error, FileNotFoundError | IsADirectoryError):
            raise
        raise DataError(f"{path}: not readable as a search index ({error}); {_MEND}") from error


def _header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]]:
    """Where each array is, and the rest of the header."""
    try:
        start = file.read(16)
        if start[:8] != MAGIC:
            raise DataError(f"{path}: no search index of this version of ProbFace; {_MEND}")
        size = os.fstat(file.fileno()).st_size
        header = json.loads(file.read(min(size, int.from_bytes(start[8:], "little"))))
        table = header.pop("arrays")
        placed = all(_sound(*entry) for entry in table.values())
        end = max(offset + np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape, offset in table.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: not readable as a search index ({error}); {_MEND}") from error
    if not placed:
        raise DataError(f"{path}: a search index whose header is damaged; {_MEND}")
    if end > size:
        raise DataError(f"{path}: a search index that is cut off after {size} of {end} bytes; {_MEND}")
    return table, header


def _sound(dtype: Any, shape: Any, offset: Any) -> bool:
    """Whether an array may be so described."""
    whole = [*shape, offset]
    return (
        np.dtype(dtype).kind in KINDS
        and 1 <= len(shape) <= MOST_DIMENSIONS
        and all(type(number) is int and 0 <= number < 1 << 48 for number in whole)
        and offset % PAGE == 0
    )


def _mapped(file: BinaryIO, dtype: str, shape: tuple[int, ...], offset: int, mode: Any) -> NDArray[Any]:
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    mapped: NDArray[Any] = np.asarray(np.memmap(file, np.dtype(dtype), mode, offset, shape))
    return mapped


def unchecked(mu: FloatArray, sigma_sq: FloatArray) -> Embeddings:
    """Embeddings that were checked when they were made, or are erased: reading a mapped file takes seconds."""
    embeddings = object.__new__(Embeddings)
    object.__setattr__(embeddings, "mu", mu)
    object.__setattr__(embeddings, "sigma_sq", sigma_sq)
    return embeddings


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE
