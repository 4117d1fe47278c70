"""L_Id, the identity-preserving loss (section 3 of the paper): impostors stay farther than genuine faces.

    L_Id = mean over triplets of [ d_ap / (sigma_a^2 + sigma_p^2) - d_an / (sigma_a^2 + sigma_n^2) + m ]_+

Likelihood alone puts ``t`` near the distance of genuine pairs and does not look at impostors at all: an uncertain
impostor pair can then climb above a certain one (docs/formulas.md, "the direction of the score").
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from probface.errors import InvalidValue
from probface.loss.pairs import Pairs
from probface.score.cosine import cosine_matrix
from probface.score.fast_mls import distance_term

Mining = Literal["semi_hard", "all"]


def distance_matrix(mu: Tensor, log_sigma_sq: Tensor, cos: Tensor | None = None) -> Tensor:
    """(B, B) squared distances in units of the pair's variance: ``(2 - 2 cos) / t``, or its mean over D variances."""
    mu, sigma_sq = mu.detach(), log_sigma_sq.exp()
    if log_sigma_sq.shape[1] == 1:
        distance: Tensor = distance_term(cosine_matrix(mu, mu) if cos is None else cos, sigma_sq + sigma_sq.T)
        return distance
    return ((mu[:, None] - mu[None]) ** 2 / (sigma_sq[:, None] + sigma_sq[None])).mean(dim=-1)


def identity_preserving(distance: Tensor, pairs: Pairs, *, margin: float = 3.0, mining: Mining = "semi_hard") -> Tensor:
    """Triplet hinge on the distance term.

    Args:
        distance: (B, B) from :func:`distance_matrix`.
        pairs: the genuine pairs of the batch.
        margin: ``m``.
        mining: ``semi_hard``, as in the authors' code: for each genuine pair the nearest negative that is farther than
            the positive, else the farthest negative; ``all``, as in the paper: every negative.

    Returns:
        A scalar; 0 (and a zero gradient) for a batch without a triplet.

    Raises:
        InvalidValue: unknown mining.
    """
    if len(pairs.anchor) == 0 or bool(pairs.same.all()):
        return distance.sum() * 0
    if mining == "semi_hard":
        positive = distance[pairs.anchor, pairs.positive]
        negative = distance[pairs.anchor, semi_hard(distance.detach(), pairs)]
        return torch.relu(positive - negative + margin).mean()
    if mining != "all":
        raise InvalidValue(f"mining {mining!r}: must be 'semi_hard' or 'all'")
    negatives = distance.index_select(0, pairs.anchor)  # (P, B)
    forbidden = pairs.same.index_select(0, pairs.anchor)
    hinge = torch.relu((negatives.gather(1, pairs.positive[:, None]) + margin) - negatives).masked_fill(forbidden, 0)
    return hinge.sum() / (~forbidden).sum()


def contrastive(distance: Tensor, pairs: Pairs, *, margin: float = 3.0) -> Tensor:
    """The authors' other choice: mean genuine distance plus mean ``[m - distance]_+`` of the impostor pairs.

    Args:
        distance: (B, B) from :func:`distance_matrix`.
        pairs: the genuine pairs of the batch.
        margin: ``m``.

    Returns:
        A scalar; a term without pairs counts 0.
    """
    genuine = distance[pairs.anchor, pairs.positive]
    impostor = torch.relu(margin - distance[~pairs.same])
    zero = distance.sum() * 0
    return (genuine.mean() if len(genuine) else zero) + (impostor.mean() if len(impostor) else zero)


def semi_hard(distance: Tensor, pairs: Pairs) -> Tensor:
    """The negative that the authors' rule picks for each genuine pair.

    Args:
        distance: (B, B), without gradient.
        pairs: the genuine pairs, P of them.

    Returns:
        (P,) indices: the nearest negative that is farther than the positive, else the farthest negative.
    """
    impostors = distance.masked_fill(pairs.same, torch.inf)
    positive = distance[pairs.anchor, pairs.positive][:, None]
    candidates = impostors.index_select(0, pairs.anchor)  # (P, B)
    nearest, index = candidates.masked_fill_(candidates <= positive, torch.inf).min(dim=1)
    farthest = distance.masked_fill(pairs.same, -torch.inf).argmax(dim=1)
    return torch.where(torch.isinf(nearest), farthest[pairs.anchor], index)
