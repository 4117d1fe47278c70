"""Images of one list found in another that spells their paths otherwise.

``lfw-deepfunneled/Anna/Anna_0001.jpg`` in a file of embeddings is ``Anna/Anna_0001`` in the protocol's lists: the
shorter path is the end of the longer one, without the suffix of an image. A match that is not the only one is an error.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.readers.folder import is_image_name

MAX_LENGTH = 4096
"""Characters of a name: no system has longer paths, and the work on one grows with the square."""


class ImageNames:
    """The images of a file, to be found by other spellings of their paths.

    Args:
        names: (N,) as the file spells them.
        where: what to call the file in messages.

    Raises:
        DataError: one image is there twice, or a name is longer than :data:`MAX_LENGTH`.
    """

    def __init__(self, names: Sequence[str], where: str) -> None:
        self._names, self._where = names, where
        self._whole: dict[str, int] = {}
        for row, name in enumerate(names):
            spelling = _plain(name, where)
            if self._whole.setdefault(spelling, row) != row:
                raise DataError(
                    f"{where}: rows {self._whole[spelling]} and {row} are both of image {spelling!r}; each image must "
                    "have one row (embed the largest face only)"
                )
        # Read backwards, what ends alike stands together.
        self._backwards = sorted((spelling[::-1], row) for spelling, row in self._whole.items())

    def rows(self, wanted: Sequence[str], *, allow_missing: bool = False) -> NDArray[np.int64]:
        """The row of each wanted image; -1 for one that is not there, if that is allowed.

        Raises:
            DataError: an image is not there, fits several rows, two of them fit one row, or a name is longer than
                :data:`MAX_LENGTH`.
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
        spelling = _plain(name, "the list")
        if spelling in self._whole:
            return self._whole[spelling]
        fitting = [self._whole[end] for end in _ends(spelling) if end in self._whole] + self._longer(spelling)
        if len(fitting) > 1:
            raise DataError(
                f"image {name!r}: fits several rows of {self._where}; name the images there with more of their paths"
            )
        return fitting[0] if fitting else -1

    def _longer(self, spelling: str) -> list[int]:
        """Rows of which this is the end of the path: of many no more than two."""
        begin = spelling[::-1] + "/"
        first = bisect_left(self._backwards, (begin, -1))
        return [row for longer, row in self._backwards[first : first + 2] if longer.startswith(begin)]


def _plain(name: str, where: str) -> str:
    """A path without the suffix of an image."""
    if len(name) > MAX_LENGTH:
        raise DataError(
            f"{where}: name {name[:32]!r}... of an image has {len(name)} characters, must be at most {MAX_LENGTH}; "
            "name it with less of its path"
        )
    path = PurePosixPath(name)
    return str(path.with_suffix("") if is_image_name(path.name) else path)


def _ends(spelling: str) -> Iterator[str]:
    """Every shorter end of a path: ``a/b/c`` gives ``b/c`` and ``c``."""
    parts = PurePosixPath(spelling).parts
    return ("/".join(parts[start:]) for start in range(1, len(parts)))
