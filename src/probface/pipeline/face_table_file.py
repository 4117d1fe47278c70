"""Ready embeddings as a table of faces: what ``probface embed`` wrote, or any ``.npz``; measures from a CSV file."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probface.contract import ModelContract
from probface.errors import DataError, InvalidValue
from probface.eval.face_table import FaceTable
from probface.gallery.exchange_reading import ALIASES, UNREADABLE, ExchangeTable, read_table
from probface.pipeline.embedding_file import npz_arrays
from probface.pipeline.exported_faces import MEASURES, MIRROR
from probface.pipeline.image_names import ImageNames
from probface.readers.csv_columns import csv_rows
from probface.types import Embeddings, FloatArray

_KNOWN = frozenset(name for names in ALIASES.values() for name in names)


@dataclass(frozen=True, slots=True, eq=False)
class ReadyFaces:
    """What a file of embeddings holds.

    Attributes:
        table: the faces.
        contract: of the model, where ``probface embed`` or an export wrote the file; None where it does not tell.
        uncertain: whether there are variances, the file's or a declared one; without them only cosine can judge.
    """

    table: FaceTable
    contract: ModelContract | None
    uncertain: bool


def read_ready_faces(
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    sigma_sq: float | None = None,
    measures: str | os.PathLike[str] | None = None,
    allow_missing: bool = False,
) -> ReadyFaces:
    """Read embeddings that are there already, and what their file says of the model.

    Args:
        path: an ``.npz`` or ``.parquet`` file with ``path`` and ``mu`` (rows that are not of unit length are scaled),
            perhaps ``sigma_sq``, and in ``.npz`` further (N,) arrays of numbers: each is a quality measure, larger is
            better, by its name in the file (``norm``, ``sharpness`` and ``detector_score`` by those of
            :mod:`probface.eval.face_table`).
        names: the protocol's names; the table has these rows in this order. An image is found by its path without the
            suffix, the shorter spelling being the end of the longer one. The file's own names if not given.
        sigma_sq: the variance of every face, above 0, where the file has none; a file that has some keeps them.
        measures: a CSV file, ``path`` and one column for each further measure, found by name in the same way.
        allow_missing: leave out names that the file does not have, instead of an error.

    Raises:
        DataError: not such a file, a name that is not there or fits several rows, a measure without a value.
        InvalidValue: ``sigma_sq`` is not above 0; a measure is not finite.
        MissingExtra: ``.parquet`` without pyarrow.
    """
    read = read_table(path)
    if read.paths is None:
        raise DataError(f"{read.file}: no array 'path' (or 'filenames'); faces are found by the paths of their images")
    rows = np.arange(len(read))
    if names is not None:
        rows = ImageNames(read.paths, str(read.file)).rows(names, allow_missing=allow_missing)
        names = [name for name, row in zip(names, rows, strict=True) if row >= 0]
        rows = rows[rows >= 0]
    found = {name: values[rows] for name, values in _measures(read).items()}
    table = FaceTable(
        tuple(read.paths if names is None else names), _embeddings(read, sigma_sq)[rows], dict(sorted(found.items()))
    )
    uncertain = read.sigma_sq is not None or sigma_sq is not None
    return ReadyFaces(table if measures is None else with_measures(table, measures), read.contract, uncertain)


def with_measures(table: FaceTable, path: str | os.PathLike[str]) -> FaceTable:
    """The table with further quality measures from a CSV file: ``path`` and a column for each, larger is better.

    Raises:
        DataError: not such a file, a face of the table is not in it or fits several lines, a field without a number,
            or a measure that the table has already.
    """
    file = Path(path)
    columns = _header(file)
    twice = sorted(set(columns) & set(table.measures))
    if twice:
        raise DataError(f"{file}: measure {twice[0]!r} is in the embeddings' file, too; rename the column")
    lines = list(csv_rows(file, ["path", *columns]))
    rows = ImageNames([line.fields[0].strip() for line in lines], str(file)).rows(table.names)
    values = np.empty((len(rows), len(columns)))
    for place, row in enumerate(rows.tolist()):
        for number, name in enumerate(columns):
            values[place, number] = lines[row].number(number + 1)
            if np.isnan(values[place, number]):
                raise DataError(f"{lines[row].where}: no {name}; fill it in, or leave the column out")
    return dataclasses.replace(table, measures={**table.measures, **dict(zip(columns, values.T, strict=True))})


def _embeddings(read: ExchangeTable, sigma_sq: float | None) -> Embeddings:
    if read.sigma_sq is not None:
        return Embeddings(read.mu, read.sigma_sq)
    if sigma_sq is not None and not 0 < sigma_sq < np.inf:
        raise InvalidValue(f"sigma_sq {sigma_sq:g}: must be above 0 and finite")
    constant: FloatArray = np.full((len(read), 1), 1.0 if sigma_sq is None else sigma_sq, np.float32)
    return Embeddings(read.mu, constant)


def _measures(read: ExchangeTable) -> dict[str, NDArray[np.float64]]:
    """The further columns of the file; quality is one where it does not follow from the variance."""
    found = {} if read.file.suffix != ".npz" else _further(read.file, len(read))
    if read.quality is not None and read.contract is None:
        found["quality"] = read.quality.astype(np.float64)
    return found


def _further(file: Path, rows: int) -> dict[str, NDArray[np.float64]]:
    try:
        with npz_arrays(file) as arrays:
            further: dict[str, NDArray[Any]] = {
                name: arrays[name] for name in arrays if name not in _KNOWN and not name.startswith(MIRROR)
            }
    except UNREADABLE as error:
        raise DataError(f"{file}: cannot be read ({error}); save numbers as float32, with np.savez") from error
    return {
        MEASURES.get(name, name): values.astype(np.float64)
        for name, values in further.items()
        if values.shape == (rows,) and values.dtype.kind in "fiu"
    }


def _header(file: Path) -> list[str]:
    """The names of the measures, in the order of the columns."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            names = [name.strip() for name in next(csv.reader(lines, strict=True), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as CSV in UTF-8 ({error}); write it as path,column...") from error
    columns = [name for name in names if name != "path"]
    if "path" not in names or not columns or len(set(names)) != len(names):
        raise DataError(f"{file}, line 1: must name the column 'path' and one or more measures, each once")
    return columns
