"""Files are written whole or not at all, and the operating system's refusals become one line with the mend."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probface.errors import StorageError


@contextmanager
def storage_errors(path: Path, mend: str = "free space or choose another place") -> Iterator[None]:
    """Raise every OSError of the block as a StorageError that names ``path``, the reason and the mend."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error}); {mend}") from error


@contextmanager
def replacing(path: Path, mend: str = "free space or choose another place") -> Iterator[Path]:
    """Give the block a temporary path beside ``path``; move it into place when the block ends well.

    A reader sees the old file or the new one, never a part. After an error nothing new is left.

    Raises:
        StorageError: the folder cannot be made, the file not be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # two processes never share one
    with storage_errors(path, mend):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all; raises StorageError."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def file_digest(path: Path) -> str:
    """SHA-256 of what a file holds, in hexadecimal; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
