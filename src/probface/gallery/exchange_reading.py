"""Files of embeddings from anywhere, read with distrust: no pickle, every shape and number checked, one line if wrong.

Three kinds, told apart by what is in them: a gallery's export (``gallery``), what ``probface embed`` wrote
(``contract``), and a bare table, such as another system's gallery: names and vectors, perhaps variances.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probface.contract import ModelContract
from probface.errors import DataError, InvalidValue, ModelError
from probface.gallery.exchange import FORMAT, PARQUET_KEY, check_suffix, pyarrow
from probface.gallery.records import GallerySettings, check_name
from probface.schema import from_plain
from probface.types import FloatArray

ALIASES: dict[str, tuple[str, ...]] = {
    "mu": ("mu", "embeddings", "embedding", "features"),
    "name": ("name", "names", "labels", "label"),
    "sigma_sq": ("sigma_sq",),
    "quality": ("quality",),
    "path": ("path", "paths", "filename", "filenames"),
    "source": ("source",),
    "source_digest": ("source_digest",),
    "enrolled": ("enrolled",),
    "gallery": ("gallery",),
    "contract": ("contract",),
}
"""What an array is -> the names that it may have, the first that is there counts."""

ROUNDING = 1e-6
"""A row whose length is nearer to 1 is left as it is: float32 cannot tell."""
BLOCK_ROWS = 65536
"""Rows to be measured at once, in float64."""

_DIGEST = re.compile(r"[0-9a-f]{64}")

UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, IndexError, RuntimeError, MemoryError, OverflowError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tokenize.TokenError, SyntaxError),
)
"""What numpy, zipfile and pyarrow raise on damaged files."""


@dataclass(frozen=True, slots=True, eq=False)
class ExchangeTable:
    """N references as a file gave them, checked; what the file does not have is None.

    Attributes:
        file: where they came from.
        mu: (N, D) float32, unit length, N of 1 or more.
        normalised: how many rows were scaled to unit length.
        sigma_sq: (N, 1) or (N, D) float32, not checked further than its shape.
        names: of the identity of each row.
        paths: of the images, where ``probface embed`` wrote the file.
        quality: (N,) int64, -1 where it is not known.
        sources, source_digests: as in :class:`probface.gallery.records.NewReferences`.
        enrolled: when each was enrolled, UTC.
        settings: of the gallery, where the file is an export.
        contract: of the model, where ``probface embed`` wrote the file.
    """

    file: Path
    mu: FloatArray
    normalised: int
    sigma_sq: FloatArray | None
    names: tuple[str, ...] | None
    paths: tuple[str, ...] | None
    quality: NDArray[np.int64] | None
    sources: tuple[str, ...] | None
    source_digests: tuple[str, ...] | None
    enrolled: tuple[datetime, ...] | None
    settings: GallerySettings | None
    contract: ModelContract | None

    def __len__(self) -> int:
        return len(self.mu)


def read_table(path: str | os.PathLike[str]) -> ExchangeTable:
    """Read an ``.npz`` or ``.parquet`` file; the rows of a bare table are scaled to unit length.

    Raises:
        InvalidValue: another suffix.
        DataError: damaged, arrays that are missing, of Python objects or of the wrong shape, a row without direction.
        MissingExtra: ``.parquet`` without pyarrow.
    """
    file = check_suffix(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file; check the path")
    arrays = _read_npz(file) if file.suffix == ".npz" else _read_parquet(file)
    if "mu" not in arrays:
        raise DataError(f"{file}: no embeddings in it; they must be an array named {' or '.join(ALIASES['mu'])}")
    settings = None if "gallery" not in arrays else _settings(file, str(arrays["gallery"]))
    contract = None if "contract" not in arrays else _contract(file, str(arrays["contract"]))
    mu, lengths = _vectors(file, arrays["mu"])
    rows = len(mu)
    off = np.flatnonzero(np.abs(lengths - 1) > ROUNDING) if settings is None and contract is None else ()
    quality = arrays.get("quality")
    if quality is not None and (quality.shape != (rows,) or quality.dtype.kind not in "iu"):
        raise _shape(file, "quality", quality, f"({rows},) whole numbers")
    return ExchangeTable(
        file,
        _scaled(mu, lengths, np.asarray(off, np.int64)),
        len(off),
        None if "sigma_sq" not in arrays else _variances(file, arrays["sigma_sq"], mu.shape),
        _names(file, arrays.get("name"), rows),
        _texts(file, "path", arrays.get("path"), rows),
        None if quality is None else quality.astype(np.int64),
        _texts(file, "source", arrays.get("source"), rows),
        _digests(file, arrays.get("source_digest"), rows),
        _moments(file, arrays.get("enrolled"), rows),
        settings,
        contract,
    )


def _vectors(file: Path, mu: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The vectors as they are, and their lengths."""
    if mu.ndim != 2 or mu.dtype.kind != "f" or mu.shape[1] == 0:
        raise _shape(file, "mu", mu, "(N, D) of floating point")
    if len(mu) == 0:
        raise DataError(f"{file}: 0 rows; there must be one or more")
    lengths = np.empty(len(mu))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is told below
        for start in range(0, len(mu), BLOCK_ROWS):
            block = mu[start : start + BLOCK_ROWS].astype(np.float64)
            lengths[start : start + BLOCK_ROWS] = np.sqrt(np.einsum("nd,nd->n", block, block))
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        what = "zero" if lengths[bad[0]] == 0 else "not finite"
        more = f", as {len(bad) - 1} more" if len(bad) > 1 else ""
        raise DataError(f"{file}: row {bad[0]} of mu is {what}{more}, so it has no direction; leave it out")
    return mu, lengths


