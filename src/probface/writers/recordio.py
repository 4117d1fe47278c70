"""Face sets as InsightFace trains on them: ``train.rec``, ``train.idx``, ``property``; and ``identities.txt``.

    record 0            labels [N + 1, N + K + 1], no image
    record 1 .. N       the images, person by person; label 0 .. K - 1
    record N+1 .. N+K   for each person, labels [first, one past the last] of the records of his or her images

``property`` holds "K,height,width"; line i of ``identities.txt`` is what label i was called before it became a number.
The format of a record stands in :mod:`probface.readers.recordio`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from probface.errors import DataError, InvalidValue, StorageError
from probface.readers.item import Broken, Item
from probface.storage import replacing, storage_errors
from probface.writers.intake import Intake, OnBroken, Prepare
from probface.writers.record_file import LONGEST_IMAGE, RecordFile

_MOST = 1 << 24
"""Record numbers are kept as float32, which counts by ones so far."""


@dataclass(frozen=True, slots=True)
class WrittenSet:
    """What went into a face set.

    Attributes:
        images, identities: how many were written.
        left_out: why each image that was left out could not be read, one line each.
    """

    images: int
    identities: int
    left_out: tuple[str, ...]


def write_recordio(
    items: Iterable[Item],
    path: Path,
    *,
    broken: OnBroken = "error",
    prepare: Prepare | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WrittenSet:
    """Write a face set: ``path`` (a ``.rec``), its ``.idx``, and ``property`` and ``identities.txt`` beside it.

    Encoded images are copied as they are, or as ``prepare`` gives them. Labels that are whole numbers come first, by
    value, then all others, by their text; they are numbered in this order without gaps, so 0 .. K - 1 stay what they
    are. Memory holds the items, one image, and what ``prepare`` has under way.

    The files are written under temporary names and moved into place when all are whole, the ``.rec`` last; an older
    one of its name is removed before. So after an error nothing new is left, and an older set is as it was; and
    wherever the process is killed, a ``.rec`` that stands has its own files beside it.

    Args:
        items: labelled images, of one size once they are prepared.
        path: the ``.rec`` file, the only one of its folder.
        broken: what to do about an image that cannot be read: end with an error, or leave it out.
        prepare: given the images in the order of the file, gives those to write, such as their aligned faces.
        progress: told how many images are done, and of how many.

    Raises:
        InvalidValue: ``path`` has another suffix, or a label cannot be a line of text.
        UnreadableImage: an image cannot be read, and such are errors.
        DataError: no image, one without a label or of another size, or more than the format can count.
        StorageError: the disk is full, the place cannot be written, or other files would be overwritten.
    """
    index, sizes, names = path.with_suffix(".idx"), path.with_name("property"), path.with_name("identities.txt")
    _check_place(path, index, sizes, names)
    intake = Intake(broken)
    ordered = _by_person(items, intake)
    prepared = ordered if prepare is None else prepare(ordered)
    with (  # left in the opposite order: the .rec is moved last
        replacing(path) as new_path,
        replacing(index) as new_index,
        replacing(sizes) as new_sizes,
        replacing(names) as new_names,
    ):
        with storage_errors(path), new_path.open("wb") as file, new_index.open("w", encoding="ascii") as lines:
            records = RecordFile(file, lines)
            images, written = _write(prepared, len(ordered), intake, records, progress or (lambda *_: None))
        if intake.size is None:
            raise DataError(f"{path}: no image to write; give at least one that can be read")
        new_sizes.write_text("{},{},{}\n".format(len(written), *intake.size), encoding="ascii")
        new_names.write_text("".join(f"{name}\n" for name in written), encoding="utf-8", newline="\n")
        with storage_errors(path):
            path.unlink(missing_ok=True)
    return WrittenSet(images, len(written), tuple(intake.left_out))


def _check_place(path: Path, *beside: Path) -> None:
    """Nothing of anybody else's may be overwritten."""
    if path.suffix != ".rec":
        raise InvalidValue(f"{path}: a face set must end in .rec; rename it")
    with storage_errors(path):
        other = next((entry for entry in sorted(path.parent.glob("*.rec")) if entry.name != path.name), None)
        taken = [place for place in (path, *beside) if place.is_dir() or (place.exists() and not path.exists())]
    if other is not None:
        raise StorageError(
            f"{path}: {other.name} is in this folder, and the files beside it can serve one set; choose another folder"
        )
    if taken:
        raise StorageError(f"{taken[0]}: is there and no part of a set; remove it or choose another folder")


def _by_person(items: Iterable[Item], intake: Intake) -> list[Item]:
    """The labelled images, person by person, in the order of the labels."""
    people: dict[str, list[Item]] = {}
    count = 0
    for item in items:
        if isinstance(item.origin, Broken):
            intake.read(item)  # the container could not even tell its label
        elif item.label is None:
            raise DataError(f"image {item.name}: has no label, by which a face set is ordered; give images with labels")
        else:
            people.setdefault(item.label, []).append(item)
            count += 1
    for label in people:
        _check_label(label)
    if count + len(people) >= _MOST:
        raise DataError(
            f"{count} images of {len(people)} people: a face set can number {_MOST - 1} records; divide it into several"
        )
    return [item for label in sorted(people, key=_place) for item in people[label]]


def _check_label(label: str) -> None:
    """A label must be one line of text."""
    if label.splitlines() != [label] or any("\ud800" <= sign <= "\udfff" for sign in label):
        raise InvalidValue(f"label {label!r}: must be one line of text, not empty; rename it")


def _place(label: str) -> tuple[bool, int, str]:
    """Where a label stands among the others; the digits are bounded because longer ones are a name, not a number."""
    number = label.isascii() and label.isdecimal() and len(label) <= 18
    return not number, int(label) if number else 0, label


def _write(
    items: Iterable[Item], total: int, intake: Intake, records: RecordFile, progress: Callable[[int, int], None]
) -> tuple[int, list[str]]:
    """Write all records.

    Returns:
        How many images were written, and the name of each label.
    """
    names: list[str] = []
    ranges: list[tuple[int, int]] = []
    done = 0
    records.add((0, 0))  # not yet known; as long as what will stand there
    for name, own in groupby(items, key=lambda item: item.label or ""):
        first = records.next
        for item in own:
            for content in intake.read(item) or ():
                if len(content) > LONGEST_IMAGE:
                    raise DataError(
                        f"image {item.name}: {len(content)} bytes, a record holds {LONGEST_IMAGE}; leave the image out"
                    )
                records.add(len(names), content)
            done += 1
            progress(done, total)
        if records.next > first:
            names.append(name)
            ranges.append((first, records.next))
    end = records.next
    for bounds in ranges:
        records.add(bounds)
    records.put_first((end, records.next))
    return end - 1, names
