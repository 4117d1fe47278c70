"""``probface embed`` over a folder of photos against the sum of its parts, and its memory against the number of files.

    python benchmarks/embed_throughput.py [--photos N]

The parts are timed alone, in CPU seconds on one thread: decode, detect, align, embed. No pipeline can be faster than
cores / their sum. The claim: images a second at least 0.9 of that, and memory that does not grow with the files.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.data import astronaut

from probface.encoder.session import available_cores
from probface.face.align import align
from probface.face.image import read_image
from probface.pipeline.recogniser import Recogniser, open_detector

RUN = "import sys; from probface import embed; r = embed(sys.argv[1], sys.argv[2]); print(r.faces)"


def make_photos(folder: Path, count: int) -> None:
    """Photos of 600 to 1000 pixels with one face each, as JPEG."""
    rng = np.random.default_rng(0)
    for number in range(count):
        size = int(rng.integers(600, 1000))
        photo = cv2.resize(astronaut(), (size, size), interpolation=cv2.INTER_CUBIC)
        photo = np.clip(photo * rng.uniform(0.7, 1.2) + rng.normal(0, 3, photo.shape), 0, 255).astype(np.uint8)
        Image.fromarray(photo).save(folder / f"{number:05d}.jpg", quality=90)


def cpu_seconds_alone(paths: list[Path]) -> dict[str, float]:
    """CPU seconds an image for each part, on one thread."""
    cv2.setNumThreads(1)
    detector, recogniser = open_detector(), Recogniser(threads=1)
    spent = dict.fromkeys(("decode", "detect", "align", "embed"), 0.0)
    crops = []

    def timed(part: str, began: float) -> None:
        spent[part] += time.process_time() - began

    for path in paths:
        began = time.process_time()
        image = read_image(path)
        timed("decode", began)
        began = time.process_time()
        face = detector.detect(image, every=False)[0]
        timed("detect", began)
        began = time.process_time()
        crops.append(align(image, face.landmarks))
        timed("align", began)
    began = time.process_time()
    recogniser.encoder.encode(np.stack(crops))
    timed("embed", began)
    return {part: seconds / len(paths) for part, seconds in spent.items()}


def run(folder: Path) -> tuple[float, float]:
    """Wall seconds of one whole ``embed``, start of the process included, and the peak memory in MiB."""
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", RUN, str(folder), f"{out}/e.npz"], check=True, capture_output=True)
        wall = time.perf_counter() - began
    return wall, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=800)
    count = parser.parse_args().photos
    with tempfile.TemporaryDirectory() as name:
        few, many = Path(name) / "few", Path(name) / "many"
        few.mkdir()
        many.mkdir()
        make_photos(many, count)
        for path in sorted(many.iterdir())[: count // 8]:
            (few / path.name).write_bytes(path.read_bytes())
        parts = cpu_seconds_alone(sorted(few.iterdir()))
        bound = available_cores() / sum(parts.values())
        (short, small), (long, large) = run(few), run(many)
        rate = (count - count // 8) / (
            long - short
        )  # the start of the process is in both, and leaves with the difference
    print(", ".join(f"{part} {1000 * seconds:.1f} ms" for part, seconds in parts.items()), "of CPU an image")
    print(f"{available_cores()} cores: {rate:.1f} images a second, {rate / bound:.2f} of what the parts allow")
    print(f"peak memory {small:.0f} MiB for {count // 8} photos, {large:.0f} MiB for {count}")


if __name__ == "__main__":
    main()