def _scaled(mu: NDArray[Any], lengths: NDArray[np.float64], off: NDArray[np.int64]) -> FloatArray:
    """The vectors in float32, some of the rows divided by their lengths."""
    with np.errstate(over="ignore"):  # of rows that are replaced
        scaled = mu.astype(np.float32, copy=len(off) > 0)
    for start in range(0, len(off), BLOCK_ROWS):
        rows = off[start : start + BLOCK_ROWS]
        scaled[rows] = mu[rows].astype(np.float64) / lengths[rows, None]
    return scaled


def _variances(file: Path, sigma_sq: NDArray[Any], shape: tuple[int, ...]) -> FloatArray:
    if sigma_sq.shape == shape[:1]:
        sigma_sq = sigma_sq[:, None]
    if sigma_sq.dtype.kind != "f" or sigma_sq.shape not in ((shape[0], 1), shape):
        raise _shape(file, "sigma_sq", sigma_sq, f"({shape[0]}, 1) or {shape} of floating point")
    with np.errstate(over="ignore"):  # infinite then, and refused
        return sigma_sq.astype(np.float32)


def _names(file: Path, names: NDArray[Any] | None, rows: int) -> tuple[str, ...] | None:
    if names is not None and names.dtype.kind in "iu":
        names = names.astype(np.str_)
    texts = _texts(file, "name", names, rows)
    for row, name in enumerate(texts or ()):
        try:
            check_name(name)
        except InvalidValue as error:
            raise DataError(f"{file}: row {row}: {error}") from error
    return texts


def _texts(file: Path, what: str, array: NDArray[Any] | None, rows: int) -> tuple[str, ...] | None:
    if array is None:
        return None
    if array.shape != (rows,) or array.dtype.kind not in "US":
        raise _shape(file, what, array, f"({rows},) texts")
    if array.dtype.kind == "U":
        return tuple(array.tolist())
    try:
        return tuple(text.decode() for text in array.tolist())
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: {what} is not UTF-8 ({error}); save it as str") from error


def _digests(file: Path, array: NDArray[Any] | None, rows: int) -> tuple[str, ...] | None:
    texts = _texts(file, "source_digest", array, rows)
    if texts is None:
        return None
    digests = tuple(text.lower() for text in texts)
    for row, digest in enumerate(digests):
        if digest and not _DIGEST.fullmatch(digest):
            raise DataError(
                f"{file}: source_digest of row {row} is {digest[:80]!r}: must be empty, or a SHA-256 of 64 hexadecimal "
                "digits; mend it, or leave it empty"
            )
    return digests


