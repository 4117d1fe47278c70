"""BLUFR on LFW: its table of results, and what all ten trials cost beside the matrix products that they need.

    probface embed LFW/lfw-deepfunneled.tar --faces central --out lfw.npz
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/blufr.py blufr_lfw_config.mat lfw.npz

The products are numpy's, of the same blocks: all pairs of the test images on and above the diagonal, and the probes
with the gallery. Processor times on one thread, in turns; the ratios of the single rounds show the noise.

A head that was trained on people of LFW, as the shipped one was, flatters FastMLS here: its rows show what the score
costs, and are no fair test. A fair one trains a head on each trial's people, and gives ``judge_blufr`` the faces of
each trial.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from probface import read_embeddings
from probface.eval.face_table import FaceTable
from probface.eval.protocols.all_pairs import ROWS
from probface.eval.protocols.blufr import BlufrOptions, BlufrResult, judge_blufr
from probface.readers.blufr import BlufrLists, read_blufr
from probface.types import FloatArray, Metric

ROUNDS = 5
METRICS: tuple[Metric, ...] = ("cosine", "fastmls")
OPTIONS = BlufrOptions(fmrs=(1e-3, 1e-4, 1e-5), fpirs=(1e-1, 1e-2), ranks=(1, 10), threads=1)


def read_faces(path: Path) -> FaceTable:
    file = read_embeddings(path)
    paths = map(PurePosixPath, file.rows.path)
    return FaceTable(tuple(f"{path.parent.name}/{path.stem}" for path in paths), file.embeddings)


def product(a: FloatArray, b: FloatArray, buffer: FloatArray) -> None:
    np.matmul(a, b.T, out=buffer[: len(a) * len(b)].reshape(len(a), len(b)))


def bare_products(lists: BlufrLists, faces: FaceTable) -> None:
    """Nothing but the products of all trials."""
    mu = faces.embeddings.mu[faces.rows(lists.names)]
    for trial in lists.trials:
        test, probes, gallery = mu[trial.test], mu[trial.probes], mu[trial.gallery]
        buffer = np.empty(ROWS * len(test), np.float32)
        for start in range(0, len(test), ROWS):
            product(test[start : start + ROWS], test[start:], buffer)
        for start in range(0, len(probes), ROWS):
            product(probes[start : start + ROWS], gallery, buffer)


def cpu_time(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def print_table(metric: Metric, result: BlufrResult) -> None:
    verification, identification = result.verification(), result.identification()
    columns = "mean / standard deviation / mean minus it, percent"
    print(f"\n{metric}, {len(result.tmr)} trials, {columns}")
    for k, fmr in enumerate(result.options.fmrs):
        row = (verification.mean[k], verification.standard_deviation[k], verification.reported[k])
        print(f"  verification, TMR at FMR {fmr:g}:        " + " / ".join(f"{100 * value:.2f}" for value in row))
    for f, fpir in enumerate(result.options.fpirs):
        for r, rank in enumerate(result.options.ranks):
            row = (identification.mean[f, r], identification.standard_deviation[f, r], identification.reported[f, r])
            print(f"  DIR at FPIR {fpir:g}, rank {rank}: " + " / ".join(f"{100 * value:.2f}" for value in row))


def main() -> None:
    """Judge, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lists", type=Path)
    parser.add_argument("embeddings", type=Path)
    options = parser.parse_args()
    lists, faces = read_blufr(options.lists), read_faces(options.embeddings)
    for metric in METRICS:
        print_table(metric, judge_blufr(lists, faces, metric, OPTIONS))
    ratios: dict[Metric, list[float]] = {metric: [] for metric in METRICS}
    for _ in range(ROUNDS):
        bare = cpu_time(lambda: bare_products(lists, faces))
        for metric in METRICS:
            ratios[metric].append(cpu_time(lambda metric=metric: judge_blufr(lists, faces, metric, OPTIONS)) / bare)
    print()
    for metric, rounds in ratios.items():
        each = ", ".join(f"{ratio:.2f}" for ratio in rounds)
        print(f"{metric}: all trials cost {statistics.median(rounds):.2f} times the bare products (rounds {each})")


if __name__ == "__main__":
    main()
