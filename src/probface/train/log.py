"""What training says of itself: ``log.jsonl``, TensorBoard where it is installed, and ``provenance.json``."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from probface.storage import storage_errors, write_bytes
from probface.train.recipe import Recipe

LOG_NAME = "log.jsonl"
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
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True) if self._path.exists() else []
        write_bytes(self._path, "".join(line for line in lines if _step_of(line) <= step).encode())
        self._board = _tensorboard(folder / "tensorboard", step)

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line; it has a ``step`` and numbers."""
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in line.items():
                if name not in ("step", "steps"):
                    self._board.add_scalar(name, value, line["step"])

    def close(self) -> None:
        """Finish TensorBoard's file."""
        if self._board is not None:
            self._board.close()


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


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # cut short by a kill
        return 1 << 62


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    with storage_errors(folder):
        return SummaryWriter(str(folder), purge_step=step + 1)
