"""Large arrays on disk that are filled bit by bit, survive a kill, and never meet a full disk half-way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from probface.storage import replacing, storage_errors, write_bytes

FULL_DISK = "free space, or choose another cache folder (PROBFACE_CACHE, or the cache argument)"


class ResumableArray:
    """A memory-mapped ``.npy`` whose first ``done`` rows are finished.

    Space is reserved when the file is made, so a full disk is an error then and not a crash of the mapping later.
    ``done`` is kept in a small file beside it, moved forward only after the rows themselves are on disk.

    Args:
        path: of the ``.npy``.
        shape: of the whole array; the first axis is the one that fills up.
        dtype: of its values.

    Raises:
        StorageError: the folder cannot be written, or the disk has not enough space.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._path, self._progress = path, path.with_suffix(".json")
        if not self._fits(shape, np.dtype(dtype)):
            self._create(shape, np.dtype(dtype))
        with storage_errors(path, FULL_DISK):
            self.values: NDArray[Any] = np.load(path, mmap_mode="r+", allow_pickle=False)
        self.done: int = self._state()["done"]

    @property
    def complete(self) -> bool:
        """Whether every row is finished."""
        return self.done == len(self.values)

    def append(self, rows: NDArray[Any]) -> None:
        """Finish the next rows, and make sure that they stay."""
        self.values[self.done : self.done + len(rows)] = rows
        assert isinstance(self.values, np.memmap)  # noqa: S101  what np.load with mmap_mode gives
        with storage_errors(self._path, FULL_DISK):
            self.values.flush()
        self.done += len(rows)
        self._record()

    def _fits(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Whether a whole array of this kind is there, with its progress."""
        try:
            there = np.load(self._path, mmap_mode="r", allow_pickle=False)
            return (there.shape, there.dtype) == (shape, dtype) and self._state()["shape"] == list(shape)
        except (OSError, EOFError, ValueError):  # not there, cut short, or no array
            return False

    def _create(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        with replacing(self._path, FULL_DISK) as temporary, temporary.open("wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            _reserve(file.fileno(), file.tell(), int(np.prod(shape)) * dtype.itemsize)
            # Before the new array is in place: a kill between the two must not count rows of an older one as done.
            self._progress.unlink(missing_ok=True)
        write_bytes(self._progress, json.dumps({"done": 0, "shape": shape}).encode())

    def _record(self) -> None:
        write_bytes(self._progress, json.dumps({"done": self.done, "shape": self.values.shape}).encode())

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self._progress.read_text(encoding="utf-8"))
        return state


def _reserve(descriptor: int, start: int, size: int) -> None:
    """Make the file ``start + size`` bytes long, its blocks really there where the system can promise that."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, max(1, size))
        return
    block = bytes(1 << 20)
    while size > 0:
        size -= os.write(descriptor, block[:size])
