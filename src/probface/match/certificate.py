"""Exact FastMLS search on any engine that finds the largest inner products, by one extra dimension and a certificate.

A reference j scores tau or more against a probe i exactly when its cosine reaches ``b(t)``:

    b(t) = 1 + (t / 2)(tau + log t),      t = s_i + s_j,      s = sigma^2

b is convex (b'' = 1 / (2 t)), so for every slope beta it lies above its tangent of that slope, which touches it at

    t* = exp(2 beta - 1 - tau), clamped to [s_i + s_min, s_i + s_max]:      b(t) >= b(t*) + beta (t - t*)

Take ``beta s_j`` to the other side. Every reference that scores tau or more has

    < [mu_i, -beta], [mu_j, s_j] >  >=  alpha  =  b(t*) - beta t* + beta s_i

Without the clamp, alpha is ``1 + beta s_i - exp(2 beta - 1 - tau) / 2``. An engine that holds D + 1 numbers a reference
is asked for the K largest of these products. Those that it leaves out are at most the last that it gives, up to its
rounding; when that stays below alpha for tau = the k-th best score among the K, nobody left out can enter the top k,
and the top k of the K, scored in float64, are the top k of all. If not, K is doubled, and the slope chosen anew.

beta is fixed when it is sent, as float32, and may have either sign; tau rises afterwards. So alpha must come from the
tangent of slope beta to the NEW b. The tangent point of the old one, kept with the new tau, gives no bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.match.portable import RESCORED_NUMBERS, exact_dot, exact_scores
from probface.types import Embeddings, FloatArray

DoubleArray = NDArray[np.float64]

PAIRS = 1 << 20
"""Products that the engine is asked for at once."""
LONGEST = 1.01
"""No ``mu`` is longer; :class:`probface.types.Embeddings` allows 1e-3 above 1."""
_STEEPEST = 1e30
_APPROXIMATE = re.compile("HNSW|IVF|PQ|Quantizer|FastScan|RaBitQ|LSH|Lattice|NSG|NNDescent|Random|RowwiseMinMax|Binary")


class Engine(Protocol):
    """What has the ``search`` of a FAISS index, and holds :func:`augment` of the references."""

    def search(self, x: FloatArray, k: int, /) -> tuple[NDArray[Any], NDArray[Any]]:
        """(N, k) largest inner products with rows of ``x``, best first, and whose they are; -1 where there is none."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class CertifiedResult:
    """The best references of N probes, and whether that is proved.

    Attributes:
        scores: (N, K) float64 FastMLS, best first; K is ``k``, or the number of references where that is less.
        indices: (N, K) int64, rows of the references; -1, with the score -inf, where the engine found no more.
        certified: (N,) whether the row is what scoring every pair gives; never for an approximate engine.
        engine: what the engine is; an ``approximate`` one proves nothing, however much it returns.
        asked: (N,) for how many references the engine was asked in the end.
    """

    scores: DoubleArray
    indices: NDArray[np.int64]
    certified: NDArray[np.bool_]
    engine: Literal["exact", "approximate"]
    asked: NDArray[np.int64]


def augment(references: Embeddings) -> FloatArray:
    """(M, D + 1) float32 ``[mu_j, s_j]``: what the engine holds."""
    _one_variance(references)
    return np.concatenate([references.mu, references.sigma_sq], axis=1)


def augment_probes(probes: Embeddings, slopes: FloatArray) -> FloatArray:
    """(N, D + 1) float32 ``[mu_i, -beta_i]``: what the engine is asked for."""
    _one_variance(probes)
    return np.concatenate([probes.mu, -slopes.astype(np.float32)[:, None]], axis=1)


def slopes(probes: Embeddings, tau: DoubleArray, sigma_sq: float) -> FloatArray:
    """(N,) slopes of b at ``t0 = s_i + sigma_sq``, in the float32 that is sent.

    Args:
        probes: N of them.
        tau: (N,) scores that are to be beaten; the slope is 0, a search by cosine, where one is -inf.
        sigma_sq: where the bound is to be tight, such as the median of the references.
    """
    t0 = probes.sigma_sq[:, 0].astype(np.float64) + sigma_sq
    beta = np.where(np.isfinite(tau), (tau + np.log(t0) + 1) / 2, 0)
    return np.clip(beta, -_STEEPEST, _STEEPEST).astype(np.float32)


def least_products(
    probes: Embeddings, slopes: FloatArray, tau: DoubleArray, sigma_range: tuple[float, float]
) -> DoubleArray:
    """(N,) alpha: no reference whose product is below scores ``tau`` or more.

    Args:
        probes: N of them.
        slopes: (N,) float32, as they were sent.
        tau: (N,) scores; alpha is -inf where one is -inf.
        sigma_range: least and largest ``sigma_sq`` of the references.
    """
    s, beta = probes.sigma_sq[:, 0].astype(np.float64), slopes.astype(np.float64)
    low, high = s + sigma_range[0], s + sigma_range[1]
    with np.errstate(invalid="ignore", over="ignore"):
        t = np.clip(np.exp(2 * beta - 1 - tau), low, high)
        alpha = 1 + 0.5 * t * (tau + np.log(t)) - beta * t + beta * s
        # What float64 rounds off here, and in the score of a reference anywhere in the range.
        logs = np.maximum(np.abs(np.log(low)), np.abs(np.log(high)))
        alpha -= 1e-12 * (2 + high * (np.abs(tau) + logs + np.abs(beta)))
    return np.where(np.isfinite(tau), alpha, -np.inf)


