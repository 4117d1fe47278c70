"""Rows to PostgreSQL and back: bulk copies in, blocks of vectors out, bit for bit the same float32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

import numpy as np

from probface.gallery.engines.postgres_session import driver
from probface.gallery.records import ModelBinding, NewReferences, ReferenceBlock

if TYPE_CHECKING:
    from probface.gallery.engines.postgres_session import Cursor

VECTORS = "reference, identity, mu, sigma_sq"
"""The columns that :func:`block` takes, in this order."""


def copy_rows(cursor: Cursor, table: str, columns: dict[str, str], rows: Iterable[Sequence[Any]]) -> None:
    """Append rows by COPY in the binary form, many times as fast as INSERT.

    Args:
        cursor: inside a transaction.
        table: its name.
        columns: name to PostgreSQL type.
        rows: values in the order of the columns.
    """
    sql = driver().sql
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with cursor.copy(statement) as copy:
        copy.set_types(list(columns.values()))
        for row in rows:
            copy.write_row(row)


def copy_embeddings(
    cursor: Cursor, table: str, references: Sequence[int], identities: Sequence[int], new: NewReferences
) -> None:
    """Append the vectors and qualities of ``new`` under these ids."""
    embeddings = new.embeddings
    width = embeddings.sigma_sq.shape[1]
    # Of a dimension of 1 the model's width decides nothing: (N, 1) is one variance.
    variances: Iterable[Any] = embeddings.sigma_sq[:, 0].tolist() if width == 1 else embeddings.sigma_sq
    columns = {
        "reference": "int8",
        "identity": "int8",
        "quality": "int2",
        "mu": "vector",
        "sigma_sq": "float4" if width == 1 else "vector",
    }
    rows = zip(references, identities, new.quality.tolist(), embeddings.mu, variances, strict=True)
    copy_rows(cursor, table, columns, rows)


def block(rows: Sequence[tuple[Any, ...]], model: ModelBinding) -> ReferenceBlock:
    """Rows of :data:`VECTORS` as arrays."""
    mu, sigma_sq = (np.empty((len(rows), width), np.float32) for width in (model.dim, model.sigma_sq_width))
    for at, row in enumerate(rows):
        mu[at] = row[2].to_numpy()
        sigma_sq[at] = row[3] if model.sigma_sq_width == 1 else row[3].to_numpy()
    ids = np.array([row[0] for row in rows], np.int64)
    return ReferenceBlock(ids, np.array([row[1] for row in rows], np.int64), mu, sigma_sq)


def text_for(text: str) -> tuple[str, bytes | None]:
    """A text as PostgreSQL can hold it and, where that is not the text itself, its bytes.

    A path of undecodable bytes has surrogates, which UTF-8 does not allow, and no text there has a zero byte.
    """
    whole = text.encode(errors="surrogatepass")
    readable = text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    return readable, None if readable == text else whole


def text_of(readable: str, whole: bytes | None) -> str:
    """The inverse of :func:`text_for`."""
    return readable if whole is None else bytes(whole).decode(errors="surrogatepass")


def one(cursor: Cursor, query: LiteralString, parameters: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    """The one row that a query has."""
    cursor.execute(query, parameters)
    [row] = cursor.fetchall()
    return row
