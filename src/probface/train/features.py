"""The frozen backbone's outputs, computed once for each image and variant, and kept on disk.

The cache folder holds ``faces-KEY/`` (aligned faces) and ``features-KEY/`` (one array for each variant and copy).
The keys are digests of all that the content depends on: the images' bytes, names and people, the model's input and,
for features, the backbone, the tensors fused and the seed. Another recipe finds what it shares with earlier ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from probface.contract import InputSpec
from probface.encoder.features import FeatureExtractor
from probface.encoder.session import available_cores
from probface.errors import DataError, ImageError, InvalidValue, UnreadableImage
from probface.face.align import resize_aligned
from probface.face.degrade import MIXTURES, image_rng
from probface.face.image import read_image
from probface.pipeline.parallel import batches, ordered_map
from probface.pipeline.recogniser import FaceFinder
from probface.readers.item import Item
from probface.storage import write_bytes
from probface.train.arrays import ResumableArray
from probface.train.config import Variant
from probface.types import FloatArray, Image

CHUNK = 32
"""Images to a pass through the network."""
SAVE_EVERY = 8
"""Chunks between two records of progress."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and of how many."""


class Crops(Protocol):
    """An array of images, or what reads like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: int | NDArray[np.int64], /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows of a memory-mapped array, read when they are asked for."""

    values: NDArray[np.uint8]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: int | NDArray[np.int64], /) -> NDArray[np.uint8]:
        chosen: NDArray[np.uint8] = self.values[self.rows[rows]]
        return chosen


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Aligned faces of a data set.

    Attributes:
        names: of the N images that have a face.
        people: (N,) int64, dense labels 0..K-1.
        crops: (N, height, width, 3) uint8, memory-mapped; by row, or by an array of rows.
        digest: of all this.
        failed: images left out, as (name, reason).
    """

    names: tuple[str, ...]
    people: NDArray[np.int64]
    crops: Crops
    digest: str
    failed: tuple[tuple[str, str], ...]


def cache_faces(
    items: Sequence[Item], spec: InputSpec, folder: Path, *, aligned: bool, progress: Progress | None = None
) -> Faces:
    """Find and align the central face of every image, or go on where an earlier call stopped.

    Raises:
        DataError: an image without a label, or no face in any image.
        StorageError: the cache cannot be written.
    """
    unlabelled = next((item.name for item in items if item.label is None), None)
    if unlabelled is not None:
        raise DataError(f"image {unlabelled}: nobody's; training images need a person each (one folder a person)")
    digest = _digest({"images": _images_digest(items), "spec": asdict(spec), "aligned": aligned})
    place = folder / f"faces-{digest[:16]}"
    shape = (len(items), spec.height, spec.width, 3)
    array = ResumableArray(place / "crops.npy", shape, np.uint8)
    failed_path = place / "failed.json"
    failed: dict[str, str] = json.loads(failed_path.read_text()) if failed_path.exists() else {}
    find = partial(_resize, spec) if aligned else partial(_find, FaceFinder(spec, policy="central"))
    with ThreadPoolExecutor(available_cores()) as pool:
        found = ordered_map(pool, find, islice(items, array.done, None), ahead=4 * CHUNK)
        for chunk in batches(found, CHUNK * SAVE_EVERY):
            failed |= {name: crop for name, crop in chunk if isinstance(crop, str)}
            write_bytes(failed_path, json.dumps(failed).encode())
            blank = np.zeros(shape[1:], np.uint8)
            array.append(np.stack([blank if isinstance(crop, str) else crop for _, crop in chunk]))
            if progress:
                progress("finding faces", array.done, len(items))
    good = np.array([i for i, item in enumerate(items) if item.name not in failed], np.int64)
    if len(good) == 0:
        raise DataError(f"no face in {len(items)} images; the first: {next(iter(failed.values()), 'no image at all')}")
    people = np.unique([items[i].label or "" for i in good], return_inverse=True)[1].astype(np.int64)
    crops = array.values if len(good) == len(items) else Rows(array.values, good)
    return Faces(tuple(items[i].name for i in good), people, crops, digest, tuple(failed.items()))


def cache_features(
    faces: Faces,
    extractor: FeatureExtractor,
    variant: Variant,
    folder: Path,
    *,
    model_key: dict[str, object],
    seed: int,
    progress: Progress | None = None,
) -> list[FloatArray]:
    """Fused features of every face in every copy of one variant: ``copies`` arrays (N, F), memory-mapped.

    Args:
        faces: from :func:`cache_faces`.
        extractor: the frozen backbone.
        variant: which state, and how many copies.
        folder: the cache.
        model_key: what names the backbone and the tensors fused.
        seed: of the degradations. Each depends on it, the variant, the copy and the image's name alone.
        progress: called after every chunk.

    Raises:
        StorageError: the cache cannot be written.
    """
    digest = _digest({"faces": faces.digest, "model": model_key, "seed": seed})
    copies = []
    for copy in range(variant.copies):
        label = f"{variant.state}-{copy}"
        path = folder / f"features-{digest[:16]}" / f"{label}.npy"
        array = ResumableArray(path, (len(faces.names), extractor.width), np.float32)
        step = partial(_extract, faces, extractor, variant.state, copy, seed)
        with ThreadPoolExecutor(available_cores()) as pool:
            starts = range(array.done, len(faces.names), CHUNK)
            for rows in batches(ordered_map(pool, step, starts, ahead=2 * available_cores()), SAVE_EVERY):
                array.append(np.concatenate(rows))
                if progress:
                    progress(f"features, {label}", array.done, len(faces.names))
        copies.append(array.values)
    return copies


def change(image: Image, state: str, copy: int, name: str, seed: int) -> Image:
    """One image in the state of a variant: clean, mirrored, or degraded by its own seeded draw."""
    return change_by(state, image, image_rng(seed, state, copy, name))


def change_by(state: str, image: Image, rng: np.random.Generator) -> Image:
    """One image in a state, degraded by the next numbers of ``rng``."""
    if state == "clean":
        return image
    if state == "mirror":
        return mirrored(image)
    return MIXTURES[state](image, rng)


def mirrored(image: Image) -> Image:
    """Left for right."""
    return np.asarray(cv2.flip(image, 1), np.uint8)


def _extract(faces: Faces, extractor: FeatureExtractor, state: str, copy: int, seed: int, start: int) -> FloatArray:
    rows = range(start, min(start + CHUNK, len(faces.names)))
    return extractor.extract(np.stack([change(faces.crops[i], state, copy, faces.names[i], seed) for i in rows]))


def _find(finder: FaceFinder, item: Item) -> tuple[str, Image | str]:
    try:
        return item.name, finder(item.source, item.name)[0].crop
    except (ImageError, InvalidValue) as error:
        return item.name, str(error)


def _resize(spec: InputSpec, item: Item) -> tuple[str, Image | str]:
    try:
        return item.name, resize_aligned(read_image(item.source, name=item.name), (spec.height, spec.width), item.name)
    except (ImageError, InvalidValue) as error:
        return item.name, str(error)


def _images_digest(items: Sequence[Item]) -> str:
    digest = hashlib.sha256()
    for item in items:
        try:
            source = item.source
            content = source if isinstance(source, bytes) else source.read_bytes()
        except OSError as error:
            raise DataError(f"image {item.name}: cannot be read ({error.strerror}); mend or remove it") from error
        except UnreadableImage as error:  # a damaged record: its face will be missing, for this reason
            content = str(error).encode()
        digest.update(f"{item.name}\0{item.label}\0".encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _digest(parts: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
