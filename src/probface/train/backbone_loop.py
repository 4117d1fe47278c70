"""The loop that trains a recognition network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from probface.errors import DataError, InvalidValue, TrainingError
from probface.nn.architecture import as_module, build_backbone
from probface.nn.face_network import FaceNetwork
from probface.nn.scaling import mirrored_where, scaled
from probface.pipeline.parallel import ordered_map
from probface.train import checkpoint
from probface.train.augmentation import Augmentation
from probface.train.backbone_config import BackboneRecipe
from probface.train.class_layer import ClassLayer, run_of
from probface.train.crops import CropSource, read_batch
from probface.train.log import TrainingLog, UnreadableImages
from probface.train.processes import seed_of, seeded, threads_here
from probface.train.sampler import shuffled
from probface.train.sync_batch_norm import synchronise

CHECKPOINT_EVERY = 500
LOG_EVERY = 20


@dataclass(frozen=True, slots=True)
class BackboneLog:
    """One line of ``log.jsonl``: the loss, the learning rate, images a second over all processes."""

    step: int
    steps: int
    loss: float
    lr: float
    images_per_second: float


def fit_backbone(
    crops: CropSource,
    recipe: BackboneRecipe,
    folder: Path,
    fabric: Any,
    *,
    left_out: Sequence[str] = (),
    resume: bool = False,
    on_log: Callable[[BackboneLog], None] | None = None,
) -> FaceNetwork:
    """Train; checkpoints and the log go to ``folder``.

    Args:
        crops: the training set.
        recipe: all else.
        folder: that exists.
        fabric: from :func:`probface.train.processes.processes`.
        left_out: why images are not in it; kept in ``unreadable.txt``.
        resume: go on from the last checkpoint.
        on_log: called with each line of the log, in the first process.

    Raises:
        DataError: fewer images than a batch needs.
        InvalidValue: the batch cannot be divided over the processes and parts.
        TrainingError: a loss that is not finite, or another recipe or other identities on resume.
        StorageError: the folder cannot be written.
    """
    run = _Run(crops, recipe, folder, fabric, resume)
    config, began = recipe.optimiser, time.perf_counter()
    log = TrainingLog(folder, run.first) if fabric.global_rank == 0 else None
    if fabric.global_rank == 0:
        run.unreadable.add(left_out)
    try:
        with ThreadPoolExecutor(threads_here()) as pool, seeded(recipe.seed):
            for step, parts in run.batches(pool):
                loss = run.step(step, parts)
                done = step + 1
                if done % LOG_EVERY == 0 or done == config.steps:
                    speed = (done - run.first) * config.batch / (time.perf_counter() - began)
                    line = BackboneLog(done, config.steps, loss.item(), config.rate(step), round(speed, 1))
                    if log is not None:
                        log.write(asdict(line))
                        if on_log is not None:
                            on_log(line)
                if done % CHECKPOINT_EVERY == 0 or done == config.steps:
                    run.save(done)
    finally:
        if log is not None:
            log.close()
    return run.network


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One forward and backward pass: (b, H, W, 3) uint8 faces, (b,) labels, (b,) which to mirror; what was broken."""

    images: Tensor
    labels: Tensor
    mirror: Tensor
    broken: tuple[str, ...]


