"""Features computed while the head trains: no cache, any number of images, any number of processes.

The frozen backbone is all the work, so that is what is divided: each process reads and embeds its part of the batch,
several steps ahead in threads of its own; the features are gathered, and every process takes the same step of the same
head on the whole batch. Batch norm and the losses therefore see all of it, as with one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from probface.encoder.features import FeatureExtractor
from probface.errors import InvalidValue
from probface.pipeline.parallel import ordered_map
from probface.train.config import HeadRecipe
from probface.train.crops import CropSource, read_batch
from probface.train.feature_source import FeatureBatch, balanced_sampler
from probface.train.features import change_by
from probface.train.processes import gathered, threads_here
from probface.train.sampler import BalancedSampler
from probface.types import FloatArray, Image

STANDARDISE_IMAGES = 512


@dataclass(frozen=True, slots=True, eq=False)
class LiveFeatures:
    """Fused features of images as they are needed.

    Attributes:
        crops: the aligned faces.
        extractor: the frozen backbone, with one thread of its own; it is called by several.
        rank, ranks: this process and how many there are.
        threads: that embed at once.
        extractor_digest: of the backbone and what is read of it.
    """

    crops: CropSource
    extractor: FeatureExtractor
    rank: int = 0
    ranks: int = 1
    threads: int = field(default_factory=threads_here)
    extractor_digest: str = ""

    @property
    def digest(self) -> str:
        """Of the people and the backbone."""
        return f"{self.crops.digest} {self.extractor_digest}"

    @property
    def people(self) -> NDArray[np.int64]:
        """(N,) labels."""
        return self.crops.people

    @property
    def dim(self) -> int:
        """D."""
        return self.extractor.dim

    @property
    def width(self) -> int:
        """F."""
        return self.extractor.width

    def sample(self, seed: int) -> FloatArray:
        """(K, F) features of at most :data:`STANDARDISE_IMAGES` clean images."""
        rng, count = np.random.default_rng(seed), len(self.crops.people)
        images = np.sort(rng.choice(count, min(count, STANDARDISE_IMAGES), replace=False))
        with ThreadPoolExecutor(self.threads) as pool:
            parts = ordered_map(pool, self._embed_clean, np.array_split(images, -(-count // 64)), ahead=4)
            return np.concatenate(list(parts))

    def batches(self, recipe: HeadRecipe, first: int) -> Iterator[FeatureBatch]:
        """See :class:`probface.train.feature_source.FeatureSource`."""
        size = recipe.optimiser.people * recipe.optimiser.images
        if size % self.ranks:
            raise InvalidValue(
                f"optimiser: a batch of people x images = {size} for {self.ranks} processes: must be a multiple; "
                "change people or images"
            )
        sampler = balanced_sampler(self.crops.people, [variant.share for variant in recipe.variants], recipe)
        threads = self.threads
        with ThreadPoolExecutor(threads) as pool:
            steps = range(first, recipe.optimiser.steps)
            make = partial(self._part, recipe, sampler)
            for part in ordered_map(pool, make, steps, ahead=1 + threads):
                yield self._whole(part)

    def _part(self, recipe: HeadRecipe, sampler: BalancedSampler, step: int) -> FeatureBatch:
        images, variants, _ = sampler(step)
        each = len(images) // self.ranks
        mine = slice(self.rank * each, (self.rank + 1) * each)

        def change(image: Image, place: int) -> Image:
            number = mine.start + place
            rng = np.random.default_rng([recipe.seed, step, number])
            return change_by(recipe.variants[variants[number]].state, image, rng)

        batch = read_batch(self.crops, images[mine], change)
        return FeatureBatch(
            torch.from_numpy(self.extractor.extract(batch.crops)), batch.images, batch.people, batch.broken
        )

    def _whole(self, part: FeatureBatch) -> FeatureBatch:
        if self.ranks == 1:
            return part
        images, labels = (gathered(torch.from_numpy(numbers)).numpy() for numbers in (part.images, part.labels))
        return FeatureBatch(gathered(part.fused), images, labels, part.broken)

    def _embed_clean(self, images: NDArray[np.int64]) -> FloatArray:
        batch = read_batch(self.crops, images, lambda image, _: image)
        return self.extractor.extract(batch.crops)
