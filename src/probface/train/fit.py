"""The training loop of the head on cached features: nothing but the head moves."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probface.errors import TrainingError
from probface.loss.identification import distance_matrix, identity_preserving
from probface.loss.mls import mls_loss
from probface.loss.output_constraint import output_constraint
from probface.loss.pairs import Pairs
from probface.nn.uncertainty_head import UncertaintyHead
from probface.storage import storage_errors
from probface.train import checkpoint
from probface.train.config import HeadRecipe, LossConfig, OptimiserConfig
from probface.train.sampler import BalancedSampler
from probface.types import FloatArray

CHECKPOINT_EVERY = 500
LOG_EVERY = 50
STANDARDISE_IMAGES = 2000
"""Images that the features' mean and spread are taken from."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingFeatures:
    """The cached features of all variants.

    Attributes:
        copies: one (N, F) array for each cached copy of each variant; the raw embedding is the last ``dim`` columns.
        shares: how often the sampler takes each of them.
        people: (N,) int64 labels.
        dim: D.
    """

    copies: Sequence[FloatArray]
    shares: Sequence[float]
    people: NDArray[np.int64]
    dim: int

    def rows(self, images: NDArray[np.int64], variants: NDArray[np.int64]) -> Tensor:
        """(B, F) features of some images, each in its variant; ``variants`` ascending, as the sampler gives them."""
        batch = np.empty((len(images), self.copies[0].shape[1]), np.float32)
        bounds = np.searchsorted(variants, np.arange(len(self.copies) + 1))
        for copy, start, stop in zip(self.copies, bounds[:-1], bounds[1:], strict=True):
            if stop > start:
                np.take(copy, images[start:stop], axis=0, out=batch[start:stop], mode="clip")
        return torch.from_numpy(batch)


@dataclass(frozen=True, slots=True)
class StepLog:
    """One line of ``log.jsonl``: the loss and its terms, the range of sigma^2 in the batch, steps a second."""

    step: int
    steps: int
    loss: float
    likelihood: float
    constraint: float
    identification: float
    sigma_sq_min: float
    sigma_sq_median: float
    sigma_sq_max: float
    steps_per_second: float


def fit_head(
    features: TrainingFeatures,
    recipe: HeadRecipe,
    folder: Path,
    *,
    resume: bool = False,
    progress: Callable[[StepLog], None] | None = None,
) -> UncertaintyHead:
    """Train a head; checkpoints and ``log.jsonl`` go to ``folder``.

    On one machine with one number of threads, the same recipe and features give the same weights bit for bit, also
    when the run was killed and resumed.

    Raises:
        TrainingError: a term of the loss is not finite (named), or ``resume`` meets another recipe.
        DataError: too few people for a batch.
        StorageError: ``folder`` cannot be written.
    """
    config = recipe.optimiser
    sampler = BalancedSampler(
        features.people, features.shares, people=config.people, images=config.images, seed=recipe.seed
    )
    head = _new_head(features, recipe)
    optimiser = sgd(head, config)
    state = checkpoint.latest(folder, recipe) if resume else None
    if state is not None:
        checkpoint.restore(state.weights, state.momentum, head, optimiser)
    first = state.step if state is not None else 0
    if first == 0:
        _write_log(folder, "w", "")
    head.train()
    began = time.perf_counter()
    for step in range(first, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, step)
        images, variants, labels = sampler(step)
        fused, pairs = features.rows(images, variants), genuine_pairs(labels, images)
        terms = training_step(head, optimiser, fused, features.dim, pairs, recipe.loss)
        if (step + 1) % LOG_EVERY == 0 or step + 1 == config.steps:
            speed = (step + 1 - first) / (time.perf_counter() - began)
            line = _log_line(step + 1, config.steps, terms, speed)
            _write_log(folder, "a", json.dumps(asdict(line)) + "\n")
            if progress is not None:
                progress(line)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == config.steps:
            checkpoint.save(folder, step + 1, head, optimiser, recipe)
    return head.eval()


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The terms of one step's loss, unweighted, and the (B, W) ``log sigma^2`` that they were computed from."""

    total: Tensor
    likelihood: Tensor
    constraint: Tensor
    identification: Tensor
    log_sigma_sq: Tensor


