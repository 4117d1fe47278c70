"""Whatever holds images, opened by one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

from probface.errors import DataError
from probface.readers.folder import image_item, is_image_name, is_pattern, match_files, read_folder
from probface.readers.image_list import read_list
from probface.readers.item import Item
from probface.readers.recordio import read_recordio
from probface.readers.shards import read_shard
from probface.readers.verification_bin import read_verification_bin

CONTAINERS: MappingProxyType[str, Callable[[Path], Iterator[Item]]] = MappingProxyType(
    {
        ".bin": lambda path: iter(read_verification_bin(path).items),
        ".lst": lambda path: iter(read_list(path).items),
        ".rec": read_recordio,
        ".tar": read_shard,
        ".txt": lambda path: iter(read_list(path).items),
    }
)
"""Suffix -> reader."""
LISTS = (".lst", ".txt")
"""Suffixes of the containers that name their images in a text."""


def open_items(path: str | Path) -> Iterator[Item]:
    """The images of a file, a folder or a pattern, one by one, in an order that is the same in every run.

    Args:
        path: an image, a folder (read with all that is below it), a verification ``.bin``, an MXNet ``.rec``, a
            ``.tar`` shard, a list (``.txt``, ``.lst``), or a glob pattern that names images or such files.

    Returns:
        An iterator; images are opened only where their ``source`` is asked for.

    Raises:
        DataError: nothing there, or of no known kind; while iterating, no image in it or a broken format.
    """
    place = Path(path)
    try:
        is_dir, exists = place.is_dir(), place.exists()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a path that can be reached") from error
    if is_dir:
        return _some(read_folder(place), f"folder {path}")
    if not exists:
        if is_pattern(str(path)):
            return _some(_matched(str(path)), f"pattern {path}")
        raise DataError(f"{path}: no such file or folder; check the path")
    suffix = place.suffix.lower()
    if suffix in CONTAINERS:
        return _some(CONTAINERS[suffix](place), str(path))
    if is_image_name(place.name):
        return iter([Item(place.as_posix(), place)])
    raise DataError(
        f"{path}: the suffix {place.suffix!r} is of no known kind; give an image, a folder, a pattern, "
        f"or a file in {', '.join(CONTAINERS)}"
    )


def _matched(pattern: str) -> Iterator[Item]:
    """What the files that a pattern names hold; files of other kinds are passed over.

    So are texts, which may be anything, unless the pattern asks for them: ``*.txt``.
    """
    for path in match_files(pattern):
        suffix = path.suffix.lower()
        if suffix in CONTAINERS and (suffix not in LISTS or pattern.lower().endswith(suffix)):
            yield from CONTAINERS[suffix](path)
        elif is_image_name(path.name):
            yield image_item(path)


def _some(items: Iterator[Item], where: str) -> Iterator[Item]:
    """The same items; none at all is an error."""
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        raise DataError(f"{where}: no image in it; images are known by their suffix, .jpg or .png for example")
