"""Where the head's training takes its fused features from: a cache on disk here, a running backbone in live.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probface.train.config import HeadRecipe
from probface.train.sampler import BalancedSampler
from probface.types import FloatArray

STANDARDISE_IMAGES = 2000
"""Images that the features' mean and spread are taken from, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBatch:
    """The whole batch of one step, of all processes together.

    Attributes:
        fused: (B, F) float32; the last D columns are the raw embedding.
        images: (B,) numbers of the images, to know copies of one image by.
        labels: (B,) the people, any numbers.
        broken: messages of images that this process could not read; others took their places.
    """

    fused: Tensor
    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    broken: tuple[str, ...] = ()


class FeatureSource(Protocol):
    """Fused features of training images.

    Attributes:
        people: (N,) int64 labels of all images.
        dim: D.
        width: F, the embedding at the end included.
        digest: of the people and the backbone; a checkpoint is not gone on with for others.
    """

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def people(self) -> NDArray[np.int64]: ...  # noqa: D102

    @property
    def dim(self) -> int: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    def sample(self, seed: int) -> FloatArray:
        """(K, F) features of some images, to standardise by."""
        ...

    def batches(self, recipe: HeadRecipe, first: int) -> Iterator[FeatureBatch]:
        """One batch for each step from ``first`` to the recipe's last; each depends on its step alone.

        Raises:
            DataError: too few people for a batch.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TrainingFeatures:
    """The cached features of all variants.

    Attributes:
        copies: one (N, F) array for each cached copy of each variant; the raw embedding is the last ``dim`` columns.
        shares: how often the sampler takes each of them.
        people: (N,) int64 labels.
        dim: D.
        digest: of the people and the backbone.
    """

    copies: Sequence[FloatArray]
    shares: Sequence[float]
    people: NDArray[np.int64]
    dim: int
    digest: str = ""

    @property
    def width(self) -> int:
        """F."""
        return int(self.copies[0].shape[1])

    def sample(self, seed: int) -> FloatArray:
        """(K, F) features of at most :data:`STANDARDISE_IMAGES` images, in all copies."""
        rng, count = np.random.default_rng(seed), len(self.people)
        rows = np.sort(rng.choice(count, min(count, STANDARDISE_IMAGES), replace=False))
        return np.concatenate([np.asarray(copy[rows]) for copy in self.copies])

    def batches(self, recipe: HeadRecipe, first: int) -> Iterator[FeatureBatch]:
        """See :class:`FeatureSource`."""
        sampler = balanced_sampler(self.people, self.shares, recipe)
        for step in range(first, recipe.optimiser.steps):
            images, variants, labels = sampler(step)
            yield FeatureBatch(self.rows(images, variants), images, labels)

    def rows(self, images: NDArray[np.int64], variants: NDArray[np.int64]) -> Tensor:
        """(B, F) features of some images, each in its variant; ``variants`` ascending, as the sampler gives them."""
        batch = np.empty((len(images), self.copies[0].shape[1]), np.float32)
        bounds = np.searchsorted(variants, np.arange(len(self.copies) + 1))
        for copy, start, stop in zip(self.copies, bounds[:-1], bounds[1:], strict=True):
            if stop > start:
                np.take(copy, images[start:stop], axis=0, out=batch[start:stop], mode="clip")
        return torch.from_numpy(batch)


def balanced_sampler(people: NDArray[np.int64], shares: Sequence[float], recipe: HeadRecipe) -> BalancedSampler:
    """The sampler of a recipe; raises DataError where there are too few people for a batch."""
    config = recipe.optimiser
    return BalancedSampler(people, shares, people=config.people, images=config.images, seed=recipe.seed)