def float32_slack(probes: Embeddings, slopes: FloatArray, largest: float) -> DoubleArray:
    """(N,) how far the products of an engine that computes in float32 may be off, in whatever order it adds.

    That is ``n u / (1 - n u)`` times the sum of the products' sizes, n = D + 2 and u = 2^-24, and what underflows.

    Args:
        probes: N of them.
        slopes: (N,) float32, as they were sent.
        largest: ``sigma_sq`` of the references.
    """
    count = probes.dim + 2
    size = LONGEST**2 + np.abs(slopes.astype(np.float64)) * largest
    slack: DoubleArray = count * 2.0**-24 / (1 - count * 2.0**-24) * size + count * 2.0**-126
    return np.where(size < 1e37, slack, np.inf)  # beyond, float32 may overflow


def certify(
    probes: Embeddings,
    slopes: FloatArray,
    tau: DoubleArray,
    last: DoubleArray,
    sigma_range: tuple[float, float],
    slack: DoubleArray,
) -> NDArray[np.bool_]:
    """(N,) whether no reference that the engine left out can be among the k best.

    Args:
        probes: N of them.
        slopes: (N,) float32, as they were sent.
        tau: (N,) k-th best score found so far; -inf where fewer were found.
        last: (N,) least product that the engine returned.
        sigma_range: least and largest ``sigma_sq`` of the references.
        slack: (N,) how far the engine's products may be off (:func:`float32_slack`).
    """
    with np.errstate(invalid="ignore"):
        below = last + slack < least_products(probes, slopes, tau, sigma_range)
    return below & np.isfinite(last)


def certified_search(
    engine: Engine,
    references: Embeddings,
    probes: Embeddings,
    k: int,
    *,
    start: int = 100,
    exact: bool | None = None,
) -> CertifiedResult:
    """The k best references of each probe by FastMLS, found by an inner-product engine and proved where that can be.

    What is certified is, to the last bit, what :meth:`probface.match.exact.SearchIndex.search` finds. Each probe is
    asked by cosine first, for a tau, then with a slope, for twice as many references until it is certified.

    Args:
        engine: holds :func:`augment` of ``references``, row for row, as float32, and compares by inner product.
        references: M of them, 1 or more, with one variance.
        probes: N of them; as wide.
        k: 1 or more. More than there are references gives all of them.
        start: for how many references to ask at first.
        exact: whether the engine finds the largest products without fail. FAISS's flat index is known to; of others,
            unless this says so, nothing is certified.

    Raises:
        InvalidValue: k or start below 1, no references, widths that differ, D variances, an engine of another size or
            metric, one known as approximate that is said to be exact, or one that gives a product that is none.
    """
    for side in (references, probes):
        _one_variance(side)
    if references.dim != probes.dim:
        raise InvalidValue(f"probes of D = {probes.dim}, references of D = {references.dim}: must be alike")
    if k < 1 or start < 1:
        raise InvalidValue(f"k = {k}, start = {start}: both must be 1 or more")
    if len(references) == 0:
        raise InvalidValue("0 references: a search needs at least one; enrol somebody first")
    search = _Search(engine, references, probes, min(k, len(references)), _is_exact(engine, len(references), exact))
    count = min(max(start, k), len(references))
    search.ask(np.arange(len(probes)), count, np.zeros(len(probes), np.float32))
    middle = float(np.median(references.sigma_sq))
    while len(left := np.flatnonzero(~search.certified)):
        search.ask(left, count, slopes(probes[left], search.scores[left, -1], middle))
        if count == len(references) or not search.exact:
            break
        count = min(2 * count, len(references))
    kind: Literal["exact", "approximate"] = "exact" if search.exact else "approximate"
    return CertifiedResult(search.scores, search.rows, search.certified, kind, search.asked)


