"""FastMLS search inside PostgreSQL, for galleries that do not fit the memory of the machine that asks.

Three ways, and what each proves. Whatever the server computes in float32 only chooses candidates; all are scored again
in float64 here, so the first two give exactly the order of a float64 scan, ties to the lower reference id.

- :func:`by_expression`: the score as an SQL expression. Exact.
- :func:`by_inner_product`: inner products alone, which is all that most vector engines offer, with one dimension more
  and a certificate that nobody was missed. Exact as well, and says "certified".
- :func:`by_index`: the same through an HNSW index. Fast, and "approximate": a graph walk certifies nothing.

All need one variance a face. pgvector adds its inner products in float32, in an order of its own; how far off that may
be, and the certificate, are those of :mod:`probface.match.certificate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.gallery.engines.postgres_rows import VECTORS, block, one
from probface.gallery.engines.postgres_session import driver
from probface.gallery.records import ModelBinding, ReferenceBlock
from probface.match.certificate import augment_probes, certify, float32_slack, least_products, slopes
from probface.score.fast_mls import fast_mls
from probface.types import Embeddings, FloatArray

if TYPE_CHECKING:
    from probface.gallery.engines.postgres import PostgresStore
    from probface.gallery.engines.postgres_session import Cursor

Guarantee: TypeAlias = Literal["exact", "certified", "approximate"]

SAMPLE = 256
"""References that the tangents of an inner-product search are tried on."""
TANGENTS = 33
"""Points where a tangent is tried, the quantiles of the sample's variances."""
CHUNK = 4096
"""Candidates fetched at a time where there may be many."""
VARIANCE_UNIT = 16
"""``[mu_j, s_j / 16]`` is searched with ``[mu_i, -16 beta]``: exactly the same products, as 16 is a power of 2, but an
HNSW graph of it links by the faces; with ``s_j`` itself it linked to the largest variances, and found next to nothing.
"""
MOST_INDEXED = 2000
"""Dimensions that pgvector's HNSW index takes."""

_UPPER = "-(2 + 2 * (mu <#> %(mu)s) - %(slack)s::float8) / (sigma_sq + %(s)s::float8) - ln(sigma_sq + %(s)s::float8)"


@dataclass(frozen=True, slots=True, eq=False)
class ServerHits:
    """The best references for one probe, best first; fewer than asked for where the gallery has no more.

    Attributes:
        references: (k,) int64 ids.
        identities: (k,) int64 ids of their identities.
        scores: (k,) float64 FastMLS.
        guarantee: ``exact`` and ``certified``: no reference is better; ``approximate``: one may be.
    """

    references: NDArray[np.int64]
    identities: NDArray[np.int64]
    scores: NDArray[np.float64]
    guarantee: Guarantee


def by_expression(store: PostgresStore, probe: Embeddings, k: int) -> ServerHits:
    """The k best references, ordered by the score in SQL.

        upper_j = -(2 + 2 (mu_j <#> mu_i) - 2 e) / t_j - ln t_j,    t_j = s_i + s_j

    ``<#>`` is the negative inner product, and ``e`` its largest error, so no exact score is above ``upper_j``. The k
    best by ``upper`` give a score tau that the k-th best has at least; every reference that can reach it has
    ``upper >= tau``, and a second query fetches these where the first did not reach down so far.

    Args:
        store: a gallery.
        probe: one row.
        k: 1 or more.

    Raises:
        InvalidValue: not one row, another D, or D variances a face.
    """
    with store.reading() as (cursor, model):
        _check(probe, model, k)
        # Twice the error of the cosine, as the score has 2 cos.
        slack = 2 * float(float32_slack(probe, np.zeros(1, np.float32), 0.0)[0])
        values = {"mu": probe.mu[0], "s": float(probe.sigma_sq[0, 0]), "slack": slack, "k": k}
        cursor.execute(
            f"SELECT {VECTORS}, {_UPPER} AS upper FROM embedding ORDER BY upper DESC LIMIT %(k)s".encode(),  # noqa: S608
            values,
        )
        rows = cursor.fetchall()
        hits = _best(rows, probe, model, k, "exact")
        if len(rows) < k or rows[-1][4] < _below(hits.scores[-1]):
            return hits
        with cursor.connection.cursor("candidates", binary=True) as streaming:
            streaming.execute(
                f"SELECT {VECTORS} FROM embedding WHERE {_UPPER} >= %(tau)s::float8".encode(),  # noqa: S608
                values | {"tau": _below(hits.scores[-1])},
            )
            best: list[tuple[Any, ...]] = []
            while found := streaming.fetchmany(CHUNK):
                best, hits = _merged(best + found, probe, model, k)
        return hits


