"""The recipe of an uncertainty head: one small TOML file, strictly read, saved beside the weights that it made."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from probface.contract import Rescaling
from probface.errors import InvalidValue
from probface.face.degrade import MIXTURES
from probface.loss.mls import OverDimensions
from probface.loss.output_constraint import Form, Reduction
from probface.train.recipe import Recipe, find_recipe, read_toml


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which images train the head, and which people are kept apart to measure thresholds.

    Attributes:
        layout: ``lfw``, split by the folds of ``people.txt``; or ``folders``, one folder a person, split by a hash of
            the person's name.
        train_folds: folds (1..10) whose people train.
        calibration_folds: folds whose people set thresholds, quality and histograms; never any of ``train_folds``.
        images_per_person: at most so many images of one person train, the first by name.
        calibration_images_per_person: the same for calibration; few, or one person makes most of the genuine pairs.
        calibration_people: at most so many people calibrate, the first by name; pairs grow with their square.
        aligned: the images are aligned faces already; no detection.
        missing: what becomes of files that a list names and that are not there: ``error``, or ``skip`` them with a
            count.
    """

    layout: Literal["lfw", "folders"] = "folders"
    train_folds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    calibration_folds: tuple[int, ...] = (8, 9, 10)
    images_per_person: int = 30
    calibration_images_per_person: int = 4
    calibration_people: int = 2000
    aligned: bool = False
    missing: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        both = set(self.train_folds) & set(self.calibration_folds)
        if both:
            raise InvalidValue(f"data: fold {min(both)} both trains and calibrates; give each fold one use")
        if not {*self.train_folds, *self.calibration_folds} <= set(range(1, 11)):
            raise InvalidValue("data: folds are numbered 1 to 10")
        if self.images_per_person < 2 or min(self.calibration_images_per_person, self.calibration_people) < 1:
            raise InvalidValue(
                "data: images_per_person must be 2 or more, the numbers of calibration images and people 1 or more"
            )


@dataclass(frozen=True, slots=True)
class Variant:
    """How many copies of every image the cache holds in one state, and how often the sampler takes one of them.

    Attributes:
        state: ``clean``, ``mirror``, or a mixture of :data:`probface.face.degrade.MIXTURES`.
        copies: how many, each with its own random degradation.
        share: of the images in a batch; all shares together are normalised.
    """

    state: str
    copies: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        known = ("clean", "mirror", *MIXTURES)
        if self.state not in known:
            raise InvalidValue(f"variant {self.state!r}: must be one of {', '.join(known)}")
        if self.copies < 1 or not self.share > 0:
            raise InvalidValue(f"variant {self.state!r}: copies must be 1 or more, share above 0")


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """The head and what it reads.

    Attributes:
        fusion: read the pooled last activation of each resolution.
        flatten_last: read the flattened last convolution, as the paper; a wide and slow head.
        embedding: read the raw embedding; the paper does not.
        taps: names of the tensors to fuse instead of those found.
        outputs: ``scalar``, one variance a face (ProbFace), or ``diagonal``, one for each dimension (PFE).
        hidden: width of the first layer; PFE's is as wide as D.
        standardise: start with the features at mean 0 and spread 1 over the training set; the paper does not.
        initial_scale: of the learnt scalar; PFE's own recipe starts at 1e-4.
    """

    fusion: bool = True
    flatten_last: bool = False
    embedding: bool = True
    taps: tuple[str, ...] = ()
    outputs: Literal["scalar", "diagonal"] = "scalar"
    hidden: int = 256
    standardise: bool = True
    initial_scale: float = 0.1

    def __post_init__(self) -> None:
        if not (self.fusion or self.flatten_last or self.embedding):
            raise InvalidValue("head: reads nothing; set fusion, flatten_last or embedding")
        if self.hidden < 1 or not self.initial_scale > 0:
            raise InvalidValue(f"head: hidden {self.hidden}, initial_scale {self.initial_scale}: must be above 0")


Identification = Literal["semi_hard", "all", "contrastive"]
"""Triplets as the authors' code mines them, all triplets as the paper, or the authors' contrastive form."""


