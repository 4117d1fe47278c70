"""One image to be worked on: its name, where its bytes are, and whose it is said to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from probface.errors import UnreadableImage


@dataclass(frozen=True, slots=True)
class Span:
    """An encoded image inside a larger file: ``size`` bytes from ``offset``, read only when asked for."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes.

        Raises:
            UnreadableImage: the file is gone, or ends before the span does.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise UnreadableImage(f"{self.path}: {error.strerror}; it must stay while its images are read") from error
        if len(data) != self.size:
            raise UnreadableImage(
                f"{self.path}: ends before byte {self.offset + self.size}; get a complete copy of the file"
            )
        return data


@dataclass(frozen=True, slots=True)
class Broken:
    """An entry that its container could not give; ``reason`` is the whole message. The other entries are usable."""

    reason: str


Origin: TypeAlias = Path | bytes | Span | Broken


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a reader.

    Attributes:
        name: unique among the items of one reader, the same in every run; outputs are listed under it.
        origin: where the encoded image is.
        label: the identity that the data set states, if it does.
    """

    name: str
    origin: Origin
    label: str | None = None

    @property
    def source(self) -> Path | bytes:
        """What :func:`probface.face.image.read_image` takes: a path, or the encoded bytes (read now, not kept).

        Raises:
            UnreadableImage: the container is corrupted at this entry, or was cut short.
        """
        if isinstance(self.origin, Broken):
            raise UnreadableImage(self.origin.reason)
        return self.origin.read() if isinstance(self.origin, Span) else self.origin
