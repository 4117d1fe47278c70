"""A lock that many readers share and a writer has alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Sharing:
    """Readers run side by side; a writer waits for those that are in, and those that come later wait for it."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._readers = 0
        self._writers = 0  # waiting or in

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Nothing is changed during the block."""
        with self._turn:
            self._turn.wait_for(lambda: not self._writers)
            self._readers += 1
        try:
            yield
        finally:
            with self._turn:
                self._readers -= 1
                self._turn.notify_all()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody reads during the block. One writer at a time is the caller's concern."""
        with self._turn:
            self._writers += 1
            try:
                self._turn.wait_for(lambda: not self._readers)
                yield
            finally:
                self._writers -= 1
                self._turn.notify_all()
