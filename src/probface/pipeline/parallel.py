"""Threads that keep the order of their input and never run far ahead of their output."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def ordered_map(pool: Executor, function: Callable[[In], Out], items: Iterable[In], *, ahead: int) -> Iterator[Out]:
    """``map`` on a pool: results in the order of ``items``, at most ``ahead`` of them under way.

    ``items`` is read lazily, so memory does not grow with its length. Two maps may share one pool, the second reading
    the first: work of both kinds then keeps every thread busy.
    """
    window: deque[Future[Out]] = deque()
    remaining = iter(items)
    try:
        for item in islice(remaining, ahead):
            window.append(pool.submit(function, item))
        while window:
            result = window.popleft().result()
            for item in islice(remaining, 1):
                window.append(pool.submit(function, item))
            yield result
    finally:
        for future in window:
            future.cancel()


def batches(items: Iterable[In], size: int) -> Iterator[list[In]]:
    """Lists of ``size`` consecutive items; the last may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
