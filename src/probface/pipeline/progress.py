"""How long work tells what it has done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and how much there is to do."""


def silent(_label: str, _done: int, _total: int) -> None:
    """Tell nobody."""


def counted(progress: Progress, label: str, total: int) -> Callable[[int], None]:
    """For work that tells how much it did since its last call: adds that up and passes it on."""
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress(label, done, total)

    return tell
