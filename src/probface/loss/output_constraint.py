"""L_C, the output constraint (section 2 of the paper): keep the variances of a batch near their mean."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from probface.errors import InvalidValue

Form = Literal["absolute", "squared"]
Reduction = Literal["mean", "sum"]


def output_constraint(
    log_sigma_sq: Tensor, *, form: Form = "absolute", reduction: Reduction = "mean", detach_mean: bool = True
) -> Tensor:
    """``mean_i | sigma_i^2 / sigma_avg^2 - 1 |``, with ``sigma_avg^2`` the mean of the batch.

    Args:
        log_sigma_sq: (B, 1) or (B, D).
        form: ``absolute`` as in the paper, or ``squared`` as in the authors' shipped configurations.
        reduction: ``mean`` as in the paper, or ``sum`` as in the authors' code, whose weight then depends on B.
        detach_mean: no gradient through ``sigma_avg^2``, as in the authors' code; the paper does not say.

    Returns:
        A scalar, 0 when all variances are equal.

    Raises:
        InvalidValue: unknown ``form`` or ``reduction``.
    """
    for name, value, known in (("form", form, get_args(Form)), ("reduction", reduction, get_args(Reduction))):
        if value not in known:
            raise InvalidValue(f"{name} {value!r}: must be one of {', '.join(known)}")
    sigma_sq = log_sigma_sq.exp()
    mean = sigma_sq.mean().detach() if detach_mean else sigma_sq.mean()
    deviation = sigma_sq / mean - 1
    terms = deviation.abs() if form == "absolute" else deviation.square()
    return terms.mean() if reduction == "mean" else terms.sum()
