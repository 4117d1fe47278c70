"""What goes into a set: encoded images as they are, all of one size, and a note of those that could not be read.

The size is read from an image's header. The pixels are not decoded, so an image that is cut off further on passes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from PIL import Image as Pillow

from probface.errors import DataError, InvalidValue, UnreadableImage
from probface.readers.item import Item

OnBroken: TypeAlias = Literal["error", "skip"]
"""What to do about an image that cannot be read: end with an error, or leave it out."""

Prepare: TypeAlias = Callable[[Iterable[Item]], Iterable[Item]]
"""What is done to the images of a set on their way into it: they come out with their labels, and in their order."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")


class UnequalSizes(DataError):
    """The images of a set differ in size, as photos do."""


@dataclass(slots=True)
class Intake:
    """Reads images for one set.

    Attributes:
        broken: what to do about an image that cannot be read.
        left_out: why each image that was left out could not be read, one line each.
        size: height and width of all images so far.
    """

    broken: OnBroken
    left_out: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    _first: str = ""

    def __post_init__(self) -> None:
        if self.broken not in ("error", "skip"):
            raise InvalidValue(f"broken {self.broken!r}: must be 'error' or 'skip'; choose one of them")

    def read(self, *items: Item) -> tuple[bytes, ...] | None:
        """The encoded images, or None where one of them cannot be read and such are left out.

        Raises:
            UnreadableImage: one cannot be read, and such are errors.
            UnequalSizes: one has another size than those before.
        """
        try:
            contents = tuple(map(_encoded, items))
            sizes = [_size(content, item.name) for content, item in zip(contents, items, strict=True)]
        except UnreadableImage as error:
            if self.broken == "error":
                raise
            self.left_out.append(str(error))
            return None
        for item, size in zip(items, sizes, strict=True):
            self._check(item.name, size)
        return contents

    def _check(self, name: str, size: tuple[int, int]) -> None:
        if self.size is None:
            self.size, self._first = size, name
        if size != self.size:
            raise UnequalSizes(
                f"image {name}: {size[1]} x {size[0]} pixels, and {self._first} has {self.size[1]} x {self.size[0]}; "
                "a set holds aligned crops of one size, so cut all alike"
            )


def _encoded(item: Item) -> bytes:
    source = item.source
    if isinstance(source, Path):
        try:
            return source.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UnreadableImage(f"image {item.name}: {reason}; give an image file that can be opened") from error
    return source


def _size(content: bytes, name: str) -> tuple[int, int]:
    """Height and width, from the header."""
    try:
        with warnings.catch_warnings(action="ignore"):  # remarks on metadata, and on pixels that nobody will decode
            width, height = Pillow.open(io.BytesIO(content), formats=_FORMATS).size
    except (OSError, SyntaxError, ValueError, EOFError, Pillow.DecompressionBombError) as error:
        known = ", ".join(_FORMATS)
        raise UnreadableImage(f"image {name}: no image of a known format ({known}); leave it out or mend it") from error
    return height, width
