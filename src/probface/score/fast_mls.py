"""FastMLS, the paper's score (Eq. 5): one variance a face, nearly as cheap as cosine.

    S_f(i, j) = -(2 - 2 cos) / t - log t,    t = sigma_i^2 + sigma_j^2

It is the mutual likelihood score of two isotropic Gaussians, times 2 / D and without its constant. ``sigma^2`` is the
variance of the whole vector; each dimension has 1 / D of it.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from probface.errors import InvalidValue
from probface.score.arrays import Array
from probface.score.cosine import cosine, cosine_matrix


def fast_mls(mu_i: Array, sigma_sq_i: Array, mu_j: Array, sigma_sq_j: Array) -> Array:
    """FastMLS of paired faces.

    Args:
        mu_i: (..., D) unit vectors, numpy or torch.
        sigma_sq_i: (..., 1) variances, positive.
        mu_j: (..., D), of a shape that broadcasts against ``mu_i``.
        sigma_sq_j: (..., 1).

    Returns:
        (...) scores; larger means more alike. At most ``-log(t)``, reached by equal means.

    Raises:
        InvalidValue: a ``sigma_sq`` has D variances a face (use :func:`probface.score.mls.mls`).
    """
    _one_variance(sigma_sq_i, sigma_sq_j)
    return fast_mls_of_cosine(cosine(mu_i, mu_j), sigma_sq_i[..., 0] + sigma_sq_j[..., 0])


def fast_mls_matrix(mu_i: Array, sigma_sq_i: Array, mu_j: Array, sigma_sq_j: Array) -> Array:
    """FastMLS of every row of (mu_i, sigma_sq_i), N faces, with every row of (mu_j, sigma_sq_j), M faces: (N, M)."""
    _one_variance(sigma_sq_i, sigma_sq_j)
    return fast_mls_of_cosine(cosine_matrix(mu_i, mu_j), sigma_sq_i + sigma_sq_j.T)


def fast_mls_of_cosine(cos: Array, t: Array) -> Array:
    """Eq. 5 itself, from the cosine and ``t``, the sum of the two variances; the shapes broadcast."""
    xp: Any = array_namespace(cos, t)
    return -distance_term(cos, t) - xp.log(t)


def distance_term(cos: Array, t: Array) -> Array:
    """``(2 - 2 cos) / t``: the squared distance of the means in units of their variance. L_Id uses it alone."""
    return (2 - 2 * cos) / t


def _one_variance(*sigma_sq: Array) -> None:
    for values in sigma_sq:
        if values.shape[-1] != 1:
            raise InvalidValue(
                f"sigma_sq of shape {tuple(values.shape)}: FastMLS takes one variance a face, (..., 1); "
                "score D variances with mls"
            )
