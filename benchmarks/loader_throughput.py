"""The training loader against the bare decoder on the same cores.

    python benchmarks/loader_throughput.py

Reads aligned 112 x 112 JPEG faces from a .rec file. The loader draws shuffled batches, decodes and checks the images,
and stacks them (mirroring and scaling are done where the network is); the bare decoder is Pillow on bytes that are in
memory already, in as many threads. Both in turns, in one process; the ratio of the medians is the claim (at least 0.9).
"""

from __future__ import annotations

import io
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from live_step import faces
from probface.contract import InputSpec
from probface.encoder.session import available_cores
from probface.pipeline.parallel import ordered_map
from probface.readers.recordio import read_recordio
from probface.train.augmentation import Augmentation
from probface.train.backbone_config import AugmentConfig
from probface.train.crops import EncodedCrops, read_batch
from probface.train.image_table import ImageTable
from probface.train.sampler import shuffled
from probface.writers.recordio import write_recordio

BATCH, ROUNDS, STEPS = 128, 11, 16


def main() -> None:
    spec, config = InputSpec(), AugmentConfig()
    with TemporaryDirectory() as folder, ThreadPoolExecutor(available_cores()) as pool:
        write_recordio(faces((112, 112)), Path(folder) / "train.rec")
        table = ImageTable(read_recordio(Path(folder) / "train.rec"))
        crops, encoded = EncodedCrops(table, spec), [item.source for item in table]

        def load(step: int) -> object:
            images = shuffled(len(table), BATCH, 0, step)
            return read_batch(crops, images, Augmentation(config, 0, step, BATCH)).crops

        def decode(step: int) -> object:
            return [
                np.asarray(Image.open(io.BytesIO(encoded[i])).convert("RGB"))  # type: ignore[arg-type]
                for i in shuffled(len(table), BATCH, 0, step)
            ]

        rates: dict[str, list[float]] = {"loader": [], "decoder": []}
        for round_ in range(ROUNDS):
            for name, work in (("loader", load), ("decoder", decode)):
                began = time.perf_counter()
                steps = range(round_ * STEPS, (round_ + 1) * STEPS)
                for _ in ordered_map(pool, work, steps, ahead=1 + available_cores()):
                    pass
                rates[name].append(STEPS * BATCH / (time.perf_counter() - began))
    loader, decoder = (statistics.median(rates[name]) for name in ("loader", "decoder"))
    print(f"{available_cores()} cores: loader {loader:.0f}, bare decoder {decoder:.0f} images a second")
    print(f"loader / decoder = {loader / decoder:.3f}")


if __name__ == "__main__":
    main()