@dataclass(frozen=True, slots=True)
class LossConfig:
    """``L = L_S + lambda_c L_C + lambda_id L_Id`` (section 4 of the paper), the variants of each term, and one of ours.

    Attributes:
        lambda_c, lambda_id: the weights; a term of weight 0 is not computed.
        lambda_rank: the weight of L_R, which the paper does not have; for one variance a face.
        rank_fmr, rank_slope: see :func:`probface.loss.ranking.ranking_loss`.
        constraint, constraint_reduction, detach_mean: see :func:`probface.loss.output_constraint.output_constraint`.
        margin, mining: see :func:`probface.loss.identification.identity_preserving`; ``contrastive`` takes its place.
        over_dimensions: see :func:`probface.loss.mls.mls_loss`.
    """

    lambda_c: float = 0.0
    lambda_id: float = 0.0
    lambda_rank: float = 0.0
    rank_fmr: float = 0.01
    rank_slope: float = 2.0
    constraint: Form = "absolute"
    constraint_reduction: Reduction = "mean"
    detach_mean: bool = True
    margin: float = 3.0
    mining: Identification = "semi_hard"
    over_dimensions: OverDimensions = "mean"

    def __post_init__(self) -> None:
        for name in ("lambda_c", "lambda_id", "lambda_rank"):
            if getattr(self, name) < 0:
                raise InvalidValue(f"loss: {name} {getattr(self, name)}: must be 0 or more")
        if not (0 < self.rank_fmr <= 1 and self.rank_slope > 0):
            raise InvalidValue(
                f"loss: rank_fmr {self.rank_fmr}, rank_slope {self.rank_slope}: must be in (0, 1], and above 0"
            )


def check_schedule(momentum: float, weight_decay: float, milestones: tuple[float, ...]) -> None:
    """Raise InvalidValue unless SGD takes these, and the milestones are rising shares."""
    if not 0 <= momentum < 1 or weight_decay < 0:
        raise InvalidValue(
            f"optimiser: momentum {momentum}, weight_decay {weight_decay}: must be 0 to 1, and 0 or more"
        )
    if list(milestones) != sorted(milestones) or not all(0 < milestone < 1 for milestone in milestones):
        raise InvalidValue(f"optimiser: milestones {milestones}: must be rising shares of the steps, between 0 and 1")


@dataclass(frozen=True, slots=True)
class OptimiserConfig:
    """SGD with momentum over identity-balanced batches.

    Attributes:
        steps: how many.
        people, images: a batch is ``people`` x ``images``.
        lr: at the start; multiplied by ``decay`` at each of ``milestones`` (shares of ``steps``).
        weight_decay: on the fully connected weights only.
    """

    steps: int = 2000
    people: int = 32
    images: int = 4
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1

    def __post_init__(self) -> None:
        if min(self.steps, self.people, self.images) < 1 or not self.lr > 0:
            raise InvalidValue("optimiser: steps, people and images must be 1 or more, lr above 0")
        check_schedule(self.momentum, self.weight_decay, self.milestones)
        if self.people * self.images < 2:
            raise InvalidValue("optimiser: a batch needs two images or more (BatchNorm)")


@dataclass(frozen=True, slots=True)
class HeadRecipe(Recipe):
    """All that makes a head, but the backbone and the images themselves.

    Attributes:
        features: ``cached``, the backbone's outputs are computed once and kept on disk: fast, for thousands of images;
            or ``live``, computed in every step: for millions, and the only way with several processes.
        variants: the states of the images; live training takes their shares, and draws each image afresh.
    """

    data: DataConfig = field(default_factory=DataConfig)
    variants: tuple[Variant, ...] = (
        Variant("clean", share=0.125),
        Variant("mirror", share=0.125),
        Variant("moderate", copies=4, share=0.45),
        Variant("composed", copies=2, share=0.15),
        Variant("extreme", copies=2, share=0.15),
    )
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    features: Literal["cached", "live"] = "cached"
    rescaling: Rescaling = field(default_factory=Rescaling)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InvalidValue(f"seed {self.seed}: must be 0 or more")
        if not self.data.calibration_folds:
            raise InvalidValue("data.calibration_folds: none; a head needs people to measure its thresholds on")
        if self.loss.lambda_rank > 0 and self.head.outputs != "scalar":
            raise InvalidValue(f"loss: lambda_rank {self.loss.lambda_rank} with outputs 'diagonal': must be 0 there")
        states = [variant.state for variant in self.variants]
        if "clean" not in states or len(set(states)) != len(states):
            raise InvalidValue(f"variants {states}: each state once, and 'clean' among them")


def read_recipe(recipe: str | os.PathLike[str]) -> HeadRecipe:
    """Read a head's recipe: one that is shipped, by its name, or a TOML file.

    Raises:
        DataError: no such name or file, or not TOML.
        InvalidValue: an unknown key, a wrong type or a value out of range.
    """
    return read_toml(find_recipe(recipe, "."), HeadRecipe)
