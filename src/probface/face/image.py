"""From whatever holds an image to RGB uint8: the only place where bytes become pixels.

Every format, colour mode and orientation that a photo may come in ends as one array; everything that is no photo ends
as one clear error. The size is read from the header and checked before a pixel is decoded.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as Pillow

from probface.defaults import MAX_PIXELS
from probface.errors import ImageTooLarge, InvalidValue, UnreadableImage
from probface.types import Image

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | NDArray[np.generic]
"""A path, encoded bytes, a binary file object read from where it stands, or an array (RGB or grey, uint8)."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_lifting = threading.Lock()


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Image:
    """Decode one image.

    EXIF orientation is applied; transparency is laid over white; grey, palette, CMYK and 16-bit images become 8-bit
    RGB; of an animation the first frame is taken.

    Args:
        source: see :data:`ImageSource`.
        max_pixels: refuse images with more.
        name: what to call it in messages; :func:`source_name` if not given.

    Returns:
        RGB uint8, (height, width, 3), contiguous.

    Raises:
        UnreadableImage: missing, a folder, empty, truncated, of no known format, or of float pixels.
        ImageTooLarge: more pixels than ``max_pixels``.
        InvalidValue: an array of the wrong shape or dtype, a text file object, or no source at all.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    name = _on_one_line(source_name(source) if name is None else name)
    content = _content(source, name)
    if not content:
        raise UnreadableImage(f"image {name}: empty (0 bytes); give a whole image file")
    with QuietPillow():
        return _decode(content, name, max_pixels)


def source_name(source: ImageSource) -> str:
    """What to call a source in messages: its path, ``<bytes>``, ``<file>`` or ``<array>``."""
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return "<bytes>" if isinstance(source, bytes) else "<file>"


def check_image(array: NDArray[np.generic]) -> Image:
    """The array itself, if it is an image in the sense of this package.

    Raises:
        InvalidValue: not RGB uint8 of shape (height, width, 3), or empty.
    """
    if array.dtype != np.uint8:
        hint = " with NaN" if array.dtype.kind == "f" and np.isnan(array.astype(np.float64)).any() else ""
        raise InvalidValue(
            f"image array of dtype {array.dtype}{hint}: must be uint8, 0..255; scale and convert it first"
        )
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise InvalidValue(
            f"image array of shape {array.shape}: must be (height, width, 3) RGB, not empty; "
            "read_image turns grey (height, width) into it"
        )
    return np.asarray(array, np.uint8)


def encode_png(image: Image) -> bytes:
    """An RGB uint8 image as PNG."""
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class QuietPillow:
    """No remarks of Pillow's on metadata, which are no use to a caller, while any thread decodes.

    :func:`read_image` sees to it by itself; around many calls it costs once what it costs each of them.

    The warning filters are global to the process. Threads that each save and restore them would put them back in the
    wrong order and leave them changed for good: the first one in saves them, the last one out restores them.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _inside: ClassVar[int] = 0
    _saved: ClassVar[warnings.catch_warnings[None]]
    _mine: ClassVar[threading.local] = threading.local()

    def __enter__(self) -> None:
        cls = type(self)
        depth = self._mine.depth = getattr(self._mine, "depth", 0) + 1
        if depth > 1:
            return
        with cls._lock:
            if cls._inside == 0:
                cls._saved = warnings.catch_warnings()
                cls._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            cls._inside += 1

    def __exit__(self, *exception: object) -> None:
        cls = type(self)
        self._mine.depth -= 1
        if self._mine.depth > 0:
            return
        with cls._lock:
            cls._inside -= 1
            if cls._inside == 0:
                cls._saved.__exit__(None, None, None)


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Pillow refuses images above a limit that is global to the process. Ours decides instead, one thread at a time."""
    with _lifting:
        before = Pillow.MAX_IMAGE_PIXELS
        Pillow.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Pillow.MAX_IMAGE_PIXELS = before


def _content(source: str | os.PathLike[str] | bytes | BinaryIO, name: str) -> bytes:
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | os.PathLike):
        return _content_of_file(source, name)
    path = Path(source)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableImage(f"image {name}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise UnreadableImage(f"image {name}: a folder; name an image in it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImage(f"image {name}: cannot be opened ({reason}); mend its permissions or path") from error


def _content_of_file(file: object, name: str) -> bytes:
    read = getattr(file, "read", None)
    if read is None:
        kind = type(file).__name__
        raise InvalidValue(f"image source of type {kind}: must be a path, bytes, a binary file object or a numpy array")
    try:
        content = read()
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"image {name}: cannot be read ({error}); open it with mode 'rb'") from error
    if not isinstance(content, bytes):
        raise InvalidValue(f"image {name}: reads as {type(content).__name__}, not bytes; open it with mode 'rb'")
    return content


def _decode(content: bytes, name: str, max_pixels: int) -> Image:
    picture = _identify(content, name)
    width, height = picture.size
    pixels = width * height
    if pixels > max_pixels:
        raise ImageTooLarge(
            f"image {name}: {width} x {height} = {pixels} pixels, over the limit of {max_pixels}; "
            "shrink it, or raise max_pixels"
        )
    if picture.mode == "F":
        raise UnreadableImage(f"image {name}: float pixels, whose range nothing states; save it with 8 or 16 bits")
    try:
        with _without_pillow_limit() if pixels > (Pillow.MAX_IMAGE_PIXELS or 0) else nullcontext():
            picture.load()
        return np.ascontiguousarray(_to_rgb(_upright(picture)), np.uint8)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        raise UnreadableImage(f"image {name}: damaged or cut off ({error}); get a whole copy") from error


def _open(content: bytes) -> Pillow.Image:
    try:
        return Pillow.open(io.BytesIO(content), formats=FORMATS)
    except Pillow.DecompressionBombError:
        with _without_pillow_limit():
            return Pillow.open(io.BytesIO(content), formats=FORMATS)


def _identify(content: bytes, name: str) -> Pillow.Image:
    """The image as its header tells it, not yet decoded."""
    try:
        return _open(content)
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise UnreadableImage(f"image {name}: not an image of a known format ({known}); convert it") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UnreadableImage(f"image {name}: damaged or cut off ({error}); get a whole copy") from error


_TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}


def _upright(picture: Pillow.Image) -> Pillow.Image:
    """The picture as its EXIF orientation says; as it is stored where that cannot be read.

    Pillow's own ``exif_transpose`` also writes all of the EXIF data anew, and fails on one odd entry anywhere in it.
    """
    if picture.format == "JPEG" and not {"exif", "xmp"} & picture.info.keys():
        return picture  # as getexif would find, in a hundredth of the time
    try:
        turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):
        return picture
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Pillow.Image) -> Image:
    """Any mode of Pillow's to 8-bit RGB."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):
        return _grey16(np.asarray(picture))
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        ground = Pillow.new("RGBA", layer.size, "white")
        ground.alpha_composite(layer)
        picture = ground
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _grey16(values: NDArray[np.generic]) -> Image:
    """Grey of 16 bits, whatever integer holds it: the upper 8 bits, three times."""
    upper = np.clip(np.asarray(values, np.int64) >> 8, 0, 255).astype(np.uint8)
    return np.repeat(upper[:, :, None], 3, axis=2)


def _from_array(array: NDArray[np.generic], max_pixels: int) -> Image:
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    image = check_image(array)
    height, width = image.shape[:2]
    if height * width > max_pixels:
        raise ImageTooLarge(
            f"image array of {width} x {height} pixels: over the limit of {max_pixels}; shrink it, or raise max_pixels"
        )
    return np.ascontiguousarray(image)


def _on_one_line(name: str) -> str:
    """A name for messages: quoted and escaped where it is empty, breaks the line, or is no valid text."""
    return name if name and name.isprintable() else repr(name)
