"""Images of one list found in another that spells their paths otherwise.

``lfw-deepfunneled/Anna/Anna_0001.jpg`` in a file of embeddings is ``Anna/Anna_0001`` in the protocol's lists: the
shorter path is the end of the longer one, without the suffix of an image. A match that is not the only one is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.readers.folder import is_image_name

_SEVERAL = -1


class ImageNames:
    """The images of a file, to be found by other spellings of their paths.

    Args:
        names: (N,) as the file spells them.
        where: what to call the file in messages.

    Raises:
        DataError: one image is there twice.
    """

    def __init__(self, names: Sequence[str], where: str) -> None:
        self._names, self._where = names, where
        self._whole: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        for row, name in enumerate(names):
            spelling = _plain(name)
            if self._whole.setdefault(spelling, row) != row:
                raise DataError(
                    f"{where}: rows {self._whole[spelling]} and {row} are both of image {spelling!r}; each image must "
                    "have one row (embed the largest face only)"
                )
            for end in _ends(spelling):
                self._ends[end] = row if end not in self._ends else _SEVERAL

    def rows(self, wanted: Sequence[str], *, allow_missing: bool = False) -> NDArray[np.int64]:
        """The row of each wanted image; -1 for one that is not there, if that is allowed.

        Raises:
            DataError: an image is not there, fits several rows, or two of them fit one row.
        """
        rows = np.array([self._row(name) for name in wanted], np.int64)
        missing = np.flatnonzero(rows < 0)
        if len(missing) and not allow_missing:
            example = f", where names look like {self._names[0]!r}" if len(self._names) else ""
            raise DataError(
                f"image {wanted[missing[0]]!r}: not in {self._where}{example} ({len(missing)} such images); add it, or "
                "leave what is missing out"
            )
        used: dict[int, str] = {}
        for row, name in zip(rows.tolist(), wanted, strict=True):
            if row >= 0 and used.setdefault(row, name) != name:
                raise DataError(
                    f"{self._where}: {self._names[row]!r} fits both images {used[row]!r} and {name!r}; name it with "
                    "more of its path"
                )
        return rows

    def _row(self, name: str) -> int:
        spelling = _plain(name)
        if spelling in self._whole:
            return self._whole[spelling]
        longer = self._ends.get(spelling)
        shorter = [self._whole[end] for end in _ends(spelling) if end in self._whole]
        if longer == _SEVERAL or len(shorter) + (longer is not None) > 1:
            raise DataError(
                f"image {name!r}: fits several rows of {self._where}; name the images there with more of their paths"
            )
        if longer is not None:
            return longer
        return shorter[0] if shorter else -1


def _plain(name: str) -> str:
    """A path without the suffix of an image."""
    path = PurePosixPath(name)
    return str(path.with_suffix("") if is_image_name(path.name) else path)


def _ends(spelling: str) -> list[str]:
    """Every shorter end of a path: ``a/b/c`` gives ``b/c`` and ``c``."""
    parts = PurePosixPath(spelling).parts
    return ["/".join(parts[start:]) for start in range(1, len(parts))]
