"""The training loop of the head: nothing but the head moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probface.errors import TrainingError
from probface.loss.identification import contrastive, distance_matrix, identity_preserving
from probface.loss.mls import mls_loss
from probface.loss.output_constraint import output_constraint
from probface.loss.pairs import Pairs
from probface.loss.ranking import ranking_loss
from probface.nn.uncertainty_head import UncertaintyHead
from probface.train import checkpoint
from probface.train.config import HeadRecipe, LossConfig, OptimiserConfig
from probface.train.feature_source import FeatureSource
from probface.train.log import TrainingLog, UnreadableImages
from probface.train.processes import seeded

CHECKPOINT_EVERY = 500
LOG_EVERY = 50


@dataclass(frozen=True, slots=True)
class StepLog:
    """One line of ``log.jsonl``: the loss and its terms, the range of sigma^2 in the batch, steps a second."""

    step: int
    steps: int
    loss: float
    likelihood: float
    constraint: float
    identification: float
    ranking: float
    sigma_sq_min: float
    sigma_sq_median: float
    sigma_sq_max: float
    steps_per_second: float


def fit_head(
    features: FeatureSource,
    recipe: HeadRecipe,
    folder: Path,
    *,
    left_out: Sequence[str] = (),
    resume: bool = False,
    progress: Callable[[StepLog], None] | None = None,
    rank: int = 0,
    device: torch.device | str = "cpu",
) -> UncertaintyHead:
    """Train a head; checkpoints and ``log.jsonl`` go to ``folder``.

    On one processor with one number of threads, the same recipe and features give the same weights bit for bit, also
    when the run was killed and resumed. With several processes each one trains the same head on the whole batch (its
    features are what is divided, see :mod:`probface.train.live`); the first one writes.

    Args:
        features: of the training images.
        recipe: all else.
        folder: that the run writes to.
        left_out: why images are not among them; kept in ``unreadable.txt``.
        resume: go on from the last checkpoint.
        progress: called with each line of the log, in the first process.
        rank: of this process.
        device: where the head learns.

    Raises:
        TrainingError: a term of the loss is not finite (named), ``resume`` meets another recipe, other images or
            another backbone, or a new run a folder with the checkpoints of another.
        DataError: too few people for a batch.
        StorageError: ``folder`` cannot be written.
    """
    config = recipe.optimiser
    head = _new_head(features, recipe).to(device)
    optimiser = sgd(head, config)
    origin = checkpoint.Origin(recipe, features.digest)
    state = checkpoint.begin(folder, origin, resume=resume)
    if state is not None:
        checkpoint.restore(state.weights, state.momentum, head, optimiser)
    first = state.step if state is not None else 0
    log = TrainingLog(folder, first) if rank == 0 else None
    unreadable = UnreadableImages(folder, rank, anew=first == 0)
    if rank == 0:
        unreadable.add(left_out)
    head.train()
    began = time.perf_counter()
    try:
        for step, batch in enumerate(features.batches(recipe, first), start=first):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, step)
            unreadable.add(batch.broken)
            pairs = genuine_pairs(batch.labels, batch.images)
            done = step + 1
            terms = training_step(head, optimiser, batch.fused, features.dim, pairs, recipe.loss, done)
            if done % LOG_EVERY == 0 or done == config.steps:
                line = _log_line(done, config.steps, terms, (done - first) / (time.perf_counter() - began))
                if log is not None:
                    log.write(asdict(line))
                    if progress is not None:
                        progress(line)
            if rank == 0 and (done % CHECKPOINT_EVERY == 0 or done == config.steps):
                checkpoint.save(folder, done, head, optimiser, origin)
    finally:
        if log is not None:
            log.close()
    return head.eval()


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The terms of one step's loss, unweighted, and the (B, W) ``log sigma^2`` that they were computed from."""

    total: Tensor
    likelihood: Tensor
    constraint: Tensor
    identification: Tensor
    ranking: Tensor
    log_sigma_sq: Tensor


def training_step(
    head: UncertaintyHead,
    optimiser: torch.optim.SGD,
    fused: Tensor,
    dim: int,
    pairs: Pairs,
    loss: LossConfig,
    number: int = 1,
) -> Terms:
    """One step of gradient descent on a batch of (B, F) fused features; the head reads as many as it is wide.

    Raises:
        TrainingError: a term of the loss is not finite; the message names it and the number of the step. The head is
            as it was before.
    """
    fused = fused.to(head.shift.device)
    mu = torch.nn.functional.normalize(fused[:, -dim:])
    terms = loss_terms(mu, head(fused[:, : head.fc1.in_features]), pairs.to(fused.device), loss)
    if not torch.isfinite(terms.total):
        _refuse(terms, number)
    optimiser.zero_grad()
    terms.total.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return terms


