"""The scores by name: from a metric to its formula, for callers who let their user choose."""

from __future__ import annotations

from probface.errors import InvalidValue
from probface.score.arrays import Array
from probface.score.cosine import cosine, cosine_matrix
from probface.score.fast_mls import fast_mls, fast_mls_matrix
from probface.score.mls import mls, mls_matrix
from probface.types import METRICS, Embeddings, Metric


def paired_scores(a: Embeddings, b: Embeddings, metric: Metric) -> Array:
    """(N,) scores of each of N faces with the face in the same row of ``b``.

    Raises:
        InvalidValue: unknown metric, or FastMLS for D variances a face.
    """
    _known(metric)
    if metric == "cosine":
        return cosine(a.mu, b.mu)
    return (fast_mls if metric == "fastmls" else mls)(a.mu, a.sigma_sq, b.mu, b.sigma_sq)


def score_matrix(a: Embeddings, b: Embeddings, metric: Metric) -> Array:
    """(N, M) scores of every one of N faces with every one of M; raises as :func:`paired_scores`."""
    _known(metric)
    if metric == "cosine":
        return cosine_matrix(a.mu, b.mu)
    return (fast_mls_matrix if metric == "fastmls" else mls_matrix)(a.mu, a.sigma_sq, b.mu, b.sigma_sq)


def _known(metric: Metric) -> None:
    if metric not in METRICS:
        raise InvalidValue(f"metric {metric!r}: must be one of {', '.join(METRICS)}")
