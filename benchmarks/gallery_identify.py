"""Identification of one face in a gallery of a million, against the search kernel alone on the same arrays.

    python benchmarks/gallery_identify.py [references]

Ready embeddings of D = 128 of as many people, enrolled in a file in a temporary folder (1.3 GB for a million). Prints
how long opening it takes with its index there, and the ratio of `Gallery.identify` (with its look at the generation,
its threshold and the names) to `SearchIndex.search` of the same probe, both with k = 5: medians, measured in turns.
Asked: opened in less than a second, and a ratio of at most 1.2.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from probface.contract import InputSpec, ModelContract, Threshold
from probface.gallery.derived_file import index_path
from probface.gallery.gallery import Gallery
from probface.gallery.records import GallerySettings, ModelBinding, NewReferences
from probface.match.exact import SearchIndex
from probface.types import Embeddings

REFERENCES, TRANSACTION, DIM, ROUNDS, TOP = 1_000_000, 20_000, 128, 300, 5
THRESHOLD = Threshold("fastmls", 1e-9, 0.0, 2e-9, 10**10, 10, "none, a stand-in")
CONTRACT = ModelContract("bench", DIM, 1, InputSpec(), "0" * 64, thresholds=(THRESHOLD,))
MODEL = ModelBinding("bench", "0" * 64, DIM, 1, CONTRACT)


def faces(rng: np.random.Generator, rows: int) -> Embeddings:
    """Random directions and variances."""
    mu = rng.normal(size=(rows, DIM)).astype(np.float32)
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return Embeddings(mu, rng.uniform(0.1, 1, (rows, 1)).astype(np.float32))


def enrol(path: Path, references: int) -> None:
    """Fill a gallery, and derive its index."""
    rng = np.random.default_rng(0)
    with Gallery.create(path, GallerySettings(MODEL)) as gallery:
        for first in range(0, references, TRANSACTION):
            rows = min(TRANSACTION, references - first)
            names = tuple(f"person {number}" for number in range(first, first + rows))
            gallery.enroll(NewReferences.unlabelled(names, faces(rng, rows)), model=MODEL)
        gallery.search(faces(rng, 1), model=MODEL)


def main() -> None:
    """Enrol, open, and time both."""
    references = int(sys.argv[1]) if len(sys.argv) > 1 else REFERENCES
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.db"
        began = time.perf_counter()
        enrol(path, references)
        print(f"{references} references enrolled and indexed in {time.perf_counter() - began:.0f} s")
        probes = faces(np.random.default_rng(1), ROUNDS + 1)
        began = time.perf_counter()
        gallery = Gallery.open(path)
        opened = time.perf_counter()
        gallery.identify(probes[ROUNDS:], model=MODEL)
        print(f"opened in {opened - began:.3f} s, first answer {time.perf_counter() - opened:.3f} s later")
        index = SearchIndex.open(index_path(path))

        def identify(probe: Embeddings) -> None:
            gallery.identify(probe, model=MODEL, top=TOP)

        def kernel(probe: Embeddings) -> None:
            index.search(probe, TOP)

        times: dict[Callable[[Embeddings], None], list[float]] = {identify: [], kernel: []}
        for turn in range(ROUNDS):
            # Who comes first finds the probe's part of the references cold, so they take turns.
            for work in (identify, kernel) if turn % 2 else (kernel, identify):
                began = time.perf_counter()
                work(probes[turn : turn + 1])
                times[work].append(time.perf_counter() - began)
        middle = {work: statistics.median(taken) for work, taken in times.items()}
        print(f"identify {1e3 * middle[identify]:.2f} ms, kernel {1e3 * middle[kernel]:.2f} ms")
        print(f"ratio {middle[identify] / middle[kernel]:.3f}")
        found = gallery.identify(probes[:1], model=MODEL, top=TOP)
        same = [candidate.score for candidate in found.candidates] == index.search(probes[:1], TOP).scores[0].tolist()
        print("the scores are the same" if same else "THE SCORES DIFFER")
        gallery.close()
    # In KiB on Linux; with the mapped pages of the index.
    print(f"most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
