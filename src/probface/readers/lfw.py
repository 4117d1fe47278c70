"""Labeled Faces in the Wild: the lists ``people.txt`` and ``pairs.txt``, and the images, unpacked or in their tar.

An image is named as the lists mean it, ``Name/Name_0001``.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from probface.errors import DataError
from probface.readers.item import Item, Span
from probface.readers.shards import members


@dataclass(frozen=True, slots=True)
class LfwPair:
    """One comparison of the protocol.

    Attributes:
        fold: 1..10.
        a, b: names of the two images.
        genuine: both show one person.
    """

    fold: int
    a: str
    b: str
    genuine: bool


@dataclass(frozen=True, slots=True)
class LfwFiles:
    """Where the parts of the data set are; ``images`` is a tar file or a folder of people."""

    people: Path
    pairs: Path
    images: Path


def find_lfw(root: Path) -> LfwFiles:
    """Find ``people.txt``, ``pairs.txt`` and the images (a folder or tar file named ``lfw*``) in a folder.

    Raises:
        DataError: one of them is not there.
    """
    people, pairs = root / "people.txt", root / "pairs.txt"
    for path in (people, pairs):
        if not path.is_file():
            raise DataError(f"{path}: not found; LFW needs people.txt, pairs.txt and its images in one folder")
    images = [path for path in sorted(root.glob("lfw*")) if path.is_dir() or path.suffix == ".tar"]
    if not images:
        raise DataError(f"{root}: no lfw*.tar and no folder lfw*; LFW needs people.txt, pairs.txt and its images there")
    return LfwFiles(people, pairs, images[0])


def people_folds(path: Path) -> dict[str, int]:
    """Read ``people.txt``: a person's name -> the fold, 1..10, that he or she belongs to.

    Raises:
        DataError: the file breaks its format; the message names the line.
    """
    lines = _Lines(path)
    folds: dict[str, int] = {}
    (count,) = lines.numbers(1)
    for fold in range(1, count + 1):
        (people,) = lines.numbers(1)
        for _ in range(people):
            name, _ = lines.fields("a name and how many images there are", "ni")
            folds[str(name)] = fold
    lines.end()
    return folds


def read_pairs(path: Path) -> tuple[LfwPair, ...]:
    """Read ``pairs.txt``: of each fold the genuine pairs, then as many impostor pairs.

    The lists ``pairsDevTrain.txt`` and ``pairsDevTest.txt``, with one number in the first line, are one fold.

    Raises:
        DataError: the file breaks its format; the message names the line.
    """
    lines = _Lines(path)
    header = lines.numbers(1, 2)
    folds, per_fold = header if len(header) == 2 else (1, header[0])
    pairs: list[LfwPair] = []
    for fold in range(1, folds + 1):
        for _ in range(per_fold):
            name, a, b = lines.fields("a name and two image numbers", "nii")
            pairs.append(LfwPair(fold, image_name(str(name), int(a)), image_name(str(name), int(b)), True))
        for _ in range(per_fold):
            name, a, other, b = lines.fields("two names, each with an image number", "nini")
            pairs.append(LfwPair(fold, image_name(str(name), int(a)), image_name(str(other), int(b)), False))
    lines.end()
    return tuple(pairs)


def lfw_images(root: Path) -> tuple[Item, ...]:
    """Every image, in the order of the names; the label is the person's name.

    Args:
        root: the tar file, the folder of people it unpacks to, or the folder that :func:`find_lfw` takes.

    Raises:
        DataError: not there, not a plain tar file, or no image in it.
    """
    if root.is_dir() and (root / "people.txt").is_file():
        root = find_lfw(root).images
    found = _in_folder(root) if root.is_dir() else _in_tar(root)
    items = tuple(sorted(found, key=lambda item: item.name))
    if not items:
        raise DataError(f"{root}: no image named Name/Name_0001.jpg in it; give LFW's tar file or folder of people")
    return items


def image_name(person: str, number: int) -> str:
    """The ``number``-th image of a person, as ``Name/Name_0001``."""
    return f"{person}/{person}_{number:04d}"


def _in_folder(root: Path) -> Iterator[Item]:
    return (Item(f"{path.parent.name}/{path.stem}", path, path.parent.name) for path in root.glob("*/*.jpg"))


def _in_tar(path: Path) -> Iterator[Item]:
    try:
        with tarfile.open(path, "r:") as tar:
            for member in members(tar):
                inner = PurePosixPath(member.name)
                if member.isfile() and inner.suffix == ".jpg":
                    span = Span(path, member.offset_data, member.size)
                    yield Item(f"{inner.parent.name}/{inner.stem}", span, inner.parent.name)
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"{path}: not a complete plain tar file ({error}); give LFW's tar file or folder of people"
        ) from error


class _Lines:
    """The lines of a list, taken one by one and checked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as text ({error})") from error
        self._next = 0

    def fields(self, expected: str, kinds: str) -> list[str | int]:
        """The fields of the next line; ``kinds`` has a letter for each, ``n`` for a name and ``i`` for a number."""
        fields = self._take(expected).split()
        if len(fields) != len(kinds) or not all(
            field.isdecimal() for field, kind in zip(fields, kinds, strict=True) if kind == "i"
        ):
            raise self._error(expected)
        return [int(field) if kind == "i" else field for field, kind in zip(fields, kinds, strict=True)]

    def numbers(self, *counts: int) -> list[int]:
        """The next line as numbers, as many as one of ``counts``."""
        expected = f"{' or '.join(map(str, counts))} whole number(s)"
        fields = self._take(expected).split()
        if len(fields) not in counts or not all(field.isdecimal() for field in fields):
            raise self._error(expected)
        return [int(field) for field in fields]

    def end(self) -> None:
        """Nothing but white space may follow."""
        while self._next < len(self._lines):
            if self._take("").strip():
                raise self._error("the end of the list")

    def _take(self, expected: str) -> str:
        if self._next >= len(self._lines):
            raise DataError(f"{self._path}: ends at line {self._next}, expected {expected}; get a complete copy")
        self._next += 1
        return self._lines[self._next - 1]

    def _error(self, expected: str) -> DataError:
        return DataError(
            f"{self._path}, line {self._next}: {self._lines[self._next - 1]!r}, expected {expected}; correct the line"
        )
