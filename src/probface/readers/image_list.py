"""Lists of images, one a line: ``.txt`` with a path and a label, ``.lst`` as MXNet's im2rec takes them.

.txt    path label                      the label is what follows the last tab, or else the last white space
.lst    index TAB label... TAB path     labels are numbers, of which the first counts

Relative paths begin at the list's folder. Blank lines and lines that begin with ``#`` are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from probface.errors import DataError, InvalidValue
from probface.readers.item import Item


@dataclass(frozen=True, slots=True)
class ImageList:
    """What a list names.

    Attributes:
        items: the images that are there, in the order of the list, named by their path as the list writes it.
        missing: paths that were left out because no file is there.
    """

    items: tuple[Item, ...]
    missing: tuple[str, ...] = ()


def read_list(path: Path, *, missing: Literal["error", "skip"] = "error") -> ImageList:
    """Read a list file; the images themselves stay unopened.

    Args:
        path: a ``.txt`` or ``.lst`` file in UTF-8.
        missing: what to do about a path without a file: end with an error, or leave it out.

    Raises:
        DataError: the list cannot be read, a line breaks the format or names an image again, or (with "error") no
            file is there; the message names the line.
        InvalidValue: another suffix, or another word for ``missing``.
    """
    parse = _FORMATS.get(path.suffix.lower())
    if parse is None:
        raise InvalidValue(f"{path}: a list of images must end in {' or '.join(_FORMATS)}; rename it")
    if missing not in ("error", "skip"):
        raise InvalidValue(f"missing {missing!r}: must be 'error' or 'skip'; choose one of them")
    items: list[Item] = []
    absent: list[str] = []
    seen: dict[str, int] = {}
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        name, label = parse(line, where)
        if seen.setdefault(name, number) != number:
            raise DataError(f"{where}: {name!r} is on line {seen[name]} already; remove one of the two lines")
        place = path.parent / name
        if _is_file(place):
            items.append(Item(name, place, label))
        elif missing == "skip":
            absent.append(name)
        else:
            raise DataError(f"{where}: {name!r}: no such file at {place}; correct the path, or skip missing images")
    return ImageList(tuple(items), tuple(absent))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that say something, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                text = line.strip()
                if text and not text.startswith("#"):
                    yield number, text
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a readable list") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error}); save it so") from error


def _path_and_label(line: str, where: str) -> tuple[str, str]:
    """A line of ``.txt``."""
    fields = line.rsplit("\t", 1) if "\t" in line else line.rsplit(None, 1)
    if len(fields) != 2:
        raise DataError(f"{where}: {line!r}, expected a path and a label; correct the line")
    return fields[0].rstrip(), fields[1].lstrip()


def _index_labels_and_path(line: str, where: str) -> tuple[str, str]:
    """A line of ``.lst``; the label is worded as :func:`probface.readers.recordio.read_recordio` words it."""
    fields = line.split("\t")
    try:
        int(fields[0])
        label = float(fields[1])
    except (ValueError, IndexError):
        label = math.nan
    if len(fields) < 3 or not math.isfinite(label):
        raise DataError(
            f"{where}: {line!r}, expected an index, one or more numbers as labels and a path, with tabs between; "
            "correct the line"
        )
    return fields[-1], f"{label:.10g}"


_FORMATS: MappingProxyType[str, Callable[[str, str], tuple[str, str]]] = MappingProxyType(
    {".txt": _path_and_label, ".lst": _index_labels_and_path}
)
"""Suffix -> what makes (path, label) of a line."""


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that the file system cannot have, or a folder that may not be entered
        return False
