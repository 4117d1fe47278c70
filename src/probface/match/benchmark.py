"""What a search costs, as a ratio to what one would use otherwise, timed in turns in one process.

On one thread the processor's time is compared, on several the time by the clock. Every round runs each candidate once;
the ratio is that of the medians. Absolute times are shown for orientation only.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from probface.errors import InvalidValue, MissingExtra
from probface.match.exact import SearchIndex
from probface.match.matrix import score_matrix
from probface.match.native import choose_path
from probface.types import Embeddings

Rival: TypeAlias = Literal["faiss", "numpy"]
"""``faiss``: IndexFlatIP, exact cosine. ``numpy``: matrix product, then argpartition."""

BLAS_FROM_PROBES = 20
"""From so many probes on faiss uses its matrix product; its own default makes middling batches ten times slower."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measurement.

    Attributes:
        task: what was done.
        rival: what it is compared with.
        ratio: of the medians; below 1 is faster than the rival.
        seconds, rival_seconds: the medians.
        rescored: pairs of each probe that were scored in float64; None for a matrix.
    """

    task: str
    rival: str
    ratio: float
    seconds: float
    rival_seconds: float
    rescored: float | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What the measurements ran on.

    Attributes:
        processor: its name.
        path: the instruction set of the kernel.
        threads: of every candidate.
        clock: ``processor time`` or ``wall time``.
        libraries: matrix products: library, version, and the processor that it takes this one for.
        hint: what would make the comparison fairer, or "".
    """

    processor: str
    path: str
    threads: int
    clock: str
    libraries: tuple[str, ...]
    hint: str


def measure_search(
    probes: Embeddings, references: Embeddings, k: int, *, rival: Rival, path: str, threads: int, rounds: int
) -> Iterator[Comparison]:
    """Exact top k by FastMLS and by cosine, with both prefilters, against the rival's cosine search."""
    index = SearchIndex(references, prefilter="int8", path=path)
    shape = f"top {k} of {len(references):,}, D = {references.dim}, {len(probes):,} probes"
    with _limited(threads):
        other = _rival_search(rival, probes, references, k, threads)
        candidates: dict[str, Callable[[], Any]] = {"rival": other}
        for metric in ("fastmls", "cosine"):
            for prefilter in ("int8", "float32"):
                candidates[f"{metric}, {prefilter}"] = _Search(index, probes, k, metric, prefilter, threads)
        medians = interleaved(candidates, rounds, threads)
    for name, taken in medians.items():
        if name != "rival":
            search = candidates[name]
            assert isinstance(search, _Search)  # noqa: S101 - every other candidate is one
            yield Comparison(
                f"{name}: {shape}",
                f"{rival}, cosine",
                taken / medians["rival"],
                taken,
                medians["rival"],
                search.rescored / max(1, len(probes)),
            )


def measure_matrix(a: Embeddings, b: Embeddings, *, path: str, threads: int, rounds: int) -> Comparison:
    """The whole matrix of FastMLS (one variance) or MLS (D), against numpy's bare product into a ready buffer."""
    metric: Literal["fastmls", "mls"] = "fastmls" if a.sigma_sq.shape[1] == 1 else "mls"
    out = np.empty((len(a), len(b)), np.float32)
    with _limited(threads):
        medians = interleaved(
            {
                "rival": lambda: np.matmul(a.mu, b.mu.T, out=out),
                "ours": lambda: score_matrix(a, b, metric, out=out, path=path, threads=threads),
            },
            rounds,
            threads,
        )
    task = f"{metric} matrix, {len(a):,} x {len(b):,}, D = {a.dim}, variances {a.sigma_sq.shape[1]}"
    return Comparison(task, "numpy's product", medians["ours"] / medians["rival"], medians["ours"], medians["rival"])


