"""Between the package's values and SQLite's: vectors as little-endian float32, times as microseconds, texts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue
from probface.gallery.records import ModelBinding, ReferenceBlock
from probface.types import Embeddings, FloatArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

VectorRow = tuple[int, int, bytes, bytes]
"""(reference, identity, mu, sigma_sq) as the database holds them."""


def check_widths(embeddings: Embeddings, model: ModelBinding) -> None:
    """Whether the model can have made these.

    Raises:
        InvalidValue: D or the width of sigma_sq is another.
    """
    widths = (embeddings.dim, embeddings.sigma_sq.shape[1])
    if widths != (model.dim, model.sigma_sq_width):
        raise InvalidValue(
            f"embeddings of D = {widths[0]}, sigma_sq width {widths[1]}: model {model.name!r} gives {model.dim} and "
            f"{model.sigma_sq_width}; use embeddings of that model"
        )


def blobs(rows: FloatArray) -> list[bytes]:
    """Each row as the bytes of little-endian float32."""
    data = np.ascontiguousarray(rows, "<f4").tobytes()
    step = 4 * rows.shape[1]
    return [data[at : at + step] for at in range(0, len(data), step)]


def vectors(parts: Sequence[bytes], width: int) -> FloatArray:
    """The inverse of :func:`blobs`: (N, width).

    Raises:
        DataError: the bytes are not N times as many as a row needs.
    """
    joined = bytearray().join(parts)
    if len(joined) != 4 * width * len(parts):
        raise DataError(
            f"{len(joined)} bytes of {len(parts)} vectors: must be {4 * width} each; run verify on the gallery"
        )
    array: NDArray[np.float32] = np.frombuffer(joined, "<f4").reshape(len(parts), width)
    return array.astype(np.float32, copy=False)


def block_of(rows: Sequence[VectorRow], model: ModelBinding) -> ReferenceBlock:
    """Rows as arrays."""
    ids, identities, mu, sigma_sq = zip(*rows, strict=True) if rows else ((), (), (), ())
    return ReferenceBlock(
        np.array(ids, np.int64),
        np.array(identities, np.int64),
        vectors(mu, model.dim),
        vectors(sigma_sq, model.sigma_sq_width),
    )


def texts_for(texts: Sequence[str]) -> Sequence[str | bytes]:
    """Texts as SQLite can hold them: a path of undecodable bytes has surrogates, which UTF-8 does not allow."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return [text if text.isascii() else text.encode(errors="surrogatepass") for text in texts]
    return texts


def text_of(stored: str | bytes) -> str:
    """The inverse of :func:`texts_for`."""
    return stored if isinstance(stored, str) else stored.decode(errors="surrogatepass")


def microseconds(moment: datetime) -> int:
    """Since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(stored: int) -> datetime:
    """The inverse of :func:`microseconds`."""
    return _EPOCH + stored * _MICROSECOND
