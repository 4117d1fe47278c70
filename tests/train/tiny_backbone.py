"""A recognition network small enough to be trained in a second or two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from probface.nn.architecture import Architecture
from probface.train.backbone_config import (
    AugmentConfig,
    BackboneData,
    BackboneOptimiser,
    BackboneRecipe,
    MarginConfig,
)

PEOPLE, IMAGES = 8, 5

TINY = BackboneRecipe(
    "tiny",
    data=BackboneData(aligned=True),
    architecture=Architecture("resface20", width=1 / 16, dim=16),
    margin=MarginConfig(margin=0.2, scale=8.0),
    augment=AugmentConfig(mirror=0.0),
    optimiser=BackboneOptimiser(steps=40, batch=16, milestones=(0.75,)),
)


def tiny(recipe: BackboneRecipe = TINY, **optimiser: Any) -> BackboneRecipe:
    """The recipe with another optimiser."""
    return replace(recipe, optimiser=replace(recipe.optimiser, **optimiser))
