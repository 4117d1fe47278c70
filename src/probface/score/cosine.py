"""Cosine similarity of unit means: the score that FastMLS is measured against."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from probface.score.arrays import Array


def cosine(mu_i: Array, mu_j: Array) -> Array:
    """``cos = mu_i . mu_j`` of paired rows.

    Args:
        mu_i: (..., D) unit vectors, numpy or torch.
        mu_j: (..., D), of a shape that broadcasts against ``mu_i``.

    Returns:
        (...) cosines in [-1, 1], up to rounding.
    """
    xp: Any = array_namespace(mu_i, mu_j)
    return xp.sum(mu_i * mu_j, axis=-1)


def cosine_matrix(mu_i: Array, mu_j: Array) -> Array:
    """``cos`` of every row of ``mu_i`` (N, D) with every row of ``mu_j`` (M, D): (N, M)."""
    return mu_i @ mu_j.T
