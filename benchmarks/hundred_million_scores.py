"""Exact operating points of 100 million scores that are never in memory: passes, peak memory, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/hundred_million_scores.py [--float64] [--scores N]

The scores are written to a temporary file and read block by block, as one would who made them once. Memory is that of
the whole process at its peak. Processor times are compared on one thread: with reading the file and finding its largest
score once, and with numpy.partition of all scores in memory for one of the rates. Everything runs in turns, and the
ratios of the single rounds show the noise. At last the streamed figures are held against the ones in memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probface.eval.metrics.streaming import StreamedRates, operating_points
from probface.eval.metrics.verification import eer, threshold_at, tmr_at_fmr

BLOCK, GENUINE, ROUNDS = 1 << 20, 0.005, 3
FMRS = (1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """Scores and flags in two files; iterated afresh, it reads them again."""

    scores: Path
    genuine: Path
    dtype: np.dtype

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with self.scores.open("rb") as scores, self.genuine.open("rb") as genuine:
            while len(block := np.fromfile(scores, self.dtype, BLOCK)):
                yield block, np.fromfile(genuine, np.bool_, BLOCK)


def write(folder: Path, count: int, dtype: np.dtype) -> ScoreFile:
    rng = np.random.default_rng(0)
    file = ScoreFile(folder / "scores", folder / "genuine", dtype)
    with file.scores.open("wb") as scores, file.genuine.open("wb") as genuine:
        for start in range(0, count, BLOCK):
            flags = rng.random(min(BLOCK, count - start), np.float32) < GENUINE
            cosines = 0.09 * rng.standard_normal(len(flags), np.float32).astype(dtype)
            cosines[flags] += dtype.type(0.55)
            cosines.tofile(scores)
            flags.tofile(genuine)
    return file


def plain_pass(file: ScoreFile) -> float:
    return max(float(scores.max()) for scores, _ in file)


def cpu_time(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def peak_memory() -> float:
    """Peak resident memory of this process in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def ratio_line(name: str, ours: list[float], other: list[float]) -> str:
    rounds = ", ".join(f"{a / b:.2f}" for a, b in zip(ours, other, strict=True))
    return f"cost of all passes over {name}: {statistics.median(ours) / statistics.median(other):.2f} (rounds {rounds})"


def check(file: ScoreFile, found: StreamedRates) -> list[tuple[float, float]]:
    """Time ours and numpy.partition in turns, with all scores in memory, and compare every figure."""
    blocks = list(file)
    scores, genuine = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
    impostor_scores, genuine_scores = scores[~genuine], scores[genuine]
    for point in found.points:
        in_memory = threshold_at(impostor_scores, point.fmr), tmr_at_fmr(genuine_scores, impostor_scores, point.fmr)
        if (point.threshold, point.tmr) != in_memory:
            raise SystemExit(f"at FMR {point.fmr:g}: threshold and TMR in memory are {in_memory}")
    if found.eer != eer(genuine_scores, impostor_scores):
        raise SystemExit("the EER in memory is another")
    rank = len(scores) - 1 - round(1e-6 * len(scores))
    return [
        (cpu_time(lambda: operating_points(blocks, FMRS)), cpu_time(lambda: np.partition(scores, rank)))
        for _ in range(ROUNDS)
    ]


def main() -> None:
    """Measure, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=int, default=100_000_000)
    parser.add_argument("--float64", action="store_true")
    options = parser.parse_args()
    dtype = np.dtype(np.float64 if options.float64 else np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), options.scores, dtype)
        before = peak_memory()
        found = operating_points(file, FMRS)
        print(f"{found.genuine + found.impostors} {dtype} scores, {found.genuine} genuine: {found.passes} passes")
        print(f"peak memory of the process: {peak_memory():.2f} GB ({before:.2f} GB before)")
        for point in found.points:
            print(f"TMR {point.tmr:.6f} at FMR {point.fmr:g} (threshold {point.threshold:.6f})")
        print(f"EER {found.eer:.3e}; {len(found.curve.fmr)} exact points on the ROC")
        reading = [
            (cpu_time(lambda: operating_points(file, FMRS)), cpu_time(lambda: plain_pass(file))) for _ in range(ROUNDS)
        ]
        print(ratio_line("one plain pass over the file", *map(list, zip(*reading, strict=True))))
        print(ratio_line("numpy.partition in memory", *map(list, zip(*check(file, found), strict=True))))
    print("every figure is equal to the bit to that of all scores in memory")


if __name__ == "__main__":
    main()