def _moments(file: Path, array: NDArray[Any] | None, rows: int) -> tuple[datetime, ...] | None:
    if array is None:
        return None
    if array.shape != (rows,) or array.dtype.kind != "M" or np.isnat(array).any():
        raise _shape(file, "enrolled", array, f"({rows},) times")
    moments = array.astype("M8[us]").tolist()
    if not all(isinstance(moment, datetime) for moment in moments):  # years that a calendar does not have
        raise DataError(f"{file}: times of enrolment before the year 1 or after 9999; leave them out")
    return tuple(moment.replace(tzinfo=UTC) for moment in moments)


def _shape(file: Path, what: str, array: NDArray[Any], wanted: str) -> DataError:
    return DataError(f"{file}: {what} of shape {array.shape}, {array.dtype}: must be {wanted}")


def _settings(file: Path, text: str) -> GallerySettings:
    try:
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise DataError(f"{file}: not an export of format {FORMAT}; use the ProbFace that wrote it")
        settings = from_plain(GallerySettings, document.get("settings"), "gallery settings")
        check_name(settings.model.name)
    except (json.JSONDecodeError, RecursionError, InvalidValue, ModelError) as error:
        raise DataError(f"{file}: its gallery settings cannot be read ({error}); export it again") from error
    name, digest = settings.model.name, settings.model.digest
    if not _DIGEST.fullmatch(digest):
        raise DataError(
            f"{file}: model {name!r} of digest {digest[:80]!r}: must be 64 hexadecimal digits; export it again"
        )
    return settings


def _contract(file: Path, text: str) -> ModelContract:
    try:
        return ModelContract.from_json(text)
    except ModelError as error:
        raise DataError(f"{file}: {error}") from error


def _chosen(present: list[str]) -> dict[str, str]:
    """What each known array is -> its name in the file."""
    found = {what: next((name for name in names if name in present), None) for what, names in ALIASES.items()}
    return {what: name for what, name in found.items() if name is not None}


def _read_npz(file: Path) -> dict[str, NDArray[Any]]:
    reading = "the file"
    try:
        # Opened here, because np.load leaves a damaged file open when it is given a path.
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            found = {}
            for what, name in _chosen(list(arrays.files)).items():
                reading = f"its array {name!r}"
                found[what] = arrays[name]
            return found
    except AttributeError as error:  # a single array, as np.save writes it
        raise DataError(f"{file}: one array without names; save several with np.savez") from error
    except UNREADABLE as error:
        raise DataError(
            f"{file}: {reading} cannot be read ({error}); save texts as str and numbers as float32, with np.savez"
        ) from error


def _read_parquet(file: Path) -> dict[str, NDArray[Any]]:
    _, parquet = pyarrow()
    try:
        schema = parquet.read_schema(file)
        chosen = _chosen(schema.names)
        chosen = {what: name for what, name in chosen.items() if what not in ("gallery", "contract")}
        table = parquet.read_table(file, columns=list(chosen.values()))
        found = {what: _parquet_column(file, name, table.column(name)) for what, name in chosen.items()}
    except UNREADABLE as error:
        raise DataError(f"{file}: cannot be read ({error}); write it again") from error
    metadata = schema.metadata or {}
    for what, key in (("gallery", PARQUET_KEY), ("contract", b"probface")):
        if key in metadata:
            found[what] = np.array(metadata[key].decode("utf-8", "replace"))
    return found


def _parquet_column(file: Path, name: str, column: Any) -> NDArray[Any]:
    pa, _ = pyarrow()
    if column.null_count:
        raise DataError(f"{file}: column {name!r} has {column.null_count} nulls; leave those rows out")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.to_pylist(), np.str_)
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or _is_fixed(column.type)):
        return np.asarray(column.to_numpy())
    joined = column.combine_chunks()
    values = joined.flatten()
    if values.null_count:
        raise DataError(f"{file}: column {name!r} has nulls in its lists; leave those rows out")
    lengths = set(joined.value_lengths().unique().to_pylist()) if not _is_fixed(column.type) else set()
    if len(lengths) > 1:
        raise DataError(f"{file}: column {name!r} has lists of {len(lengths)} lengths; all must be as long")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def _is_fixed(kind: Any) -> bool:
    pa, _ = pyarrow()
    return bool(pa.types.is_fixed_size_list(kind))