def interleaved(candidates: dict[str, Callable[[], Any]], rounds: int, threads: int) -> dict[str, float]:
    """Median seconds of each candidate: processor time on one thread, wall time on several; one round to warm up."""
    if rounds < 1:
        raise InvalidValue(f"rounds {rounds}: must be 1 or more")
    clock = time.process_time if threads == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, work in candidates.items():
            began = clock()
            work()
            spent = clock() - began
            if threads > 1:
                time.sleep(0.1)  # the threads of matrix libraries spin for a while after their work
            if turn > 0:
                taken[name].append(spent)
    return {name: statistics.median(times) for name, times in taken.items()}


def machine(path: str, threads: int) -> Machine:
    """What the measurements run on."""
    clock = "processor time" if threads == 1 else "wall time"
    found = {owner: (version, architecture) for owner, version, architecture in _libraries()}
    libraries = tuple(f"{owner}: {version}, {architecture}" for owner, (version, architecture) in found.items())
    return Machine(_processor(), choose_path(path).name, threads, clock, libraries, _hint(found))


class _Search:
    """One way to search, which remembers how much it rescored."""

    def __init__(
        self, index: SearchIndex, probes: Embeddings, k: int, metric: Any, prefilter: Any, threads: int
    ) -> None:
        self._arguments = (index, probes, k, metric, prefilter, threads)
        self.rescored = 0

    def __call__(self) -> None:
        index, probes, k, metric, prefilter, threads = self._arguments
        found = index.search(probes, k, metric=metric, prefilter=prefilter, threads=threads)
        self.rescored = found.report.rescored


def _rival_search(rival: Rival, probes: Embeddings, references: Embeddings, k: int, threads: int) -> Callable[[], Any]:
    if rival == "numpy":
        return lambda: _numpy_top_k(probes, references, k)
    try:
        import faiss
    except ImportError as error:
        raise MissingExtra("bench against faiss needs it; pip install 'probface[bench]', or --against numpy") from error
    faiss.cvar.distance_compute_blas_threshold = BLAS_FROM_PROBES
    faiss.omp_set_num_threads(threads)
    flat = faiss.IndexFlatIP(references.dim)
    flat.add(np.ascontiguousarray(references.mu))
    return lambda: flat.search(probes.mu, k)


def _numpy_top_k(probes: Embeddings, references: Embeddings, k: int) -> None:
    for start in range(0, len(probes), 256):
        cosines = probes.mu[start : start + 256] @ references.mu.T
        best = np.argpartition(cosines, len(references) - k, axis=1)[:, -k:]
        np.take_along_axis(cosines, best, axis=1).sort(axis=1)


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """Hold every matrix product of the process to ``threads``."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra("bench needs threadpoolctl; pip install 'probface[bench]'") from error
    with threadpool_limits(threads):
        yield


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({os.cpu_count()} cores)"
    return f"{platform.processor() or platform.machine()} ({os.cpu_count()} cores)"


def _libraries() -> Iterator[tuple[str, str, str]]:
    """Owner, library and version, and the architecture that it chose, of each library of matrix products."""
    from threadpoolctl import threadpool_info

    for library in threadpool_info():
        if library["user_api"] == "blas":
            owner = Path(library["filepath"]).parent.name.removesuffix(".libs")
            yield owner, f"{library['internal_api']} {library['version']}", library.get("architecture", "")


def _hint(found: dict[str, tuple[str, str]]) -> str:
    """An old OpenBLAS inside faiss takes a new processor for an ancient one, and is several times slower for it."""
    architectures = {owner: architecture for owner, (_, architecture) in found.items()}
    ours, theirs = architectures.get("numpy", ""), architectures.get("faiss_cpu", "")
    if not ours or not theirs or ours == theirs:
        return ""
    return (
        f"faiss's OpenBLAS takes this processor for {theirs}, numpy's for {ours}; for faiss at its best run this with "
        f"OPENBLAS_CORETYPE={ours} in the environment and --no-matrices (numpy is slower when it is told)"
    )
