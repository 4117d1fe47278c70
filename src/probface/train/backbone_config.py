"""The recipe of a recognition network trained from scratch: one small TOML file, strictly read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from probface.errors import InvalidValue
from probface.loss.margin import Margin
from probface.nn.architecture import Architecture
from probface.train.config import DataConfig, check_schedule
from probface.train.recipe import Recipe, find_recipe, read_toml


@dataclass(frozen=True, slots=True)
class MarginConfig:
    """The classification loss, see :mod:`probface.loss.margin`."""

    kind: Margin = "cosface"
    margin: float = 0.35
    scale: float = 64.0

    def __post_init__(self) -> None:
        if not (0 <= self.margin < 3 and self.scale > 0):
            raise InvalidValue(f"margin {self.margin}, scale {self.scale}: must be 0 to 3, and above 0")


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """What happens to an image before the network sees it; each draw depends on (seed, step, place in the batch).

    Attributes:
        mirror: the share of images mirrored.
        degraded: the share degraded moderately, see :mod:`probface.face.degrade`; none in the paper.
    """

    mirror: float = 0.5
    degraded: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.mirror <= 1 and 0 <= self.degraded <= 1):
            raise InvalidValue(f"augment: mirror {self.mirror}, degraded {self.degraded}: must be shares from 0 to 1")


@dataclass(frozen=True, slots=True)
class BackboneOptimiser:
    """SGD with momentum.

    Attributes:
        steps: how many.
        batch: images in a step, over all processes and all accumulated parts.
        accumulate: how many parts a process's share of the batch is computed in; less memory, and each part has batch
            norm statistics of its own.
        lr: after ``warmup`` steps of linear rise; then multiplied by ``decay`` at each of ``milestones`` (shares of
            ``steps``).
        weight_decay: on all weights.
        precision: of the network's products; the class layer and the loss are always float32. float16's loss scale is
            no part of a checkpoint: a resumed run finds it anew.
    """

    steps: int = 10_000
    batch: int = 128
    accumulate: int = 1
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: int = 0
    milestones: tuple[float, ...] = (0.5, 0.75, 0.9)
    decay: float = 0.1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        if min(self.steps, self.accumulate) < 1 or self.batch < 2 or self.warmup < 0 or not self.lr > 0:
            raise InvalidValue(
                "optimiser: steps and accumulate must be 1 or more, batch 2 or more, warmup 0 or more, lr above 0"
            )
        check_schedule(self.momentum, self.weight_decay, self.milestones)

    def rate(self, step: int) -> float:
        """The learning rate at a step, from 0."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        passed = sum(step >= milestone * self.steps for milestone in self.milestones)
        return float(self.lr * rise * self.decay**passed)


@dataclass(frozen=True, slots=True)
class BackboneData:
    """Which images train: by default all of everybody.

    Attributes:
        layout: ``folders``, one folder a person, or ``lfw``, with the folds of ``people.txt``.
        train_folds: folds (1..10) whose people train; leave some out to judge on.
        images_per_person: at most so many, the first by name.
        aligned: the images are aligned faces already; no detection.
        missing: what becomes of files that a list names and that are not there: ``error``, or ``skip``.
    """

    layout: Literal["lfw", "folders"] = "folders"
    train_folds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    images_per_person: int = 1_000_000
    aligned: bool = False
    missing: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        self.split()  # has the same rules

    def split(self) -> DataConfig:
        """The same as :func:`probface.train.data.split` takes it: nobody calibrates."""
        return DataConfig(
            self.layout,
            train_folds=self.train_folds,
            calibration_folds=(),
            images_per_person=self.images_per_person,
            aligned=self.aligned,
            missing=self.missing,
        )


@dataclass(frozen=True, slots=True)
class BackboneRecipe(Recipe):
    """All that makes a backbone, but the images themselves.

    Attributes:
        sync_batch_norm: with several processes, batch norm over all of them, as if there were one; else each its own,
            which is faster.
    """

    data: BackboneData = field(default_factory=BackboneData)
    architecture: Architecture = field(default_factory=Architecture)
    margin: MarginConfig = field(default_factory=MarginConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: BackboneOptimiser = field(default_factory=BackboneOptimiser)
    sync_batch_norm: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InvalidValue(f"seed {self.seed}: must be 0 or more")


def read_backbone_recipe(recipe: str | os.PathLike[str]) -> BackboneRecipe:
    """Read a recognition network's recipe: one that is shipped, by its name, or a TOML file.

    Raises:
        DataError: no such name or file, or not TOML.
        InvalidValue: an unknown key, a wrong type or a value out of range.
    """
    return read_toml(find_recipe(recipe, "backbones"), BackboneRecipe)
