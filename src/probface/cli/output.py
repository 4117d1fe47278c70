"""What verbs print: JSON for machines, text for people, progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from probface.types import Face


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=2, allow_nan=False))


def warn(message: str) -> None:
    """One line on standard error."""
    print(f"probface: warning: {printable(message)}", file=sys.stderr)


def printable(text: str) -> str:
    """A text from a file as it may go to a terminal: what would steer it, or turn the line about, is spelt out."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def face_document(face: Face | None) -> dict[str, Any]:
    """Box, landmarks and detector score as JSON knows them; nulls for a crop that was aligned already."""
    if face is None:
        return {"box": None, "landmarks": None, "detector_score": None}
    return {
        "box": [round(value, 2) for value in face.box],
        "landmarks": [[round(x, 2), round(y, 2)] for x, y in face.landmarks],
        "detector_score": round(face.detector_score, 4),
    }


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress display on standard error, silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


class Bars:
    """One bar for each thing that is being done."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int, text: str | None = None) -> None:
        """Move the bar of ``label`` to ``done`` of ``total``, ``text`` beside it."""
        if label not in self._tasks:
            self._tasks[label] = self._bar.add_task(label, total=total)
        self._bar.update(self._tasks[label], completed=done, description=text or label)
