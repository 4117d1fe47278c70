"""L_R, the ranking loss (ours): genuine pairs score above the impostors that decide a false-match rate.

    L_R = mean over genuine pairs g and hard impostor pairs i of  log(1 + exp(slope (S_i - S_g))) / slope

``S`` is FastMLS, and the hard impostors are the share ``fmr`` of the batch's impostor pairs with the highest scores. It
is the partial area above the ROC curve from FMR 0 to ``fmr`` (Narasimhan, Agarwal 2013), with the logistic loss for
the step. L_S fits genuine distances and never looks at impostors, L_Id looks at all of them and at the distance term
alone; this one looks at the score, where its threshold is. It needs L_S beside it: alone it learns little.
"""

from __future__ import annotations

import torch
from torch import Tensor

from probface.errors import InvalidValue
from probface.loss.pairs import Pairs
from probface.score.fast_mls import fast_mls_of_cosine


def ranking_loss(cos: Tensor, log_sigma_sq: Tensor, pairs: Pairs, *, fmr: float = 0.01, slope: float = 2.0) -> Tensor:
    """Mean logistic loss of every genuine pair against every hard impostor pair.

    Args:
        cos: (B, B) cosines of the unit means; they are frozen, no gradient flows into them.
        log_sigma_sq: (B, 1).
        pairs: the genuine pairs of the batch.
        fmr: share of the batch's impostor pairs that count, in (0, 1]; one of them at least.
        slope: of the logistic function, a unit of score; above 0.

    Returns:
        A scalar, 0 or more; 0 (and a zero gradient) for a batch without a genuine or without an impostor pair.

    Raises:
        InvalidValue: D variances a face, or ``fmr`` or ``slope`` out of range.
    """
    if log_sigma_sq.shape[1] != 1:
        raise InvalidValue(
            f"log_sigma_sq of {log_sigma_sq.shape[1]} columns: the ranking loss takes one variance a face"
        )
    if not (0 < fmr <= 1 and slope > 0):
        raise InvalidValue(f"ranking: fmr {fmr}, slope {slope}: must be in (0, 1], and above 0")
    genuine = _scores(cos, log_sigma_sq, pairs.upper)
    impostor = _scores(cos, log_sigma_sq, _impostors(pairs))
    if min(len(genuine), len(impostor)) == 0:
        return log_sigma_sq.sum() * 0
    hard = impostor.topk(max(1, int(fmr * len(impostor)))).values
    loss: Tensor = torch.nn.functional.softplus(slope * (hard[None, :] - genuine[:, None])).mean() / slope
    return loss


def _impostors(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """The unordered pairs of two people, each once."""
    first, second = torch.nonzero(torch.triu(~pairs.same, diagonal=1), as_tuple=True)
    return first, second


def _scores(cos: Tensor, log_sigma_sq: Tensor, rows: tuple[Tensor, Tensor]) -> Tensor:
    first, second = rows
    sigma_sq = log_sigma_sq[:, 0].exp()
    t = sigma_sq.index_select(0, first) + sigma_sq.index_select(0, second)
    scores: Tensor = fast_mls_of_cosine(cos.detach()[first, second], t)
    return scores
