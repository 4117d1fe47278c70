"""Aligned faces on disk, one array for each part of a run, so that a page of a report can show any of them later."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from probface.errors import DataError
from probface.gallery.exchange_reading import UNREADABLE
from probface.storage import replacing, storage_errors
from probface.types import Image


@dataclass(frozen=True, slots=True)
class CropFiles:
    """``part-000000.npy`` and so on in a folder, each (n, height, width, 3) uint8, written whole or not at all."""

    folder: Path

    def write(self, part: int, crops: Image) -> None:
        """Write the faces of one part; raises StorageError."""
        with replacing(self._path(part)) as temporary, temporary.open("wb") as file:
            np.save(file, crops)

    def has(self, part: int) -> bool:
        """Whether the faces of a part are there, and whole."""
        try:
            self._open(part)
        except DataError:
            return False
        return True

    def clear(self) -> None:
        """Remove the faces of earlier runs; raises StorageError."""
        if self.folder.exists():
            with storage_errors(self.folder):
                shutil.rmtree(self.folder)

    def keep(self, parts: int) -> None:
        """Remove all but the first ``parts``, such as what a killed run left; raises StorageError."""
        kept = {self._path(part) for part in range(parts)}
        with storage_errors(self.folder):
            for path in [path for path in self.folder.iterdir() if path not in kept]:
                path.unlink()

    def open(self, rows: int) -> CropRows:
        """All faces, mapped from disk.

        Raises:
            DataError: they are damaged, or not as many as ``rows``.
        """
        parts = tuple(self._open(part) for part in range(len(list(self.folder.glob("part-*.npy")))))
        ends = np.cumsum([len(part) for part in parts])
        found = int(ends[-1]) if len(ends) else 0
        if found != rows:
            raise DataError(f"{self.folder}: {found} faces for {rows} embeddings; export the faces again")
        return CropRows(parts, ends)

    def _open(self, part: int) -> Image:
        path = self._path(part)
        try:
            crops = open_memmap(path, mode="r")
        except UNREADABLE as error:
            raise DataError(f"{path}: cannot be read ({error}); export the faces again") from error
        if crops.ndim != 4 or crops.dtype != np.uint8:
            raise DataError(f"{path}: {crops.dtype} of shape {crops.shape}, must be faces; export the faces again")
        return np.asarray(crops)

    def _path(self, part: int) -> Path:
        return self.folder / f"part-{part:06d}.npy"


@dataclass(frozen=True, slots=True, eq=False)
class CropRows:
    """The faces of all parts, one after the other.

    Attributes:
        parts: (n, height, width, 3) uint8 each.
        ends: number of the face after the last one of each part.
    """

    parts: tuple[Image, ...]
    ends: np.ndarray[tuple[int], np.dtype[np.int64]]

    def __getitem__(self, row: int) -> Image:
        """A copy of one face, RGB uint8 (height, width, 3)."""
        part = int(np.searchsorted(self.ends, row, side="right"))
        return np.array(self.parts[part][row - int(self.ends[part])])
