"""The encoded bytes of an image with the faces found in them: read once, so that the digest is of what was seen."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probface.errors import ImageTooLarge, InvalidValue, UnreadableImage
from probface.face.image import ImageSource, encode_png, read_image, source_name
from probface.pipeline.recogniser import AlignedFace

MAX_FILE_BYTES = 200_000_000
"""Larger files are refused before they are read; a photo of the most pixels allowed is far below."""


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


def checked_source(source: ImageSource) -> ImageSource:
    """The same image; the bytes of a path that can be read, refused as :func:`read_regular` does."""
    if not isinstance(source, str | os.PathLike):
        return source
    content = _content(source, source_name(source))
    return source if content is None else content


def digest_of(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_regular(path: str | os.PathLike[str], name: str) -> bytes:
    """The bytes of a regular file: a pipe could keep us waiting for ever, and a device gives bytes without end.

    Args:
        path: of the file.
        name: what to call it in messages.

    Raises:
        UnreadableImage: a pipe, a socket or a device.
        ImageTooLarge: more than 200 MB; nothing is read then.
        OSError, ValueError: as :func:`open`.
    """
    with open(path, "rb", opener=_at_once) as file:
        told = os.fstat(file.fileno())
        if not stat.S_ISREG(told.st_mode):
            raise UnreadableImage(f"image {name}: no regular file, but a pipe or device; save the image to a file")
        content = b"" if told.st_size > MAX_FILE_BYTES else file.read(MAX_FILE_BYTES + 1)
    size = max(told.st_size, len(content))  # it may grow while it is read
    if size > MAX_FILE_BYTES:
        raise ImageTooLarge(
            f"image {name}: a file of {size} bytes, over the limit of {MAX_FILE_BYTES}; save it smaller"
        )
    return content


def _at_once(path: str, flags: int) -> int:
    """Open without waiting until somebody writes into a pipe; of a regular file nothing else changes."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _content(source: ImageSource, name: str) -> bytes | None:
    """The encoded bytes; None for a path that cannot be read."""
    if isinstance(source, np.ndarray):
        return encode_png(read_image(source, max_pixels=source.size))
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        try:
            return read_regular(source, name)
        except (OSError, ValueError):
            return None
    content = source.read()
    if not isinstance(content, bytes):
        raise InvalidValue(f"image {name}: reads as {type(content).__name__}, not bytes; open it with mode 'rb'")
    return content
