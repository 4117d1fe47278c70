"""One process or many: Lightning Fabric over whatever started us (``torchrun``, or nothing)."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist

from probface.encoder.session import WITH_DEVICES, available_cores
from probface.errors import InvalidValue, MissingExtra, ProviderUnavailable

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}

Device = Literal["auto", "cpu", "cuda"]

PATIENCE = timedelta(days=7)
"""How long a process waits for the others: the first one alone finds the faces of a large set, and calibrates."""


@contextmanager
def processes(precision: str = "float32", device: Device = "auto") -> Iterator[Any]:
    """Give the block a Fabric, and end its process group cleanly, so that every rank exits with 0.

    Under ``torchrun`` each process joins the group that it describes; otherwise there is one process.

    Raises:
        MissingExtra: lightning-fabric is not installed.
        ProviderUnavailable: ``cuda`` without a GPU for each process of this machine.
        InvalidValue: float16 on a processor.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from lightning_fabric import Fabric
            from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise MissingExtra("training needs lightning-fabric; pip install 'probface[train]'") from error
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces each setting on standard error
    ranks, here = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    accelerator = _accelerator(device, here)
    if precision == "float16" and accelerator == "cpu":
        raise InvalidValue("precision 'float16': needs a GPU; choose bfloat16 or float32 on a processor")
    # Head training gathers what lies in main memory, whatever the network's device is.
    backend = "cpu:gloo,cuda:nccl" if accelerator == "cuda" else "gloo"
    fabric = Fabric(
        accelerator=accelerator,
        devices=here,
        num_nodes=max(1, ranks // here),
        strategy=DDPStrategy(process_group_backend=backend, timeout=PATIENCE) if ranks > 1 else "auto",
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


def gathered(rows: torch.Tensor) -> torch.Tensor:
    """(b, ...) rows of every process, in the order of the ranks; b is the same for all."""
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def threads_here() -> int:
    """How many threads this process may keep busy: its share of the cores."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def provider_here(provider: str) -> str:
    """The execution provider of this process: with several on one machine, each has the device of its own number."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and provider in WITH_DEVICES
    return f"{provider}:{os.environ.get('LOCAL_RANK', '0')}" if several else provider


def _accelerator(device: Device, processes_here: int) -> Literal["cpu", "cuda"]:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and found < processes_here:
        raise ProviderUnavailable(
            f"device 'cuda': {found} GPUs for {processes_here} processes on this machine, must be one each; start "
            "fewer, or choose cpu"
        )
    return "cuda" if device != "cpu" and found >= processes_here else "cpu"


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
