"""Which code computes: the compiled kernel's instruction sets where there are any, and numpy always."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, TypeAlias, get_args

from probface.errors import InvalidValue

Prefilter: TypeAlias = Literal["auto", "int8", "float32"]
"""What the cheap products of a search are made of; the results are the same."""
PREFILTERS: tuple[Prefilter, ...] = get_args(Prefilter)

PORTABLE = "numpy"
"""Name of the path without compiled code."""


@dataclass(frozen=True, slots=True)
class Path:
    """A way to compute.

    Attributes:
        name: ``avx512-vnni``, ``avx-vnni``, ``avx2``, ``neon-dotprod``, ``baseline``, or ``numpy``.
        fast_int8: whether whole-number products are faster than float32 ones there.
    """

    name: str
    fast_int8: bool

    @property
    def native(self) -> bool:
        """Whether compiled code runs."""
        return self.name != PORTABLE


@cache
def kernel() -> Any | None:
    """The compiled module, or None where it was not built when the package was installed."""
    try:
        return import_module("probface.match._kernel")
    except ImportError:
        return None


@cache
def paths() -> tuple[Path, ...]:
    """What this machine can run, the best first; ``numpy`` is the last."""
    compiled = kernel()
    native = [] if compiled is None else [Path(name, fast) for name, fast in compiled.instruction_sets()]
    return (*native, Path(PORTABLE, False))


def choose_path(name: str = "auto") -> Path:
    """The path of a name, or the best one for ``auto``.

    Raises:
        InvalidValue: this machine does not have it.
    """
    known = {path.name: path for path in paths()}
    if name == "auto":
        return paths()[0]
    if name not in known:
        raise InvalidValue(f"path {name!r}: this machine has {', '.join(known)}; choose one of these, or auto")
    return known[name]


def thread_count(threads: int) -> int:
    """``threads``, or as many as this process may use for 0.

    Raises:
        InvalidValue: a negative number, or more than 1024.
    """
    if not 0 <= threads <= 1024:
        raise InvalidValue(f"threads {threads}: must be 0 (all cores) to 1024")
    if threads:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