class _Search:
    """The state of :func:`certified_search`."""

    def __init__(self, engine: Engine, references: Embeddings, probes: Embeddings, k: int, exact: bool) -> None:
        self._engine, self._references, self._probes, self.exact = engine, references, probes, exact
        self._sigma_range = float(references.sigma_sq.min()), float(references.sigma_sq.max())
        self.scores = np.full((len(probes), k), -np.inf)
        self.rows = np.full((len(probes), k), -1, np.int64)
        self.certified, self.asked = np.zeros(len(probes), bool), np.zeros(len(probes), np.int64)

    def ask(self, who: NDArray[np.int64], count: int, beta: FloatArray) -> None:
        """Ask for the ``count`` largest products of some probes with these slopes."""
        step = max(1, PAIRS // count)
        for first in range(0, len(who), step):
            self._ask(who[first : first + step], count, beta[first : first + step])

    def _ask(self, who: NDArray[np.int64], count: int, beta: FloatArray) -> None:
        probes, references = self._probes[who], self._references
        found, rows = self._engine.search(augment_probes(probes, beta), count)
        products, rows = np.asarray(found, np.float64), np.asarray(rows, np.int64)
        if (
            products.shape != (len(who), count)
            or rows.shape != products.shape
            or rows.max(initial=-1) >= len(references)
        ):
            raise InvalidValue(
                f"engine gave products {products.shape}, rows {rows.shape} up to {rows.max(initial=-1)}: must be "
                f"{(len(who), count)}, below {len(references)}; fill it with augment(references), in their order"
            )
        slack = float32_slack(probes, beta, self._sigma_range[1])
        there = rows >= 0
        probe, column = np.nonzero(there)
        size = max(1, RESCORED_NUMBERS // self._probes.dim)
        for part in range(0, len(probe), size):
            at = slice(part, part + size)
            self._rescore(who, beta, probe[at], rows[probe[at], column[at]], products[probe[at], column[at]], slack)
        self.asked[who] = count
        if self.exact:
            last = np.where(there.all(axis=1), products.min(axis=1), np.inf)  # it ought to have found more
            proved = certify(probes, beta, self.scores[who, -1], last, self._sigma_range, slack)
            if count == len(references):
                proved |= (np.sort(rows, axis=1) == np.arange(count)).all(axis=1)
            self.certified[who] = proved

    def _rescore(
        self,
        who: NDArray[np.int64],
        beta: FloatArray,
        probe: NDArray[np.int64],
        row: NDArray[np.int64],
        product: DoubleArray,
        slack: DoubleArray,
    ) -> None:
        """Score pairs in float64, check the engine's products by them, and merge them into the top k."""
        asked, k = self._probes, self.scores.shape[1]
        s_i, s_j = asked.sigma_sq[who[probe], 0], self._references.sigma_sq[row, 0]
        cosine = exact_dot(asked.mu[who[probe]], self._references.mu[row])
        off = np.abs(product - (cosine - beta[probe].astype(np.float64) * s_j))
        wrong = np.flatnonzero(~(off <= slack[probe] + 1e-12))
        if self.exact and len(wrong):
            at = wrong[0]
            raise InvalidValue(
                f"engine's product of probe {who[probe[at]]} with row {row[at]} is {product[at]:.9g}, off by "
                f"{off[at]:.3g}: must be right to {slack[probe[at]]:.3g}; fill it with augment(references) as float32"
            )
        whose = np.concatenate([np.repeat(np.arange(len(who)), k), probe])
        score = np.concatenate([self.scores[who].ravel(), exact_scores(cosine, s_i, s_j, metric_is_cosine=False)])
        rows = np.concatenate([self.rows[who].ravel(), row])
        best = np.lexsort((np.where(rows < 0, np.iinfo(np.int64).max, rows), -score, whose))
        whose, score, rows = whose[best], score[best], rows[best]
        again = np.zeros(len(best), bool)  # found by an earlier question, too
        again[1:] = (whose[1:] == whose[:-1]) & (rows[1:] == rows[:-1]) & (rows[1:] >= 0)
        whose, score, rows = whose[~again], score[~again], rows[~again]
        kept = np.arange(len(whose)) - np.searchsorted(whose, np.arange(len(who)))[whose] < k
        self.scores[who], self.rows[who] = score[kept].reshape(-1, k), rows[kept].reshape(-1, k)


def _is_exact(engine: Engine, count: int, stated: bool | None) -> bool:
    """What the caller says of the engine, or what its class is known for."""
    name, metric = type(engine).__name__, getattr(engine, "metric_type", 0)
    held = getattr(engine, "ntotal", count)
    if held != count:
        raise InvalidValue(f"engine of {held} vectors, {count} references: must be as many; fill it with augment()")
    if metric != 0:  # faiss.METRIC_INNER_PRODUCT
        raise InvalidValue(f"engine {name} of metric {metric}: must compare by inner product; make it with IndexFlatIP")
    of_faiss = type(engine).__module__.partition(".")[0] == "faiss"
    if stated and of_faiss and _APPROXIMATE.search(name):
        raise InvalidValue(
            f"exact=True for a {name}: it may miss the largest products; leave exact out, or use a flat index"
        )
    return (of_faiss and name in ("IndexFlatIP", "IndexFlat")) if stated is None else stated


def _one_variance(faces: Embeddings) -> None:
    if faces.sigma_sq.shape[1] != 1:
        raise InvalidValue(f"sigma_sq of shape {faces.sigma_sq.shape}: FastMLS takes one variance a face, (N, 1)")
