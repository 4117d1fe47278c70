"""What training says of itself: ``log.jsonl``, TensorBoard where it is installed, what it came from, what it missed."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from probface.storage import storage_errors, write_bytes
from probface.train.board import open_board
from probface.train.recipe import Recipe

LOG_NAME = "log.jsonl"
UNREADABLE_NAME = "unreadable.txt"
_PACKAGES = ("probface", "torch", "numpy", "onnx", "onnxruntime", "safetensors", "lightning-fabric")


class TrainingLog:
    """One JSON object a line, the same numbers to TensorBoard.

    Args:
        folder: of the run; TensorBoard's files go to its subfolder ``tensorboard``.
        step: how many steps are done already; lines of later ones, of a run that was killed, are dropped.

    Raises:
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / LOG_NAME
        lines = self._path.read_bytes().splitlines() if self._path.is_file() else []
        write_bytes(self._path, b"".join(line + b"\n" for line in lines if _step_of(line) <= step))
        self._board = open_board(folder / "tensorboard", step)

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line; it has a ``step`` and numbers; raises StorageError."""
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if self._board is not None:
            self._board.write(line)

    def close(self) -> None:
        """Close TensorBoard's file; raises StorageError."""
        if self._board is not None:
            self._board.close()


class UnreadableImages:
    """``unreadable.txt``: why images of the training set could not be used, each once.

    Every process but the first has a file of its own, ``unreadable-1.txt``.

    Args:
        folder: of the run.
        rank: of the process.
        anew: forget what an earlier run wrote.

    Raises:
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, rank: int = 0, *, anew: bool = False) -> None:
        self._path = folder / (UNREADABLE_NAME if rank == 0 else f"unreadable-{rank}.txt")
        with storage_errors(self._path):
            if anew:
                self._path.unlink(missing_ok=True)
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines() if self._path.exists() else []
        self._known = set(lines)

    def add(self, messages: Iterable[str]) -> None:
        """Note some, one a line; raises StorageError."""
        new = [message for message in dict.fromkeys(messages) if message not in self._known]
        if new:
            self._known.update(new)
            with storage_errors(self._path), self._path.open("a", encoding="utf-8", errors="replace") as file:
                file.write("".join(f"{message}\n" for message in new))


def told(failed: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The messages of images that were left out, given as (name, reason)."""
    return tuple(reason if name in reason else f"{name}: {reason}" for name, reason in failed)


def write_provenance(folder: Path, recipe: Recipe) -> None:
    """Write the recipe with the exact versions and the git revision of the code, where that is known."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    record = {"recipe": json.loads(recipe.to_json()), "versions": versions, "git_revision": git_revision()}
    write_bytes(folder / "provenance.json", (json.dumps(record, indent=2) + "\n").encode())
    write_bytes(folder / "recipe.json", recipe.to_json().encode())


def git_revision() -> str | None:
    """The commit that this code was checked out from, ``+`` behind it where files were changed; None outside git."""
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", __file__)
        return _git(here, "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, or one that is not this code's
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603
    return found.stdout.strip()


def _step_of(line: bytes) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # cut short by a kill
        return 1 << 62
