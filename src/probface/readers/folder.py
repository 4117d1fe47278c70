"""Image files: a folder with all that is below it, or a glob pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from probface.errors import DataError
from probface.readers.item import Item

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"})
"""In lower case; a file's suffix counts in any case."""


def is_image_name(name: str) -> bool:
    """Whether the name ends like an image's."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def read_folder(root: Path) -> Iterator[Item]:
    """Every image in a folder and below it, in the order of the names, folder by folder.

    An item's name is its path, beginning with ``root`` as given; its label is the name of the folder that holds it.
    Linked folders are followed; each folder is read once, by whatever names it can be reached, so loops end.

    Raises:
        DataError: a folder cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [(root, True)]
    while waiting:
        path, is_dir = waiting.pop()
        if is_dir:
            waiting.extend(sorted(_children(path, seen), reverse=True))
        else:
            yield _item(path)


def read_glob(pattern: str) -> Iterator[Item]:
    """Every image that a pattern names (``**`` reaches into folders below), in the order of the paths.

    An item's name is its path; its label is the name of the folder that holds it.
    """
    # Path.glob would take apart an absolute pattern, and needs a folder to begin at.
    paths = (Path(match) for match in sorted(glob.glob(pattern, recursive=True)) if is_image_name(match))  # noqa: PTH207
    return (_item(path) for path in paths if not path.is_dir())


def _children(folder: Path, seen: set[tuple[int, int]]) -> list[tuple[Path, bool]]:
    """The folders (True) and images (False) in a folder; none if it was seen before."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return []
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            return [
                (folder / entry.name, is_dir)
                for entry in entries
                if (is_dir := _is_dir(entry)) or (is_image_name(entry.name) and (entry.is_symlink() or entry.is_file()))
            ]
    except OSError as error:
        raise DataError(f"folder {folder}: {error.strerror}; make it readable, or name the files") from error


def _is_dir(entry: os.DirEntry[str]) -> bool:
    # Path says False of a link that leads nowhere or to itself. Named like an image, such a link is listed as one:
    # whoever opens it says what is wrong.
    return Path(entry).is_dir() if entry.is_symlink() else entry.is_dir()


def _item(path: Path) -> Item:
    return Item(path.as_posix(), path, path.absolute().parent.name)
