"""The mutual likelihood score of PFE (Shi and Jain, ICCV 2019), for D variances and for one.

    S_D = -1/2 sum_l [ (mu_il - mu_jl)^2 / t_l + log t_l ] - D/2 log 2 pi,      t_l = sigma_il^2 + sigma_jl^2
    S_1 = -D/2 [ (2 - 2 cos) / t + log t ] - D/2 log(2 pi / D),                 t = sigma_i^2 + sigma_j^2

S_1 is S_D with ``t_l = t / D``. Its factor apart, S_1 is FastMLS, so the two rank alike. Other programs keep other
scales: PFE's code gives 2 S_D, ProbFace's code the mean over dimensions instead of the sum; both drop the constant,
as this module does unless ``normalised`` is set.
"""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import array_namespace

from probface.errors import InvalidValue
from probface.score.arrays import Array
from probface.score.fast_mls import fast_mls, fast_mls_matrix

BLOCK_ELEMENTS = 1 << 22
"""Largest (rows, M, D) block that :func:`mls_matrix` holds at once."""


def mls(mu_i: Array, sigma_sq_i: Array, mu_j: Array, sigma_sq_j: Array, *, normalised: bool = False) -> Array:
    """MLS of paired faces.

    Args:
        mu_i: (..., D) unit vectors, numpy or torch.
        sigma_sq_i: (..., 1), the variance of the whole vector, or (..., D), one for each dimension; positive.
        mu_j: (..., D).
        sigma_sq_j: as wide as ``sigma_sq_i``.
        normalised: keep the constant, so that the result is a true log-likelihood.

    Returns:
        (...) log-likelihoods that both images show one point; larger means more alike.

    Raises:
        InvalidValue: the widths of the two ``sigma_sq`` differ, or are neither 1 nor D.
    """
    dim = mu_i.shape[-1]
    if _width(sigma_sq_i, sigma_sq_j, dim) == 1:
        score = fast_mls(mu_i, sigma_sq_i, mu_j, sigma_sq_j) * (dim / 2)
        return score - _constant(1, dim) if normalised else score
    xp: Any = array_namespace(mu_i, mu_j)
    t = sigma_sq_i + sigma_sq_j
    score = -0.5 * xp.sum((mu_i - mu_j) ** 2 / t + xp.log(t), axis=-1)
    return score - _constant(dim, dim) if normalised else score


def mls_matrix(mu_i: Array, sigma_sq_i: Array, mu_j: Array, sigma_sq_j: Array, *, normalised: bool = False) -> Array:
    """MLS of every one of N faces with every one of M faces: (N, M). D variances are worked off in blocks of rows."""
    dim = mu_i.shape[-1]
    if _width(sigma_sq_i, sigma_sq_j, dim) == 1:
        score = fast_mls_matrix(mu_i, sigma_sq_i, mu_j, sigma_sq_j) * (dim / 2)
        return score - _constant(1, dim) if normalised else score
    xp: Any = array_namespace(mu_i, mu_j)
    rows = max(1, BLOCK_ELEMENTS // max(1, mu_j.shape[0] * dim))
    blocks = [
        mls(
            mu_i[k : k + rows, None],
            sigma_sq_i[k : k + rows, None],
            mu_j[None],
            sigma_sq_j[None],
            normalised=normalised,
        )
        for k in range(0, mu_i.shape[0], rows)
    ]
    return xp.concat(blocks, axis=0)


def _width(sigma_sq_i: Array, sigma_sq_j: Array, dim: int) -> int:
    widths = {int(sigma_sq_i.shape[-1]), int(sigma_sq_j.shape[-1])}
    if len(widths) != 1 or not widths <= {1, dim}:
        raise InvalidValue(
            f"sigma_sq of widths {sigma_sq_i.shape[-1]} and {sigma_sq_j.shape[-1]}: both must be 1, or both D = {dim}"
        )
    return widths.pop()


def _constant(width: int, dim: int) -> float:
    return dim / 2 * math.log(2 * math.pi / (dim if width == 1 else 1))