def training_step(
    head: UncertaintyHead, optimiser: torch.optim.SGD, fused: Tensor, dim: int, pairs: Pairs, loss: LossConfig
) -> Terms:
    """One step of gradient descent on a batch of (B, F) fused features."""
    mu = torch.nn.functional.normalize(fused[:, -dim:])
    terms = loss_terms(mu, head(fused), pairs, loss)
    optimiser.zero_grad()
    terms.total.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return terms


def loss_terms(mu: Tensor, log_sigma_sq: Tensor, pairs: Pairs, loss: LossConfig) -> Terms:
    """``L = L_S + lambda_C L_C + lambda_Id L_Id``; a term of weight 0 is not computed."""
    cos = mu @ mu.T
    likelihood = mls_loss(mu, log_sigma_sq, pairs, over_dimensions=loss.over_dimensions, cos=cos)
    constraint = identification = torch.zeros(())
    if loss.lambda_c > 0:
        constraint = output_constraint(log_sigma_sq, form=loss.constraint, reduction=loss.constraint_reduction)
    if loss.lambda_id > 0:
        distance = distance_matrix(mu, log_sigma_sq, cos)
        identification = identity_preserving(distance, pairs, margin=loss.margin, mining=loss.mining)
    total = likelihood + loss.lambda_c * constraint + loss.lambda_id * identification
    return Terms(total, likelihood, constraint, identification, log_sigma_sq)


def sgd(head: UncertaintyHead, config: OptimiserConfig) -> torch.optim.SGD:
    """SGD with momentum; weight decay on the fully connected weights only."""
    decayed = [head.fc1.weight, head.fc2.weight]
    others = [p for p in head.parameters() if all(p is not q for q in decayed)]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)


def learning_rate(config: OptimiserConfig, step: int) -> float:
    """The rate at a step, from 0."""
    passed = sum(step >= milestone * config.steps for milestone in config.milestones)
    return float(config.lr * config.decay**passed)


def _new_head(features: TrainingFeatures, recipe: HeadRecipe) -> UncertaintyHead:
    rng = np.random.default_rng(recipe.seed)
    count = len(features.people)
    rows = np.sort(rng.choice(count, min(count, STANDARDISE_IMAGES), replace=False))
    sample = np.concatenate([np.asarray(copy[rows], np.float64) for copy in features.copies])
    mean, spread = sample.mean(axis=0), sample.std(axis=0)
    if not np.isfinite(mean).all():
        bad = int(np.flatnonzero(~np.isfinite(mean))[0])
        raise TrainingError(f"feature {bad} is not finite for some images; check the backbone and its input scaling")
    spread[spread < 1e-6] = 1  # a feature that never varies tells nothing; dividing by its spread would only add noise
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return UncertaintyHead(
            sample.shape[1],
            1 if recipe.head.outputs == "scalar" else features.dim,
            hidden=recipe.head.hidden,
            feature_mean=torch.from_numpy(mean),
            feature_scale=torch.from_numpy(spread),
        )


def genuine_pairs(labels: NDArray[np.int64], images: NDArray[np.int64]) -> Pairs:
    """The genuine pairs of a batch, less those of an image with its own copy: their distance says nothing."""
    pairs = Pairs.of(torch.from_numpy(labels))
    source = torch.from_numpy(images)
    other = source[pairs.anchor] != source[pairs.positive]
    return Pairs(pairs.same, pairs.anchor[other], pairs.positive[other])


def _write_log(folder: Path, mode: Literal["a", "w"], text: str) -> None:
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.jsonl").open(mode, encoding="utf-8") as log:
            log.write(text)


def _log_line(step: int, steps: int, terms: Terms, speed: float) -> StepLog:
    named = {
        "L_S": float(terms.likelihood.detach()),
        "L_C": float(terms.constraint.detach()),
        "L_Id": float(terms.identification.detach()),
    }
    for name, value in named.items():
        if not math.isfinite(value):
            raise TrainingError(f"step {step}: {name} is {value}; lower optimiser.lr, or look for NaN in the images")
    sigma_sq = terms.log_sigma_sq.detach().exp()
    low, middle, high = (float(q) for q in (sigma_sq.min(), sigma_sq.median(), sigma_sq.max()))
    return StepLog(
        step=step,
        steps=steps,
        loss=float(terms.total.detach()),
        likelihood=named["L_S"],
        constraint=named["L_C"],
        identification=named["L_Id"],
        sigma_sq_min=low,
        sigma_sq_median=middle,
        sigma_sq_max=high,
        steps_per_second=round(speed, 1),
    )
