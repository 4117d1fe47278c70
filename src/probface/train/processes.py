"""One process or many: Lightning Fabric over whatever started us (``torchrun``, or nothing)."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist

from probface.errors import MissingExtra

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}

Device = Literal["auto", "cpu", "cuda"]


@contextmanager
def processes(precision: str = "float32", device: Device = "auto") -> Iterator[Any]:
    """Give the block a Fabric, and end its process group cleanly, so that every rank exits with 0.

    Under ``torchrun`` each process joins the group that it describes; otherwise there is one process.

    Raises:
        MissingExtra: lightning-fabric is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from lightning_fabric import Fabric
    except ImportError as error:
        raise MissingExtra("training needs lightning-fabric; pip install 'probface[train]'") from error
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces each setting on standard error
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=device,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=max(1, ranks // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        strategy="ddp" if ranks > 1 else "auto",
        precision=_PRECISION[precision],  # type: ignore[arg-type]
    )
    began = not dist.is_initialized()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning_fabric")
        fabric.launch()
    try:
        yield fabric
        if ranks > 1:
            fabric.barrier()
    finally:
        # A gloo group that is still open when the interpreter ends may abort the process after all work is done.
        if began and dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers from ``seed`` within the block; afterwards they go on as if nothing had been."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def seed_of(seed: int, step: int, rank: int) -> int:
    """A seed for what is drawn in one step on one rank (dropout)."""
    return random.Random(f"{seed} {step} {rank}").getrandbits(63)  # noqa: S311  nothing secret