def by_inner_product(store: PostgresStore, probe: Embeddings, k: int, *, take: int | None = None) -> ServerHits:
    """The k best references, from the largest inner products of [mu_i, -beta] and [mu_j, s_j], read in whole.

    Doubles how many it takes until :func:`~probface.match.certificate.certify` proves that no other reference can reach
    the k-th score; at the latest when it has taken all.

    Args:
        store: a gallery.
        probe: one row.
        k: 1 or more.
        take: how many products to begin with; None is 10 k, 100 at least.

    Raises:
        InvalidValue: as :func:`by_expression`.
    """
    with store.reading() as (cursor, model):
        _check(probe, model, k)
        sample = _sample(cursor, model, k)
        if not len(sample):
            return _best([], probe, model, k, "certified")
        bounds = _bounds(cursor)
        tau = _kth(_scores(sample, probe), k)
        # Only a scan sees every reference; an HNSW index would be taken for this order otherwise.
        cursor.execute(
            "SELECT set_config('enable_indexscan', 'off', true), set_config('enable_bitmapscan', 'off', true)"
        )
        take = max(k, take or max(10 * k, 100))
        while True:
            beta = _aim(sample, probe, tau, bounds)
            rows = _largest_products(cursor, probe, model, beta, take)
            hits = _best(rows, probe, model, k, "certified")
            if len(rows) < take:
                return hits
            tau, last = hits.scores[-1:], np.array([-rows[-1][4]])
            if certify(probe, beta, tau, last, bounds, float32_slack(probe, beta, bounds[1]))[0]:
                return hits
            take *= 2


def by_index(store: PostgresStore, probe: Embeddings, k: int, *, candidates: int = 100) -> ServerHits:
    """The k best of what the HNSW index finds; never certified, since the index may miss any reference.

    Args:
        store: a gallery with :func:`create_index`.
        probe: one row.
        k: 1 or more.
        candidates: how many the walk keeps (``hnsw.ef_search``), k to 1000.

    Raises:
        InvalidValue: as :func:`by_expression`, ``candidates`` out of range, or no index.
    """
    if not k <= candidates <= 1000:
        raise InvalidValue(f"{candidates} candidates: must be k = {k} to 1000")
    with store.reading() as (cursor, model):
        _check(probe, model, k)
        if not _indexes(cursor):
            raise InvalidValue(f"{store.location}: has no HNSW index; make one with create_index")
        sample = _sample(cursor, model, k)
        if not len(sample):
            return _best([], probe, model, k, "approximate")
        beta = _aim(sample, probe, _kth(_scores(sample, probe), k), _bounds(cursor))
        cursor.execute(
            "SELECT set_config('enable_seqscan', 'off', true), set_config('hnsw.ef_search', %s, true)",
            (str(candidates),),
        )
        return _best(_largest_products(cursor, probe, model, beta, candidates), probe, model, k, "approximate")


def create_index(store: PostgresStore, *, m: int = 16, ef_construction: int = 64) -> None:
    """Make the HNSW index of a gallery, or make it anew; writers wait meanwhile. A finished migration drops it.

    Args:
        store: a gallery.
        m: links of a node, 2 to 100.
        ef_construction: candidates when a node is linked, 2 m to 1000.

    Raises:
        InvalidValue: D variances a face, or D + 1 above 2000.
        StorageError: numbers that pgvector refuses, or no right to make an index.
    """
    sql = driver().sql
    model = store.settings.model
    if model.sigma_sq_width != 1 or model.dim + 1 > MOST_INDEXED:
        raise InvalidValue(
            f"D = {model.dim}, sigma_sq width {model.sigma_sq_width}: an index takes one variance and D below "
            f"{MOST_INDEXED}; search by_expression"
        )
    drop_index(store)
    with store.session.transaction() as cursor:
        cursor.execute(
            sql.SQL(
                "CREATE INDEX ON embedding USING hnsw (({}) vector_ip_ops) WITH (m = {}, ef_construction = {})"
            ).format(_augmented(model), sql.Literal(m), sql.Literal(ef_construction))
        )


def drop_index(store: PostgresStore) -> None:
    """Remove the HNSW index, if there is one."""
    sql = driver().sql
    with store.session.transaction() as cursor:
        for name in _indexes(cursor):
            cursor.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))


def _indexes(cursor: Cursor) -> list[str]:
    cursor.execute(
        "SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam "
        "WHERE x.indrelid = 'embedding'::regclass AND a.amname = 'hnsw' AND x.indisvalid"
    )
    return [row[0] for row in cursor]


