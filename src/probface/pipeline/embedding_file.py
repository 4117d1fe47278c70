"""The file that ``probface embed`` writes: its rows, and how to read them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probface.contract import ModelContract
from probface.errors import DataError
from probface.gallery.exchange_reading import UNREADABLE
from probface.types import Embeddings, FloatArray

OWN_ARRAYS = ("path", "mu", "sigma_sq", "quality", "contract")
"""What every file has; further arrays with a row for each face are columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A further number, or array of numbers, for each face.

    Attributes:
        name: of the array in the file.
        dtype: as numpy writes it, ``<f4``.
        each: shape of what one face has; empty for a plain number.
    """

    name: str
    dtype: str
    each: tuple[int, ...] = ()

    def shape(self, rows: int) -> tuple[int, ...]:
        """Of the array."""
        return (rows, *self.each)


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image without a row: its name, the kind of error, and the error's one line."""

    path: str
    kind: str
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingRows:
    """N faces as the file keeps them.

    Attributes:
        path: name of the image of each row.
        mu, sigma_sq: as in :class:`probface.types.Embeddings`.
        quality: (N,) int64 in 0..100; -1 where the model has no quality scale.
        columns: name -> (N,) or (N, ...) array: what else is known of the faces.
    """

    path: tuple[str, ...]
    mu: FloatArray
    sigma_sq: FloatArray
    quality: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.path)

    @classmethod
    def concatenate(
        cls, rows: Sequence[EmbeddingRows], dim: int, width: int, columns: Sequence[Column] = ()
    ) -> EmbeddingRows:
        """Stack rows; none at all give an empty table of the given widths and columns."""
        mu = [np.empty((0, dim), np.float32), *(part.mu for part in rows)]
        sigma_sq = [np.empty((0, width), np.float32), *(part.sigma_sq for part in rows)]
        grades = [np.empty(0, np.int64), *(part.quality for part in rows)]
        return cls(
            tuple(name for part in rows for name in part.path),
            np.concatenate(mu),
            np.concatenate(sigma_sq),
            np.concatenate(grades),
            {
                column.name: np.concatenate(
                    [np.empty(column.shape(0), column.dtype), *(part.columns[column.name] for part in rows)]
                )
                for column in columns
            },
        )


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingFile:
    """What was read from a finished file."""

    rows: EmbeddingRows
    contract: ModelContract

    @property
    def embeddings(self) -> Embeddings:
        """The Gaussians alone, checked."""
        return Embeddings(self.rows.mu, self.rows.sigma_sq)


def read_embeddings(path: str | os.PathLike[str]) -> EmbeddingFile:
    """Read an ``.npz`` that :func:`probface.embed` wrote (no pickle is ever loaded).

    Raises:
        DataError: not such a file.
    """
    try:
        with npz_arrays(path) as arrays:
            rows = rows_of(arrays, [name for name in arrays if name not in OWN_ARRAYS])
            return EmbeddingFile(rows, ModelContract.from_json(str(arrays["contract"])))
    except UNREADABLE as error:
        raise DataError(
            f"embeddings {os.fspath(path)}: not readable ({error}); write it with probface embed"
        ) from error


def rows_of(arrays: Mapping[str, NDArray[Any]], columns: Sequence[str]) -> EmbeddingRows:
    """The rows in the arrays of a file, with some of its columns."""
    return EmbeddingRows(
        tuple(arrays["path"].tolist()),
        arrays["mu"],
        arrays["sigma_sq"],
        arrays["quality"].astype(np.int64),
        {name: arrays[name] for name in columns},
    )


@contextmanager
def npz_arrays(path: str | os.PathLike[str]) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays of an ``.npz`` file, each read when it is asked for, and never as Python objects."""
    # Opened here, because np.load leaves a damaged file open when it is given a path.
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        yield arrays
