"""A step of live head training against the frozen backbone's forward pass alone.

    python benchmarks/live_step.py [--backbone sface] [--variant mirror]

Both run batches of 32 people x 4 images through the same backbone on the same cores, in turns of a few steps, in one
process. The live step also draws the batch, decodes the images (JPEG), changes them, and trains the head with all
three losses. The ratio of the medians is the claim (at most 1.05).
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from probface.encoder.features import FeatureExtractor
from probface.encoder.session import available_cores
from probface.models.registry import resolve_backbone
from probface.models.taps import find_taps
from probface.nn.uncertainty_head import UncertaintyHead
from probface.pipeline.parallel import ordered_map
from probface.readers.item import Item
from probface.readers.recordio import read_recordio
from probface.train.config import HeadRecipe, LossConfig, OptimiserConfig, Variant
from probface.train.crops import EncodedCrops
from probface.train.fit import genuine_pairs, sgd, training_step
from probface.train.image_table import ImageTable
from probface.train.live import LiveFeatures
from probface.writers.recordio import write_recordio

PEOPLE, IMAGES_EACH, ROUNDS, STEPS = 64, 8, 7, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="sface")
    parser.add_argument("--variant", default="mirror", help="clean, mirror, moderate ...: half the images, half clean")
    options = parser.parse_args()
    backbone = resolve_backbone(options.backbone)
    taps = find_taps(backbone.model, backbone.face)
    extractor = FeatureExtractor(backbone.model, taps, backbone.input, threads=1)
    size = (backbone.input.height, backbone.input.width)
    recipe = HeadRecipe(
        "live",
        variants=(Variant("clean"), Variant(options.variant)),
        loss=LossConfig(lambda_c=0.1, lambda_id=0.1),
        optimiser=OptimiserConfig(steps=10_000),
        features="live",
    )
    forward: list[float] = []
    trained: list[float] = []
    with TemporaryDirectory() as folder, ThreadPoolExecutor(available_cores()) as pool:
        write_recordio(faces(size), Path(folder) / "train.rec")
        crops = EncodedCrops(ImageTable(read_recordio(Path(folder) / "train.rec")), backbone.input)
        live = LiveFeatures(crops, extractor)
        head = UncertaintyHead(live.width).train()
        optimiser = sgd(head, recipe.optimiser)
        batch = recipe.optimiser.people * recipe.optimiser.images
        decoded = np.stack([crops.crop(i) for i in range(batch)])

        def forward_steps() -> Iterator[object]:
            ahead = 1 + available_cores()
            yield from ordered_map(pool, lambda _: extractor.extract(decoded), range(10_000), ahead=ahead)

        def live_steps() -> Iterator[object]:
            for made in live.batches(recipe, 0):
                pairs = genuine_pairs(made.labels, made.images)
                yield training_step(head, optimiser, made.fused, live.dim, pairs, recipe.loss)

        for _ in range(ROUNDS):
            forward.append(seconds_a_step(forward_steps()))
            trained.append(seconds_a_step(live_steps()))
    ratio = statistics.median(trained) / statistics.median(forward)
    print(f"{available_cores()} cores, {options.backbone}, batch {batch}, clean and {options.variant}")
    print(
        f"forward alone {1e3 * statistics.median(forward):.0f} ms, live step {1e3 * statistics.median(trained):.0f} ms"
    )
    print(f"live step / forward = {ratio:.3f}")


def seconds_a_step(steps: Iterator[object]) -> float:
    """Of some steps when the work is well under way, with as much made ahead at the end as at the beginning."""
    for _ in range(2 + available_cores()):
        next(steps)
    began = time.perf_counter()
    for _ in range(STEPS):
        next(steps)
    taken = time.perf_counter() - began
    steps.close()  # type: ignore[attr-defined]  # what is still being made ahead would take the other's cores
    return taken / STEPS


def faces(size: tuple[int, int]) -> Iterator[Item]:
    """Encoded faces of made-up people."""
    rng = np.random.default_rng(0)
    for person in range(PEOPLE):
        pattern = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(size[::-1])
        for image in range(IMAGES_EACH):
            noisy = np.clip(np.asarray(pattern) + rng.normal(0, 8, (*size, 3)), 0, 255).astype(np.uint8)
            encoded = io.BytesIO()
            Image.fromarray(noisy).save(encoded, "JPEG", quality=90)
            yield Item(f"{person}/{image}", encoded.getvalue(), str(person))


if __name__ == "__main__":
    main()