def _augmented(model: ModelBinding) -> Any:
    """[mu_j, s_j / 16] in SQL; the index is used only where a query has the very same text."""
    sql = driver().sql
    text = "(mu || ARRAY[sigma_sq / {}]::vector)::vector({})"
    return sql.SQL(text).format(sql.Literal(VARIANCE_UNIT), sql.Literal(model.dim + 1))


def _largest_products(
    cursor: Cursor, probe: Embeddings, model: ModelBinding, beta: FloatArray, take: int
) -> list[tuple[Any, ...]]:
    """Rows of VECTORS and the negative product, the largest products first."""
    sql = driver().sql
    product = sql.SQL("({}) <#> %s").format(_augmented(model))
    query = sql.SQL("SELECT {}, {} AS negative FROM embedding ORDER BY negative LIMIT %s")
    [asked] = augment_probes(probe, VARIANCE_UNIT * beta)
    cursor.execute(query.format(sql.SQL(VECTORS), product), (asked, take))
    return cursor.fetchall()


def _sample(cursor: Cursor, model: ModelBinding, k: int) -> ReferenceBlock:
    cursor.execute(f"SELECT {VECTORS} FROM embedding ORDER BY reference LIMIT %s".encode(), (max(k, SAMPLE),))  # noqa: S608
    return block(cursor.fetchall(), model)


def _bounds(cursor: Cursor) -> tuple[float, float]:
    """The least and the largest variance of the gallery, which is not empty."""
    least, largest = one(cursor, "SELECT min(sigma_sq), max(sigma_sq) FROM embedding")
    return float(least), float(largest)


def _kth(scores: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """(1,) the k-th largest, or the least of fewer."""
    return np.sort(scores)[::-1][min(k, len(scores)) - 1 :][:1]


def _aim(
    sample: ReferenceBlock, probe: Embeddings, tau: NDArray[np.float64], bounds: tuple[float, float]
) -> FloatArray:
    """(1,) slope for the next query: of the tangents at the sample's variances, the one that lets the fewest through.

    Any slope is sound. Which one decides how many must be taken: with a tangent at the gallery's median variance it was
    thousands of 100,000, with this one hundreds.
    """
    s_j = sample.sigma_sq[:, 0].astype(np.float64)
    cos = sample.mu.astype(np.float64) @ probe.mu[0].astype(np.float64)

    def gap(beta: FloatArray) -> float:
        """How far alpha is above the sample's products, in units of their spread."""
        products = cos - beta.astype(np.float64) * s_j
        return float((least_products(probe, beta, tau, bounds)[0] - products.mean()) / (products.std() + 1e-9))

    return max((slopes(probe, tau, float(s)) for s in np.quantile(s_j, np.linspace(0, 1, TANGENTS))), key=gap)


def _scores(found: ReferenceBlock, probe: Embeddings) -> NDArray[np.float64]:
    mu_i, sigma_sq_i, mu_j, sigma_sq_j = (
        part.astype(np.float64) for part in (probe.mu, probe.sigma_sq, found.mu, found.sigma_sq)
    )
    scores: NDArray[np.float64] = fast_mls(mu_i, sigma_sq_i, mu_j, sigma_sq_j)
    return scores


def _best(
    rows: Sequence[tuple[Any, ...]], probe: Embeddings, model: ModelBinding, k: int, guarantee: Guarantee
) -> ServerHits:
    found = block(rows, model)
    scores = _scores(found, probe)
    order = np.lexsort((found.ids, -scores))[:k]
    return ServerHits(found.ids[order], found.identities[order], scores[order], guarantee)


def _merged(
    rows: list[tuple[Any, ...]], probe: Embeddings, model: ModelBinding, k: int
) -> tuple[list[tuple[Any, ...]], ServerHits]:
    hits = _best(rows, probe, model, k, "exact")
    kept = set(hits.references.tolist())
    return [row for row in rows if row[0] in kept], hits


def _below(score: float) -> float:
    """A little below, by more than the float64 rounding of a score, here or in the server."""
    return float(score) - 1e-12 * (1 + abs(float(score)))


def _check(probe: Embeddings, model: ModelBinding, k: int) -> None:
    if len(probe) != 1 or k < 1:
        raise InvalidValue(f"{len(probe)} probes, k = {k}: one probe at a time, and k of 1 or more")
    if model.sigma_sq_width != 1 or probe.sigma_sq.shape[1] != 1 or probe.dim != model.dim:
        raise InvalidValue(
            f"probe of D = {probe.dim}, sigma_sq width {probe.sigma_sq.shape[1]}, gallery of D = {model.dim}, width "
            f"{model.sigma_sq_width}: a search in the server needs the same D, and one variance a face"
        )
