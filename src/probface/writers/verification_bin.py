"""Verification sets as InsightFace tests on them (``lfw.bin``): a pickle of (encoded images, genuine or not)."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from probface.errors import DataError, InvalidValue
from probface.readers.item import Item
from probface.storage import replacing
from probface.writers.intake import Intake, OnBroken


@dataclass(frozen=True, slots=True)
class WrittenPairs:
    """What went into a verification set.

    Attributes:
        pairs: how many were written.
        genuine: how many of them show one person.
        left_out: why each pair that was left out could not be read, one line each.
    """

    pairs: int
    genuine: int
    left_out: tuple[str, ...]


def write_verification_bin(
    pairs: Iterable[tuple[Item, Item, bool]], path: Path, *, broken: OnBroken = "error"
) -> WrittenPairs:
    """Write pairs of images and whether each shows one person, in their order, in pickle's protocol 2.

    Encoded images are copied as they are. The set is held in memory as a whole, which is how it will be read. The file
    is written whole or not at all.

    Args:
        pairs: two images of the set's one size, and whether they show one person. Whoever reads the file takes ten
            equal runs for the folds: leaving a pair out moves those after it.
        path: the ``.bin`` file.
        broken: what to do about a pair with an image that cannot be read: end with an error, or leave it out.

    Raises:
        InvalidValue: ``path`` has another suffix.
        UnreadableImage: an image cannot be read, and such are errors.
        DataError: no pair, or an image of another size.
        StorageError: the disk is full, or the place cannot be written.
    """
    if path.suffix != ".bin":
        raise InvalidValue(f"{path}: a verification set must end in .bin; rename it")
    intake = Intake(broken)
    images: list[bytes] = []
    genuine: list[bool] = []
    for a, b, same in pairs:
        contents = intake.read(a, b)
        if contents is not None:
            images.extend(contents)
            genuine.append(bool(same))
    if not genuine:
        raise DataError(f"{path}: no pair to write; give at least one whose images can be read")
    with replacing(path) as temporary, temporary.open("wb") as file:
        pickle.dump((images, genuine), file, protocol=2)
    return WrittenPairs(len(genuine), sum(genuine), tuple(intake.left_out))
