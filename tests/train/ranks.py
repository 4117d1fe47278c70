"""Several processes on this machine, joined by gloo over the loopback, for tests of what is divided over them."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def free_port() -> int:
    """A port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def loopback() -> dict[str, str]:
    """An environment whose processes speak to nothing but the loopback, each with one thread."""
    here = str(Path(__file__).parent)
    return {
        **os.environ,
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def on_ranks(module: str, function: str, ranks: int, folder: Path) -> list[Any]:
    """Call a function of a module of this folder as ``function(rank, ranks)`` on each rank; what each returned."""
    command = [sys.executable, "-m", "ranks", module, function, str(folder)]
    environment = loopback()
    started = [
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(rank), "WORLD_SIZE": str(ranks)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    for process in started:
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 0, said
    return [torch.load(folder / f"{function}-{rank}of{ranks}.pt", weights_only=False) for rank in range(ranks)]


def main(module: str, function: str, folder: str) -> None:
    """One rank."""
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    result = getattr(importlib.import_module(module), function)(rank, ranks)
    torch.save(result, Path(folder) / f"{function}-{rank}of{ranks}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
