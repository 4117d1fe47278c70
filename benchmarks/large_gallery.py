"""One probe against a large gallery that is mapped from disk, against faiss's flat index in memory.

    python benchmarks/large_gallery.py                                      # 1,000,000 references, D = 128
    python benchmarks/large_gallery.py --references 10000000 --alone        # without faiss beside it in memory

Prints the ratio of the medians of processor time on one thread, measured in turns, how long the index took to open as a
part of one search, and the largest memory that the process had resident.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from probface.match.benchmark import BLAS_FROM_PROBES, interleaved
from probface.match.exact import SearchIndex
from probface.types import Embeddings

K, ROUNDS, BLOCK = 10, 15, 100_000


def references(folder: Path, rows: int, dim: int) -> Embeddings:
    """Unit vectors in a mapped file, made block by block."""
    rng = np.random.default_rng(0)
    mu = np.memmap(folder / "mu.f4", np.float32, "w+", shape=(rows, dim))
    for start in range(0, rows, BLOCK):
        block = rng.standard_normal((min(BLOCK, rows - start), dim), dtype=np.float32)
        mu[start : start + BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    mu.flush()
    sigma_sq = np.clip(rng.lognormal(np.log(0.3), 0.35, (rows, 1)), 0.05, 1.5).astype(np.float32)
    return Embeddings(np.memmap(folder / "mu.f4", np.float32, "r", shape=(rows, dim)), sigma_sq)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Build, open, search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--alone", action="store_true", help="without faiss")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        enrolled = references(Path(folder), options.references, options.dim)
        began = time.perf_counter()
        built = SearchIndex(enrolled, prefilter="int8")
        print(f"{len(built):,} references, D = {options.dim}: built in {time.perf_counter() - began:.1f} s")
        built.save(Path(folder) / "faces.index")
        del built
        began = time.perf_counter()
        index = SearchIndex.open(Path(folder) / "faces.index")
        opened = time.perf_counter() - began
        probe = Embeddings(np.array(enrolled.mu[:1]), enrolled.sigma_sq[:1])
        candidates = {"ours": lambda: index.search(probe, K, threads=1)}
        if not options.alone:
            import faiss

            faiss.cvar.distance_compute_blas_threshold = BLAS_FROM_PROBES
            faiss.omp_set_num_threads(1)
            flat = faiss.IndexFlatIP(options.dim)
            flat.add(np.ascontiguousarray(enrolled.mu))
            candidates["faiss"] = lambda: flat.search(probe.mu, K)
        medians = interleaved(candidates, ROUNDS, 1)
        found = index.search(probe, K, threads=1)
        print(f"path {found.report.path}, {found.report.rescored} pairs rescored; mapped in {opened:.3f} s")
        print(f"one probe: {1e3 * medians['ours']:.2f} ms of the processor")
        if "faiss" in medians:
            print(f"ratio to faiss IndexFlatIP, one probe: {medians['ours'] / medians['faiss']:.2f}")
        print(f"peak resident memory {peak_gib():.1f} GiB (mapped files count while they are in the cache)")


if __name__ == "__main__":
    main()
