"""What one extra dimension and a certificate give to an engine that knows inner products only.

    python benchmarks/certified_search.py

FAISS's IndexFlatIP holds 100,000 references; 500 probes ask for their ten best by FastMLS. Prints which share of the
true ten is among the K best of plain cosine and of [mu, -beta] . [mu, sigma^2], at which K each probe is certified, and
the time over that of the engine's ten best by cosine and of the project's own search, medians measured in turns. Two
threads. The faces are made up, half of the probes of people who are not there.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from probface.match.certificate import CertifiedResult, augment, augment_probes, certified_search, slopes
from probface.match.exact import SearchIndex, SearchResult
from probface.match.synthetic import synthetic_faces
from probface.score.fast_mls import fast_mls
from probface.types import Embeddings, FloatArray

PROBES, REFERENCES, K, ROUNDS = 500, 100_000, 10, 5
ASKED = (10, 50, 100, 200, 500)


def found(truth: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
    """Share of the true best that is among ``rows``."""
    return float(np.mean([np.isin(best, some).mean() for best, some in zip(truth, rows, strict=True)]))


def main() -> None:
    """Measure both widths."""
    faiss.omp_set_num_threads(2)
    faiss.cvar.distance_compute_blas_threshold = 20
    for dim in (128, 256):
        probes, references = synthetic_faces(PROBES, REFERENCES, dim)
        engine: Any = faiss.IndexFlatIP(dim + 1)
        engine.add(augment(references))
        index = SearchIndex(references)

        def own(index: SearchIndex = index, probes: Embeddings = probes) -> SearchResult:
            return index.search(probes, K, threads=2)

        def certified(
            engine: Any = engine, references: Embeddings = references, probes: Embeddings = probes
        ) -> CertifiedResult:
            return certified_search(engine, references, probes, K)

        cosine_probes = augment_probes(probes, np.zeros(PROBES, np.float32))

        def alone(engine: Any = engine, cosine_probes: FloatArray = cosine_probes) -> None:
            engine.search(cosine_probes, K)

        truth, proved = own(), certified()
        times: dict[Callable[[], object], list[float]] = {own: [], alone: [], certified: []}
        for _ in range(ROUNDS):
            for work, taken in times.items():
                began = time.perf_counter()
                work()
                taken.append(time.perf_counter() - began)

        plain = engine.search(cosine_probes, max(ASKED))[1]
        # The slope that the search sends: from the k-th score of the 100 best by cosine.
        best = references[plain[:, :100].ravel()]
        shape = (PROBES, 100, -1)
        scores = fast_mls(
            probes.mu[:, None], probes.sigma_sq[:, None], best.mu.reshape(shape), best.sigma_sq.reshape(shape)
        )
        tau = np.partition(scores, 100 - K, axis=1)[:, 100 - K].astype(np.float64)
        beta = slopes(probes, tau, float(np.median(references.sigma_sq)))
        sloped = engine.search(augment_probes(probes, beta), max(ASKED))[1]
        print(f"D = {dim}, M = {REFERENCES}, k = {K}, {PROBES} probes")
        for count in ASKED:
            shares = (found(truth.indices, rows[:, :count]) for rows in (plain, sloped))
            print("  K = {:<4d} plain cosine {:7.3%}, extra dimension {:8.4%}".format(count, *shares))

        same = np.array_equal(proved.scores, truth.scores) and np.array_equal(proved.indices, truth.indices)
        counts, probes_of = np.unique(proved.asked, return_counts=True)
        print("  certified at K =", ", ".join(f"{a} ({b} probes)" for a, b in zip(counts, probes_of, strict=True)))
        print(f"  certified {proved.certified.mean():.1%}; the same as SearchIndex to the bit: {same}")
        middle = {work: statistics.median(taken) for work, taken in times.items()}
        over = f"{middle[certified] / middle[alone]:.1f} of the engine by cosine"
        print(f"  time over that {over}, {middle[certified] / middle[own]:.1f} of SearchIndex ({truth.report.path})")


if __name__ == "__main__":
    main()