def loss_terms(mu: Tensor, log_sigma_sq: Tensor, pairs: Pairs, loss: LossConfig) -> Terms:
    """``L = L_S + lambda_C L_C + lambda_Id L_Id + lambda_R L_R``; a term of weight 0 is not computed."""
    cos = mu @ mu.T
    likelihood = mls_loss(mu, log_sigma_sq, pairs, over_dimensions=loss.over_dimensions, cos=cos)
    constraint = identification = ranking = torch.zeros((), device=mu.device)
    if loss.lambda_c > 0:
        constraint = output_constraint(
            log_sigma_sq, form=loss.constraint, reduction=loss.constraint_reduction, detach_mean=loss.detach_mean
        )
    if loss.lambda_id > 0:
        distance = distance_matrix(mu, log_sigma_sq, cos)
        if loss.mining == "contrastive":
            identification = contrastive(distance, pairs, margin=loss.margin)
        else:
            identification = identity_preserving(distance, pairs, margin=loss.margin, mining=loss.mining)
    if loss.lambda_rank > 0:
        ranking = ranking_loss(cos, log_sigma_sq, pairs, fmr=loss.rank_fmr, slope=loss.rank_slope)
    total = likelihood + loss.lambda_c * constraint + loss.lambda_id * identification + loss.lambda_rank * ranking
    return Terms(total, likelihood, constraint, identification, ranking, log_sigma_sq)


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


def _new_head(features: FeatureSource, recipe: HeadRecipe) -> UncertaintyHead:
    config, dim = recipe.head, features.dim
    mean = spread = None
    reads = features.width if config.embedding else features.width - dim
    if config.standardise:
        sample = np.asarray(features.sample(recipe.seed)[:, :reads], np.float64)
        mean, spread = sample.mean(axis=0), sample.std(axis=0)
        if not np.isfinite(mean).all():
            bad = int(np.flatnonzero(~np.isfinite(mean))[0])
            raise TrainingError(f"feature {bad} is not finite for some images; check the backbone and its scaling")
        spread[spread < 1e-6] = 1  # a feature that never varies tells nothing; by its spread it would only be noise
    with seeded(recipe.seed):
        return UncertaintyHead(
            reads,
            1 if config.outputs == "scalar" else dim,
            hidden=config.hidden,
            feature_mean=None if mean is None else torch.from_numpy(mean),
            feature_scale=None if spread is None else torch.from_numpy(spread),
            initial_scale=config.initial_scale,
        )


def genuine_pairs(labels: NDArray[np.int64], images: NDArray[np.int64]) -> Pairs:
    """The genuine pairs of a batch, less those of an image with its own copy: their distance says nothing."""
    pairs = Pairs.of(torch.from_numpy(labels))
    source = torch.from_numpy(images)
    other = source[pairs.anchor] != source[pairs.positive]
    return Pairs(pairs.same, pairs.anchor[other], pairs.positive[other])


def _refuse(terms: Terms, number: int) -> NoReturn:
    named = {"L_S": terms.likelihood, "L_C": terms.constraint, "L_Id": terms.identification, "L_R": terms.ranking}
    bad = [f"{name} is {value.item()}" for name, value in named.items() if not torch.isfinite(value)]
    raise TrainingError(
        f"step {number}: {', '.join(bad) or 'the sum of the terms overflows'}; lower optimiser.lr or the weight of "
        "the term, or look for NaN in the images"
    )


def _log_line(step: int, steps: int, terms: Terms, speed: float) -> StepLog:
    sigma_sq = terms.log_sigma_sq.detach().exp()
    return StepLog(
        step=step,
        steps=steps,
        loss=terms.total.item(),
        likelihood=terms.likelihood.item(),
        constraint=terms.constraint.item(),
        identification=terms.identification.item(),
        ranking=terms.ranking.item(),
        sigma_sq_min=sigma_sq.min().item(),
        sigma_sq_median=sigma_sq.median().item(),
        sigma_sq_max=sigma_sq.max().item(),
        steps_per_second=round(speed, 1),
    )
