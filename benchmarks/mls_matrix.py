"""PFE's matrix of scores, D variances a face, against a plain compiled loop and against the formula in numpy.

    python benchmarks/mls_matrix.py

The loop is what PFE's evaluation compiles: one division and one logarithm for each dimension of each pair, in C at -O3.
Prints the ratios of the medians of processor time on one thread, measured in turns. Needs a C compiler, cc.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from probface.match.benchmark import interleaved
from probface.match.matrix import score_matrix
from probface.score.mls import mls_matrix
from probface.types import Embeddings

ROWS, COLUMNS, ROUNDS = 64, 2048, 5
LOOP = """
#include <math.h>
void scores(const float *a, const float *sa, const float *b, const float *sb, long n, long m, long dim, float *out) {
    for (long i = 0; i < n; ++i)
        for (long j = 0; j < m; ++j) {
            float sum = 0;
            for (long d = 0; d < dim; ++d) {
                float apart = a[i * dim + d] - b[j * dim + d], t = sa[i * dim + d] + sb[j * dim + d];
                sum += apart * apart / t + logf(t);
            }
            out[i * m + j] = -0.5f * sum;
        }
}
"""


def faces(rng: np.random.Generator, rows: int, dim: int) -> Embeddings:
    mu = rng.standard_normal((rows, dim), dtype=np.float32)
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return Embeddings(mu, (rng.lognormal(-1.2, 0.5, (rows, dim)) / dim).astype(np.float32))


def compiled_loop(folder: str) -> ctypes._NamedFuncPointer:
    source, library = Path(folder) / "loop.c", Path(folder) / "loop.so"
    source.write_text(LOOP, encoding="utf-8")
    subprocess.run(["cc", "-O3", "-shared", "-fPIC", str(source), "-o", str(library), "-lm"], check=True)
    return ctypes.CDLL(str(library)).scores


def main() -> None:
    """Time all three, and print the ratios."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        loop = compiled_loop(folder)
        for dim in (256, 512):
            a, b = faces(rng, ROWS, dim), faces(rng, COLUMNS, dim)
            out = np.empty((ROWS, COLUMNS), np.float32)
            arrays = [array.ctypes.data_as(ctypes.c_void_p) for array in (a.mu, a.sigma_sq, b.mu, b.sigma_sq)]
            sizes = [ctypes.c_long(size) for size in (ROWS, COLUMNS, dim)]
            candidates = {
                "ours": lambda a=a, b=b, out=out: score_matrix(a, b, "mls", out=out, threads=1),
                "a plain compiled loop": lambda arrays=arrays, sizes=sizes, out=out: loop(
                    *arrays, *sizes, out.ctypes.data_as(ctypes.c_void_p)
                ),
                "the formula in numpy": lambda a=a, b=b: mls_matrix(a.mu, a.sigma_sq, b.mu, b.sigma_sq),
            }
            medians = interleaved(candidates, ROUNDS, 1)
            for name in list(candidates)[1:]:
                print(f"D = {dim}: {name} takes {medians[name] / medians['ours']:.1f} times as long as ours")


if __name__ == "__main__":
    main()
