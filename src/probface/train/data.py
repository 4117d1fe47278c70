"""Which images train and which calibrate: two sets of people with nobody in both."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probface.contract import InputSpec
from probface.errors import DataError
from probface.readers.image_list import read_list
from probface.readers.item import Broken, Item
from probface.readers.lfw import find_lfw, lfw_images, people_folds
from probface.readers.open import LISTS, open_items
from probface.train.config import DataConfig
from probface.train.crops import CachedCrops, CropSource, EncodedCrops
from probface.train.features import Progress, cache_faces
from probface.train.image_table import ImageTable


@dataclass(frozen=True, slots=True)
class Split:
    """Images of training people and of held-out people, and a sentence on each."""

    training: ImageTable
    calibration: ImageTable
    trained_on: str
    calibrated_on: str


def split(root: Path, config: DataConfig) -> Split:
    """Divide the images under ``root`` by person, as the recipe says.

    Raises:
        DataError: no images, people of no known fold, or too few people on one side (unless the recipe asks
            for none).
    """
    folds: Mapping[str, int] | None = None
    if config.layout == "lfw":
        table, folds, name = ImageTable(lfw_images(root)), people_folds(find_lfw(root).people), "LFW deep-funneled"
    else:
        table, name = ImageTable(_items(root, config)), "user images"
    fold = np.array([_fold_of(person, folds) for person in table.identities])
    if not fold.all():
        person = table.identities[int(np.flatnonzero(fold == 0)[0])]
        raise DataError(f"person {person}: in no fold of people.txt; training needs each person in one")
    calibrating = np.isin(fold, config.calibration_folds)
    calibrating &= np.cumsum(calibrating) <= config.calibration_people
    training = _some(table, np.isin(fold, config.train_folds), config.images_per_person, at_least=2)
    calibration = _some(table, calibrating, config.calibration_images_per_person, at_least=1)
    uses = (("train", training, config.train_folds), ("calibrate", calibration, config.calibration_folds))
    for part, chosen, folds_of_it in uses:
        if folds_of_it and not len(chosen):
            raise DataError(f"{root}: no images to {part} on; bring more people, with two or more images each to train")
    return Split(
        training,
        calibration,
        f"{_count(training)} of {name}, people of folds {_range(config.train_folds)} only",
        f"{_count(calibration)} of {name}, people of folds {_range(config.calibration_folds)}",
    )


def crops_of(
    table: ImageTable, config: DataConfig, spec: InputSpec, cache: Path, progress: Progress | None = None
) -> tuple[CropSource, tuple[tuple[str, str], ...]]:
    """The aligned faces of images, and the images left out with the reason.

    Photos have their faces found and kept in the cache; aligned images are decoded each time they are needed, so that
    a set of any size needs no second copy.

    Raises:
        DataError: no face in any image.
        StorageError: the cache cannot be written.
    """
    if config.aligned:
        return EncodedCrops(table, spec), table.left_out
    faces = cache_faces(table, spec, cache, aligned=False, progress=progress)
    return CachedCrops(faces), table.left_out + faces.failed


def _items(root: Path, config: DataConfig) -> Iterator[Item]:
    if root.suffix.lower() not in LISTS or not root.is_file():
        yield from open_items(root)
        return
    listed = read_list(root, missing=config.missing)
    yield from listed.items
    for name in listed.missing:
        yield Item(name, Broken(f"{root}: {name} is not there; copy the file, or take the line out"))


def _fold_of(person: str, folds: Mapping[str, int] | None) -> int:
    """1..10: as listed, 0 where not; without a list by a hash of the name."""
    return 1 + zlib.crc32(person.encode(errors="surrogateescape")) % 10 if folds is None else folds.get(person, 0)


def _some(table: ImageTable, wanted: NDArray[np.bool_], most: int, *, at_least: int) -> ImageTable:
    """The first ``most`` images of each wanted person who has ``at_least`` so many, person by person."""
    order = np.argsort(table.people, kind="stable")
    people, counts = table.people[order], np.bincount(table.people)
    number = np.arange(len(order)) - (np.cumsum(counts) - counts)[people]
    keep = wanted[people] & (number < most) & (counts[people] >= at_least)
    return table.select(order[keep])


def _count(table: ImageTable) -> str:
    return f"{len(table)} images of {len(table.identities)} people"


def _range(folds: tuple[int, ...]) -> str:
    if not folds:
        return "none"
    consecutive = list(folds) == list(range(folds[0], folds[-1] + 1))
    return f"{folds[0]} to {folds[-1]}" if consecutive and len(folds) > 1 else ", ".join(map(str, folds))
