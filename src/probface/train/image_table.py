"""The images of a training set as a few flat arrays: millions of them fit where a list of objects would not."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.readers.item import Broken, Item, Origin, Span

_WHOLE_FILE, _IN_MEMORY, _BROKEN = -1, -2, -3


class ImageTable:
    """Images and whose they are; about 60 bytes an image beside its name.

    Args:
        items: of any reader, each with a label.

    Attributes:
        people: (N,) int64, dense labels 0..K-1 in the order of the sorted names of the people.
        identities: the K names.

    Raises:
        DataError: an item without a label, or no item at all.
    """

    people: NDArray[np.int64]
    identities: tuple[str, ...]

    def __init__(self, items: Iterable[Item]) -> None:
        self._names, self._ends = bytearray(), array("q", [0])
        self._places, self._offsets, self._sizes = array("q"), array("q"), array("q")
        self._paths: dict[Path, int] = {}
        self._objects: list[bytes | Broken] = []
        labels, known = array("q"), dict[str, int]()
        for item in items:
            if item.label is None:
                raise DataError(f"image {item.name}: nobody's; training images need a person each")
            labels.append(known.setdefault(item.label, len(known)))
            self._append(item)
        if not len(labels):
            raise DataError("training set: no image at all; give images with a person each")
        self.identities = tuple(sorted(known))
        dense = np.empty(len(known), np.int64)
        dense[[known[name] for name in self.identities]] = np.arange(len(known))
        self.people = dense[np.frombuffer(labels, np.int64)]
        self._files = tuple(self._paths)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Item:
        """The image as its reader gave it."""
        name = self._names[self._ends[index] : self._ends[index + 1]].decode()
        return Item(name, self._origin(index), self.identities[self.people[index]])

    def _append(self, item: Item) -> None:
        self._names += item.name.encode()
        self._ends.append(len(self._names))
        match item.origin:
            case Span(path, offset, size):
                place = self._paths.setdefault(path, len(self._paths))
            case Path() as path:
                place, offset, size = self._paths.setdefault(path, len(self._paths)), 0, _WHOLE_FILE
            case content:
                place, offset = len(self._objects), 0
                size = _BROKEN if isinstance(content, Broken) else _IN_MEMORY
                self._objects.append(content)
        self._places.append(place)
        self._offsets.append(offset)
        self._sizes.append(size)

    def _origin(self, index: int) -> Origin:
        place, size = self._places[index], self._sizes[index]
        if size in (_IN_MEMORY, _BROKEN):
            return self._objects[place]
        path = self._files[place]
        return path if size == _WHOLE_FILE else Span(path, self._offsets[index], size)
