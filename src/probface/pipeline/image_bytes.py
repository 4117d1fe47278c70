"""The encoded bytes of an image with the faces found in them: read once, so that the digest is of what was seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probface.errors import InvalidValue, UnreadableImage
from probface.face.image import ImageSource, encode_png, read_image, source_name
from probface.pipeline.recogniser import AlignedFace


@dataclass(frozen=True, slots=True, eq=False)
class SeenImage:
    """One image and its chosen face.

    Attributes:
        source: its absolute path, so that it can be found again from any folder; or a label such as ``<bytes>``.
        content: the encoded bytes; of an array, those of a PNG.
        digest: SHA-256 of the content, hexadecimal.
        face: cut out.
    """

    source: str
    content: bytes
    digest: str
    face: AlignedFace


def see(find: Callable[[ImageSource, str], tuple[AlignedFace, ...]], source: ImageSource) -> SeenImage:
    """Read an image and find its face.

    Args:
        find: a :class:`probface.pipeline.recogniser.FaceFinder` for the largest face.
        source: the image.

    Raises:
        NoFace, ImageError, InvalidValue: as the finder.
    """
    name = source_name(source)
    content = _content(source, name)
    face, *_ = find(source if content is None else content, name)
    if content is None:  # the finder, which knows every reason why a file cannot be read, could read it after all
        raise UnreadableImage(f"image {name}: it came into being while it was read; try again")
    where = str(Path(source).absolute()) if isinstance(source, str | os.PathLike) else name
    return SeenImage(where, content, digest_of(content), face)


def digest_of(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _content(source: ImageSource, name: str) -> bytes | None:
    """The encoded bytes; None for a path that cannot be read."""
    if isinstance(source, np.ndarray):
        return encode_png(read_image(source, max_pixels=source.size))
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        try:
            return Path(source).read_bytes()
        except (OSError, ValueError):
            return None
    content = source.read()
    if not isinstance(content, bytes):
        raise InvalidValue(f"image {name}: reads as {type(content).__name__}, not bytes; open it with mode 'rb'")
    return content
