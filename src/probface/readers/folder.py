"""Image files: a folder with all that is below it, or a glob pattern."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import takewhile
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
            yield image_item(path)


def is_pattern(text: str) -> bool:
    """Whether the text has a sign of a glob pattern in it."""
    return any(sign in text for sign in "*?[")


def match_files(pattern: str) -> list[Path]:
    """The files that a pattern names, in the order of the paths; hidden ones only where the pattern has a hidden part.

    ``**`` reaches into folders below, but through no linked one (as in a shell): loops end, and no file comes twice.
    """
    parts = Path(pattern).parts
    fixed = list(takewhile(lambda part: not is_pattern(part), parts))
    # Path.glob wants ``**`` alone in its part, and takes it for folders only where it ends the pattern.
    wild = [part if part == "**" else re.sub(r"\*+", "*", part) for part in parts[len(fixed) :]]
    root, wild = Path(*fixed), [*wild, "*"] if wild[-1] == "**" else wild
    hidden = any(part.startswith(".") for part in wild)
    return sorted(
        path
        for path in set(root.glob("/".join(wild)))
        if (hidden or not any(part.startswith(".") for part in path.relative_to(root).parts)) and not path.is_dir()
    )


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


def image_item(path: Path) -> Item:
    """The image in a file: named by its path, labelled by the folder that holds it."""
    return Item(path.as_posix(), path, path.absolute().parent.name)
