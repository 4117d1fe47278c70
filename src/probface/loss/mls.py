"""L_S, the likelihood loss (Eq. 6): the mean negative score of the genuine pairs of a batch."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from probface.errors import InvalidValue
from probface.loss.pairs import Pairs
from probface.score.cosine import cosine
from probface.score.fast_mls import fast_mls_of_cosine

OverDimensions = Literal["mean", "sum"]


def mls_loss(
    mu: Tensor,
    log_sigma_sq: Tensor,
    pairs: Pairs,
    *,
    over_dimensions: OverDimensions = "mean",
    cos: Tensor | None = None,
) -> Tensor:
    """Mean over genuine pairs (i < j, y_i = y_j) of ``(2 - 2 cos) / t + log t``.

    With D variances (PFE) the mean over dimensions of ``(mu_il - mu_jl)^2 / t_l + log t_l`` takes its place, as in the
    authors' code, or the sum, as in PFE's. The means are frozen: no gradient flows into ``mu``.

    Args:
        mu: (B, D) unit vectors.
        log_sigma_sq: (B, 1) or (B, D).
        pairs: the genuine pairs of the batch.
        over_dimensions: what to do over D variances; nothing with one.
        cos: (B, B) cosines of ``mu``, where the caller has them already.

    Returns:
        A scalar; 0 (and a zero gradient) for a batch without a genuine pair.

    Raises:
        InvalidValue: unknown ``over_dimensions``.
    """
    if over_dimensions not in get_args(OverDimensions):
        raise InvalidValue(f"over_dimensions {over_dimensions!r}: must be 'mean' or 'sum'")
    i, j = pairs.upper
    if len(i) == 0:
        return log_sigma_sq.sum() * 0
    mu, sigma_sq = mu.detach(), log_sigma_sq.exp()
    t = sigma_sq.index_select(0, i) + sigma_sq.index_select(0, j)
    if log_sigma_sq.shape[1] == 1:
        genuine = cosine(mu[i], mu[j]) if cos is None else cos[i, j]
        loss: Tensor = -fast_mls_of_cosine(genuine, t[:, 0]).mean()
        return loss
    terms = (mu[i] - mu[j]) ** 2 / t + torch.log(t)
    return terms.mean() if over_dimensions == "mean" else terms.sum(dim=1).mean()
