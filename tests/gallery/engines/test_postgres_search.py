"""Search in the server against a float64 scan of everything, on ordinary and on adversarial galleries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from postgres_galleries import settings

from probface.errors import InvalidValue, StorageError
from probface.gallery.engines import postgres_search
from probface.gallery.engines.postgres import PostgresStore
from probface.gallery.engines.postgres_search import ServerHits, by_expression, by_index, by_inner_product, create_index
from probface.gallery.records import NewReferences
from probface.match.certificate import float32_slack
from probface.types import Embeddings

Ask = Callable[..., list[tuple[Any, ...]]]
Floats = NDArray[np.floating[Any]]

DIM = 128


def unit(rows: Floats) -> Floats:
    lengthened: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return lengthened


def ordinary(rng: np.random.Generator) -> tuple[Floats, Floats]:
    people = unit(rng.normal(size=(300, DIM)))
    return np.repeat(people, 4, axis=0) + 0.06 * rng.normal(size=(1200, DIM)), np.exp(rng.normal(-1, 0.6, 1200))


def duplicates(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Five vectors, 120 times each, with one of two variances."""
    return np.tile(rng.normal(size=(5, DIM)), (120, 1)), np.tile([0.3, 0.3, 0.5], 200)


def spread(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Variances from 1e-4 to 10."""
    return rng.normal(size=(900, DIM)), np.exp(rng.uniform(np.log(1e-4), np.log(10), 900))


def crowded(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """All cosines above 0.9998, nearer to each other than float32 products can tell; small variances."""
    return np.ones((800, DIM)) + 0.01 * rng.normal(size=(800, DIM)), rng.uniform(1e-4, 2e-4, 800)


def spiky(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Nearly all of a vector in one dimension."""
    vectors = 1e-3 * rng.normal(size=(600, DIM))
    vectors[np.arange(600), rng.integers(0, DIM, 600)] += rng.choice([-1, 1], 600)
    return vectors, rng.uniform(0.05, 1, 600)


def few(rng: np.random.Generator) -> tuple[Floats, Floats]:
    return rng.normal(size=(7, DIM)), rng.uniform(0.1, 1, 7)


SETS = (ordinary, duplicates, spread, crowded, spiky, few)


def embeddings(mu: Floats, sigma_sq: Floats) -> Embeddings:
    return Embeddings(unit(mu).astype(np.float32), sigma_sq.astype(np.float32)[:, None])


def probes(gallery: Embeddings, rng: np.random.Generator) -> Iterator[Embeddings]:
    """References themselves, near ones, a stranger; sure and unsure ones."""
    for row, noise, s in ((0, 0.0, None), (1, 0.03, 0.2), (3, 0.05, 1e-4), (5, 0.02, 10.0)):
        mu = gallery.mu[row : row + 1] + noise * rng.normal(size=(1, DIM))
        yield embeddings(mu, gallery.sigma_sq[row] if s is None else np.array([s]))
    yield embeddings(rng.normal(size=(1, DIM)), np.array([0.5]))


def scan_in_float64(gallery: Embeddings, probe: Embeddings) -> Floats:
    """The formula written out, past the package: (M,) scores."""
    t = gallery.sigma_sq[:, 0].astype(float) + float(probe.sigma_sq[0, 0])
    cos = (gallery.mu.astype(float) * probe.mu[0].astype(float)).sum(axis=1)
    scores: Floats = -(2 - 2 * cos) / t - np.log(t)
    return scores


def filled(database: str, gallery: Embeddings) -> PostgresStore:
    store = PostgresStore.create(database, settings(gallery.dim))
    store.add(NewReferences.unlabelled(tuple(f"p{i // 2}" for i in range(len(gallery))), gallery))
    return store


def check(hits: ServerHits, scores: Floats, k: int) -> None:
    order = np.lexsort((np.arange(len(scores)), -scores))[:k]
    assert hits.references.tolist() == (order + 1).tolist()
    assert hits.identities.tolist() == (order // 2 + 1).tolist()
    np.testing.assert_array_equal(hits.scores, scores[order])


@pytest.mark.parametrize("make", SETS, ids=lambda make: make.__name__)
def test_search_is_that_of_a_float64_scan(database: str, make: Callable[..., tuple[Floats, Floats]]) -> None:
    rng = np.random.default_rng(11)
    gallery = embeddings(*make(rng))
    store = filled(database, gallery)
    for probe in probes(gallery, rng):
        scores = scan_in_float64(gallery, probe)
        for k in (1, 10, 100):
            exact, certified = by_expression(store, probe, k), by_inner_product(store, probe, k)
            check(exact, scores, k)
            check(certified, scores, k)
            assert (exact.guarantee, certified.guarantee) == ("exact", "certified")
            check(by_inner_product(store, probe, k, take=1), scores, k)
    store.close()


def test_float32_alone_would_be_wrong(database: str, ask: Ask) -> None:
    """The slack is needed: the server's own order of the crowded set is not that of float64."""
    rng = np.random.default_rng(11)
    gallery = embeddings(*crowded(rng))
    filled(database, gallery).close()
    probe = next(probes(gallery, rng))
    mu = "[" + ",".join(map(repr, probe.mu[0].astype(float).tolist())) + "]"
    s = float(probe.sigma_sq[0, 0])
    statement = "SELECT reference FROM embedding ORDER BY (2 + 2 * (mu <#> %s)) / (sigma_sq + %s) + ln(sigma_sq + %s)"
    in_server = [row[0] - 1 for row in ask(statement, mu, s, s)]
    assert in_server != np.argsort(-scan_in_float64(gallery, probe), kind="stable").tolist()


@pytest.mark.parametrize("dim", [1, 3, 64, 511, 2048])
def test_the_error_of_the_servers_products_is_within_the_bound(database: str, ask: Ask, dim: int) -> None:
    rng = np.random.default_rng(dim)
    # All terms of one sign: the sums are as long as they can be, and so are their errors.
    gallery = embeddings(np.abs(rng.normal(size=(300, dim))) + 0.2, np.ones(300))
    filled(database, gallery).close()
    probe = gallery.mu[0]
    mu = "[" + ",".join(map(repr, probe.astype(float).tolist())) + "]"
    found = np.array([row[0] for row in ask("SELECT -(mu <#> %s) FROM embedding ORDER BY reference", mu)])
    exact = gallery.mu.astype(float) @ probe.astype(float)
    [slack] = float32_slack(gallery[:1], np.zeros(1, np.float32), 0.0)
    error = np.abs(found - exact).max()
    assert error <= slack
    assert (error > 0) == (dim > 1)  # it is float32 that is measured


def test_the_certificate_is_read_from_a_scan_even_with_an_index(database: str) -> None:
    rng = np.random.default_rng(5)
    gallery = embeddings(*ordinary(rng))
    store = filled(database, gallery)
    create_index(store, m=2, ef_construction=4)  # a bad graph, so that the index misses some
    missed = 0
    for probe in [*probes(gallery, rng)] * 2:
        scores = scan_in_float64(gallery, probe)
        check(by_inner_product(store, probe, 10), scores, 10)
        hits = by_index(store, probe, 10, candidates=10)
        assert hits.guarantee == "approximate"
        missed += 10 - len(set(hits.references.tolist()) & set((np.argsort(-scores)[:10] + 1).tolist()))
        np.testing.assert_array_equal(hits.scores, scores[hits.references - 1])
    assert missed > 0
    store.close()


def test_a_good_index_finds_nearly_all(database: str, ask: Ask) -> None:
    rng = np.random.default_rng(5)
    gallery = embeddings(*ordinary(rng))
    store = filled(database, gallery)
    probe = list(probes(gallery, rng))[1]
    with pytest.raises(InvalidValue, match="has no HNSW index; make one with create_index"):
        by_index(store, probe, 10)
    create_index(store)
    create_index(store)  # anew
    assert ask("SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%%USING hnsw%%'") == [(1,)]
    best = set((np.argsort(-scan_in_float64(gallery, probe))[:10] + 1).tolist())
    assert len(best & set(by_index(store, probe, 10, candidates=400).references.tolist())) >= 9
    with pytest.raises(InvalidValue, match="9 candidates: must be k = 10 to 1000"):
        by_index(store, probe, 10, candidates=9)
    with pytest.raises(StorageError, match="the database refused"):
        create_index(store, m=101)
    postgres_search.drop_index(store)
    assert ask("SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%%USING hnsw%%'") == [(0,)]
    store.close()


def test_an_empty_gallery(database: str) -> None:
    store = PostgresStore.create(database, settings(DIM))
    create_index(store)
    probe = embeddings(np.ones((1, DIM)), np.ones(1))
    for hits in (by_expression(store, probe, 3), by_inner_product(store, probe, 3), by_index(store, probe, 3)):
        assert len(hits.references) == len(hits.identities) == len(hits.scores) == 0
    store.close()


def test_what_cannot_be_searched(database: str) -> None:
    one, each = PostgresStore.create(database, settings(8)), PostgresStore.create(database, settings(8, 8), "each")
    probe = embeddings(np.ones((2, 8)), np.ones(2))
    for search in (by_expression, by_inner_product):
        with pytest.raises(InvalidValue, match="2 probes, k = 1"):
            search(one, probe, 1)
        with pytest.raises(InvalidValue, match="1 probes, k = 0"):
            search(one, probe[:1], 0)
        with pytest.raises(InvalidValue, match="one variance a face"):
            search(each, probe[:1], 1)
        with pytest.raises(InvalidValue, match="gallery of D = 8"):
            search(one, embeddings(np.ones((1, 9)), np.ones(1)), 1)
    with pytest.raises(InvalidValue, match="an index takes one variance and D below 2000"):
        create_index(each)
    one.close()
    each.close()