class _Run:
    """A network, its class layer and its optimiser on one process, and what they have to do in each step."""

    def __init__(self, crops: CropSource, recipe: BackboneRecipe, folder: Path, fabric: Any, resume: bool) -> None:
        self._crops, self._recipe, self._folder, self._fabric = crops, recipe, folder, fabric
        self._rank, self._ranks = fabric.global_rank, fabric.world_size
        _check_batch(recipe, len(crops.people), self._ranks)
        with seeded(recipe.seed):
            self.network = build_backbone(recipe.architecture)
        module = as_module(self.network)
        if self._ranks > 1 and recipe.sync_batch_norm:
            synchronise(module)
        self._module = module.to(fabric.device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._layer = self._class_layer().to(fabric.device)
        self._optimiser = _sgd(recipe, self._module, self._layer)
        self._origin = checkpoint.Origin(recipe, crops.digest)
        state = checkpoint.begin(folder, self._origin, resume=resume)
        self.first = state.step if state is not None else 0
        _check_common(self._ranks, self.first, folder)
        self.unreadable = UnreadableImages(folder, self._rank, anew=self.first == 0)
        if state is not None:
            self._restore(state)
        self._wrapped, self._stepper = fabric.setup(self._module, self._optimiser)

    def batches(self, pool: ThreadPoolExecutor) -> Iterator[tuple[int, list[_Part]]]:
        """The parts of each step that are this process's, made ahead by the pool."""
        accumulate = self._recipe.optimiser.accumulate
        steps = range(self.first, self._recipe.optimiser.steps)
        keys = ((step, part) for step in steps for part in range(accumulate))
        parts = ordered_map(pool, self._part, keys, ahead=threads_here() + accumulate)
        for step in steps:
            yield step, list(islice(parts, accumulate))

    def step(self, step: int, parts: list[_Part]) -> Tensor:
        """One step of gradient descent; the mean loss over all processes."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe.optimiser.rate(step)
        torch.manual_seed(seed_of(self._recipe.seed, step, self._rank))
        self._stepper.zero_grad()
        total = torch.zeros((), device=self._fabric.device)
        for number, part in enumerate(parts, start=1):
            self.unreadable.add(part.broken)
            with self._fabric.no_backward_sync(self._wrapped, enabled=number < len(parts)):
                images = scaled(part.images.to(self._fabric.device), self._recipe.architecture.input)
                images = mirrored_where(images, part.mirror.to(self._fabric.device))
                embedding, _ = self._wrapped(images)
                with torch.autocast(self._fabric.device.type, enabled=False):
                    loss = self._layer(embedding, part.labels.to(self._fabric.device)) / len(parts)
                self.finite(loss.detach(), step + 1)
                self._fabric.backward(loss)
            total += loss.detach()
        self._stepper.step()
        return total

    def finite(self, loss: Tensor, done: int) -> float:
        """The loss as a number; raises TrainingError where it is none."""
        value = float(loss)
        if not math.isfinite(value):
            kind = self._recipe.margin.kind
            raise TrainingError(f"step {done}: the {kind} loss is {value}; train anew with a lower lr or more warmup")
        return value

    def save(self, done: int) -> None:
        """Write the state: each process its run of the classes, then the first one the rest."""
        checkpoint.save_part(
            self._folder, done, self._layer, self._optimiser, self._origin, rank=self._rank, ranks=self._ranks
        )
        self._fabric.barrier()
        if self._rank == 0:
            checkpoint.save(self._folder, done, self._module, self._optimiser, self._origin)

    def _class_layer(self) -> ClassLayer:
        margin = self._recipe.margin
        return ClassLayer(
            self._crops.classes,
            self.network.dim,
            kind=margin.kind,
            margin=margin.margin,
            scale=margin.scale,
            rank=self._rank,
            ranks=self._ranks,
            seed=self._recipe.seed,
        )

    def _restore(self, state: checkpoint.Checkpoint) -> None:
        if not state.parts:
            raise TrainingError(f"{self._folder}: the class layer's part of step {state.step} is gone; train anew")
        checkpoint.restore(state.weights, state.momentum, self._module, self._optimiser)
        first, last = run_of(self._crops.classes, self._rank, self._ranks)
        weights, momentum = zip(*state.parts, strict=True)
        checkpoint.restore(
            checkpoint.joined(weights, first, last),
            checkpoint.joined(momentum, first, last),
            self._layer,
            self._optimiser,
        )

    def _part(self, key: tuple[int, int]) -> _Part:
        step, part = key
        recipe = self._recipe
        images = shuffled(len(self._crops.people), recipe.optimiser.batch, recipe.seed, step)
        each = len(images) // (self._ranks * recipe.optimiser.accumulate)
        start = (self._rank * recipe.optimiser.accumulate + part) * each
        change = Augmentation(recipe.augment, recipe.seed, step, len(images), start)
        batch = read_batch(self._crops, images[start : start + each], change)
        mirror = torch.from_numpy(change.mirror[:each])
        return _Part(torch.from_numpy(batch.crops), torch.from_numpy(batch.people), mirror, batch.broken)


def _check_common(ranks: int, first: int, folder: Path) -> None:
    if ranks == 1:
        return
    steps: list[int] = [0] * ranks
    dist.all_gather_object(steps, first)
    if len(set(steps)) > 1:
        raise TrainingError(
            f"{folder}: the processes find checkpoints of steps {sorted(set(steps))}; give all machines one folder"
        )


def _check_batch(recipe: BackboneRecipe, images: int, ranks: int) -> None:
    batch, parts = recipe.optimiser.batch, ranks * recipe.optimiser.accumulate
    if batch % parts or batch < 2 * parts:
        raise InvalidValue(
            f"optimiser.batch {batch}: must be a multiple of processes x accumulate = {parts}, with two images or more "
            "in each part (BatchNorm); change one of them"
        )
    if images < batch:
        raise DataError(f"{images} images: a batch needs {batch}; bring more images, or set optimiser.batch lower")


def _sgd(recipe: BackboneRecipe, *modules: torch.nn.Module) -> torch.optim.SGD:
    config = recipe.optimiser
    parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
