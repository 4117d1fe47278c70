"""Between the package's values and SQLite's: vectors as little-endian float32, times as microseconds, texts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from probface.gallery.engines.sqlite_values import EPOCH, MICROSECOND, Damaged
from probface.gallery.records import ModelBinding, ReferenceBlock
from probface.types import FloatArray

VectorRow = tuple[int, int, bytes, bytes]
"""(reference, identity, mu, sigma_sq) as the database holds them."""


def blobs(rows: FloatArray) -> list[bytes]:
    """Each row as the bytes of little-endian float32."""
    data = np.ascontiguousarray(rows, "<f4").tobytes()
    step = 4 * rows.shape[1]
    return [data[at : at + step] for at in range(0, len(data), step)]


def vectors(parts: Sequence[bytes], width: int) -> FloatArray:
    """The inverse of :func:`blobs`: (N, width).

    Raises:
        Damaged: not each is bytes, as many as a row needs.
    """
    if not (set(map(type, parts)) <= {bytes} and set(map(len, parts)) <= {4 * width}):
        raise Damaged(f"vectors of a reference are not {4 * width} bytes")
    joined = bytearray().join(parts)
    array: NDArray[np.float32] = np.frombuffer(joined, "<f4").reshape(len(parts), width)
    return array.astype(np.float32, copy=False)


def block_of(rows: Sequence[VectorRow], model: ModelBinding) -> ReferenceBlock:
    """Rows as arrays.

    Raises:
        Damaged: what is no number, or not of the model's width.
    """
    ids, identities, mu, sigma_sq = zip(*rows, strict=True) if rows else ((), (), (), ())
    if not set(map(type, identities)) <= {int}:
        raise Damaged("identity of a reference is no number")
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


def microseconds(moment: datetime) -> int:
    """Since 1970, UTC."""
    return (moment - EPOCH) // MICROSECOND
