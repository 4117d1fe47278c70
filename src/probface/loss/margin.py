"""Margins for classification losses on the sphere: the cosine to a face's own class is made harder to win.

    AM-Softmax, CosFace     cos(theta) - m          (Wang et al. 2018, twice; one formula, two names)
    ArcFace                 cos(theta + m)          (Deng et al. 2019)

The logits of the softmax are ``s`` times these. Where ``theta + m`` would pass pi, ArcFace goes on with the straight
line ``cos(theta) - sin(pi - m) m``, as its authors' code does, so that the logit keeps falling.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from probface.errors import InvalidValue

Margin = Literal["cosface", "am_softmax", "arcface"]


def with_margin(own: Tensor, kind: Margin, margin: float) -> Tensor:
    """The cosines of faces to their own classes, made harder.

    Args:
        own: (B,) cosines.
        kind: ``cosface`` and ``am_softmax`` are the same.
        margin: ``m``; 0.35 is usual for CosFace and AM-Softmax, 0.5 (radians) for ArcFace.

    Returns:
        (B,), differentiable for cosines from -1 to 1.

    Raises:
        InvalidValue: unknown kind.
    """
    if kind not in get_args(Margin):
        raise InvalidValue(f"margin {kind!r}: must be one of {', '.join(get_args(Margin))}")
    if kind != "arcface":
        return own - margin
    # The root's slope is infinite at 1: kept a little away from it, as every implementation does.
    sine = torch.sqrt((1 - own.square()).clamp(min=1e-7))
    turned = own * math.cos(margin) - sine * math.sin(margin)
    return torch.where(own > math.cos(math.pi - margin), turned, own - math.sin(math.pi - margin) * margin)
