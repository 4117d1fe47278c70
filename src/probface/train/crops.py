"""Where training takes its aligned faces from, and batches of them made ready ahead of the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from probface.contract import InputSpec
from probface.errors import ImageError, InvalidValue, TrainingError
from probface.face.align import resize_aligned
from probface.face.image import QuietPillow, read_image
from probface.readers.item import Span
from probface.train.features import Faces
from probface.train.image_table import ImageTable
from probface.types import Image

TRIES = 16
"""How many images in a row may be unreadable before training stops."""


class CropSource(Protocol):
    """Aligned faces by number.

    Attributes:
        people: (N,) int64 dense labels.
        classes: K, how many people there are.
        digest: of the people, image by image.
    """

    @property
    def people(self) -> NDArray[np.int64]: ...  # noqa: D102

    @property
    def classes(self) -> int: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    def name(self, index: int) -> str:
        """Of the image."""
        ...

    def crop(self, index: int) -> Image:
        """RGB uint8 (height, width, 3); raises ImageError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class CachedCrops:
    """Faces that were found and aligned before."""

    faces: Faces

    @property
    def people(self) -> NDArray[np.int64]:
        """(N,) dense labels."""
        return self.faces.people

    @property
    def classes(self) -> int:
        """K."""
        return int(self.faces.people.max()) + 1

    @property
    def digest(self) -> str:
        """Of the faces."""
        return self.faces.digest

    def name(self, index: int) -> str:
        """Of the image."""
        return self.faces.names[index]

    def crop(self, index: int) -> Image:
        """A copy of the aligned face."""
        return np.array(self.faces.crops[index])


class EncodedCrops:
    """Aligned faces as encoded images, decoded when they are asked for."""

    def __init__(self, table: ImageTable, spec: InputSpec) -> None:
        self._table = table
        self._size = (spec.height, spec.width)

    @property
    def people(self) -> NDArray[np.int64]:
        """(N,) dense labels."""
        return self._table.people

    @property
    def classes(self) -> int:
        """K."""
        return len(self._table.identities)

    @property
    def digest(self) -> str:
        """Of the people, image by image."""
        return self._table.digest

    def name(self, index: int) -> str:
        """Of the image."""
        return self._table[index].name

    def crop(self, index: int) -> Image:
        """The decoded face, scaled to the network's size where it has another."""
        try:
            image = read_image(self._table.source(index))
            return image if image.shape[:2] == self._size else resize_aligned(image, self._size, self.name(index))
        except ImageError:
            # Only now is the name worth its time: the same error, of the image by its name and place.
            item = self._table[index]
            name = f"{item.name} at byte {item.origin.offset}" if isinstance(item.origin, Span) else item.name
            return read_image(item.source, name=name)


@dataclass(frozen=True, slots=True, eq=False)
class CropBatch:
    """Faces of one step.

    Attributes:
        crops: (B, height, width, 3) RGB uint8.
        people: (B,) labels.
        images: (B,) numbers of the images.
        broken: messages of images that could not be read; the next readable image took the place of each.
    """

    crops: Image
    people: NDArray[np.int64]
    images: NDArray[np.int64]
    broken: tuple[str, ...]


Change = Callable[[Image, int], Image]
"""An aligned face and its place in the batch to what the network sees."""


def read_batch(source: CropSource, images: NDArray[np.int64], change: Change) -> CropBatch:
    """Read and change the faces of one batch.

    An unreadable image is replaced by the next one by number, so that a batch depends on the data alone.

    Raises:
        TrainingError: :data:`TRIES` images in a row cannot be read.
    """
    broken: list[str] = []
    with QuietPillow():
        found = [_readable(source, number, place, change, broken) for place, number in enumerate(images.tolist())]
    numbers = np.array([number for number, _ in found], np.int64)
    return CropBatch(np.stack([crop for _, crop in found]), source.people[numbers], numbers, tuple(broken))


def _readable(source: CropSource, number: int, place: int, change: Change, broken: list[str]) -> tuple[int, Image]:
    """The face of that number, or of the next that can be read; messages of the others are added to ``broken``."""
    for ahead in range(TRIES):
        index = (number + ahead) % len(source.people)
        try:
            return index, change(source.crop(index), place)
        except (ImageError, InvalidValue) as error:
            broken.append(str(error))
    raise TrainingError(f"{TRIES} images in a row cannot be read; the last: {broken[-1]}")
