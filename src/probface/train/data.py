"""Which images train and which calibrate: two sets of people with nobody in both."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from probface.contract import InputSpec
from probface.errors import DataError
from probface.readers.item import Item
from probface.readers.lfw import find_lfw, lfw_images, people_folds
from probface.readers.open import open_items
from probface.train.config import DataConfig
from probface.train.crops import CachedCrops, CropSource, EncodedCrops
from probface.train.features import Progress, cache_faces
from probface.train.image_table import ImageTable


@dataclass(frozen=True, slots=True)
class Split:
    """Images of training people and of held-out people, and a sentence on each."""

    training: tuple[Item, ...]
    calibration: tuple[Item, ...]
    trained_on: str
    calibrated_on: str


def split(root: Path, config: DataConfig) -> Split:
    """Divide the images under ``root`` by person, as the recipe says.

    Raises:
        DataError: no images, people of no known fold, or too few people on one side.
    """
    if config.layout == "lfw":
        lfw = find_lfw(root)
        items, folds = lfw_images(root), people_folds(lfw.people)
        name = "LFW deep-funneled"
    else:
        items = tuple(open_items(root))
        folds = {item.label: 1 + zlib.crc32(item.label.encode()) % 10 for item in items if item.label is not None}
        name = "user images"
    unknown = next((item.name for item in items if item.label not in folds), None)
    if unknown is not None:
        raise DataError(f"image {unknown}: its person is in no fold; training images need one folder a person")
    training = _some(items, folds, config.train_folds, config.images_per_person, at_least=2)
    calibration = _some(items, folds, config.calibration_folds, config.calibration_images_per_person, at_least=1)
    for part, chosen in (("train", training), ("calibrate", calibration)):
        if not chosen:
            raise DataError(f"{root}: no images to {part} on; bring more people, with two or more images each to train")
    return Split(
        training,
        calibration,
        f"{_count(training)} of {name}, people of folds {_range(config.train_folds)} only",
        f"{_count(calibration)} of {name}, people of folds {_range(config.calibration_folds)}",
    )


def training_crops(
    root: Path, config: DataConfig, spec: InputSpec, cache: Path, progress: Progress | None = None
) -> tuple[CropSource, tuple[tuple[str, str], ...]]:
    """The aligned faces of the training people, and the images left out with the reason.

    Photos have their faces found and kept in the cache; aligned images are decoded each time they are needed, so that
    a set of any size needs no second copy.

    Raises:
        DataError: no images, or people of no known fold.
        StorageError: the cache cannot be written.
    """
    items = split(root, config).training
    if config.aligned:
        return EncodedCrops(ImageTable(items), spec), ()
    faces = cache_faces(items, spec, cache, aligned=False, progress=progress)
    return CachedCrops(faces), faces.failed


def _some(
    items: Iterable[Item],
    folds: dict[str, int],
    wanted: tuple[int, ...],
    most: int,
    *,
    at_least: int,
) -> tuple[Item, ...]:
    mine = sorted((item for item in items if folds[item.label or ""] in wanted), key=lambda i: (i.label or "", i.name))
    chosen: list[Item] = []
    for _, images in groupby(mine, key=lambda item: item.label):
        of_one = list(images)
        if len(of_one) >= at_least:
            chosen += of_one[:most]
    return tuple(chosen)


def _count(items: tuple[Item, ...]) -> str:
    return f"{len(items)} images of {len({item.label for item in items})} people"


def _range(folds: tuple[int, ...]) -> str:
    consecutive = list(folds) == list(range(folds[0], folds[-1] + 1))
    return f"{folds[0]} to {folds[-1]}" if consecutive and len(folds) > 1 else ", ".join(map(str, folds))
