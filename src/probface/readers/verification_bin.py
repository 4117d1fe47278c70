"""InsightFace's verification sets (``lfw.bin``, ``cfp_fp.bin`` ...): a pickle of (encoded images, genuine or not).

A pickle is a program. This reader lets it build lists, tuples, bytes, booleans and numbers; the few names of numpy
that such files contain are answered by inert stand-ins, and any other name ends the reading before anything runs.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.readers.item import Item

_CORRUPTED = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
"""All that the unpickler is documented or seen to raise on bytes that are no sound pickle."""
_HASHING = ("DICT", "SETITEM", "SETITEMS", "ADDITEMS", "FROZENSET")
"""Opcodes that hash what the pickle built: deeply nested tuples overflow the stack, shared ones take for ever."""


@dataclass(frozen=True, slots=True, eq=False)
class VerificationSet:
    """Pairs of images: pair ``i`` is ``items[2 * i]`` and ``items[2 * i + 1]``.

    Attributes:
        items: 2 P images, encoded, named by the file's path, a slash and their number.
        genuine: (P,) bool, whether a pair shows one person. Folds are ten equal runs in this order.
    """

    items: tuple[Item, ...]
    genuine: NDArray[np.bool_]


def read_verification_bin(path: Path) -> VerificationSet:
    """Read a verification ``.bin`` file, of Python 2 or 3; it is held in memory as a whole.

    Raises:
        DataError: not such a pickle, or one that asks for anything but plain data.
    """
    try:
        with path.open("rb") as file:
            _check_opcodes(file)
            content = _Unpickler(file, encoding="bytes").load()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a readable .bin file") from error
    except _CORRUPTED as error:
        raise DataError(f"{path}: no verification set ({error}); get the file again from its source") from error
    if not (isinstance(content, list | tuple) and len(content) == 2 and all(isinstance(c, list) for c in content)):
        raise DataError(f"{path}: must hold a list of images and a list of booleans, and holds something else")
    images = [image for image in map(_bytes, content[0]) if image is not None]
    genuine = [flag for flag in content[1] if isinstance(flag, int) and flag in (0, 1)]
    if (len(images), len(genuine)) != (len(content[0]), len(content[1])):
        raise DataError(f"{path}: must hold encoded images (bytes) and booleans, and holds something else")
    if len(images) != 2 * len(genuine):
        raise DataError(f"{path}: {len(images)} images for {len(genuine)} pairs, must be two for each pair")
    items = tuple(Item(f"{path.as_posix()}/{number:05d}", image) for number, image in enumerate(images))
    return VerificationSet(items, np.array(genuine, np.bool_))


class _Array:
    """Stands in for a numpy array or its dtype: remembers what it was made with, and does nothing."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Name:
    """A name that the pickle may call."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., object]) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it tries to change a function")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes in the protocols of Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text in the encoding {_text(encoding)!r}")
    return text.encode("latin1")


def _scalar(dtype: _Array, value: bytes) -> int:
    """A boolean or whole number of numpy."""
    kind = _text(dtype.arguments[0])
    if kind not in ("b1", "u1", "i1", "i4", "i8") or not isinstance(value, bytes):
        raise pickle.UnpicklingError(f"a number of the type {kind!r}")
    return int.from_bytes(value, "little", signed=kind[0] == "i")


def _from_buffer(buffer: object, dtype: _Array, *_: object) -> _Array:
    """How numpy 2 writes an array in protocol 5."""
    array = _Array()
    array.state = (1, (len(buffer),) if isinstance(buffer, bytes | bytearray) else (), dtype, False, buffer)
    return array


_ALLOWED: MappingProxyType[tuple[str, str], Callable[..., object]] = MappingProxyType(
    {
        ("_codecs", "encode"): _encode,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Array,
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy.core.multiarray", "scalar"): _scalar,
        ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    }
)


def _check_opcodes(file: BinaryIO) -> None:
    """Refuse what hashes, and a memo index beyond the file's length, which would fill gigabytes; then rewind."""
    size = file.seek(0, 2)
    file.seek(0)
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in _HASHING:
            raise pickle.UnpicklingError("it fills a dict or set, which no image or boolean needs")
        if opcode.name.endswith("PUT") and isinstance(argument, int) and argument > size:
            raise pickle.UnpicklingError(f"memo index {argument} in a file of {size} bytes")
    file.seek(0)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Refuse every name but the few known ones, and answer these with a stand-in."""
        make = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))  # numpy 2 moved them
        if make is None:
            raise pickle.UnpicklingError(f"it asks for {f'{module}.{name}'!r}, which no image or boolean needs")
        return _Name(make)

    def persistent_load(self, _pid: Any) -> Any:
        """Refuse what lies outside of the file, in one line, which the pickle module's own words are not."""
        raise pickle.UnpicklingError("it asks for an object outside of the file, which no image or boolean needs")


def _bytes(value: object) -> bytes | None:
    """Bytes, or an array of bytes in one dimension, as bytes; None for all else."""
    if isinstance(value, _Array):
        match value.state:
            case (_, (_,), _Array(arguments=(kind, *_)), _, data) if _text(kind) in ("u1", "i1"):
                value = data
    return bytes(value) if isinstance(value, bytes | bytearray) else None


def _text(value: object) -> str:
    """A text of Python 2 or 3; of anything else its type, for its own text may be endless."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    return value if isinstance(value, str) else type(value).__name__
