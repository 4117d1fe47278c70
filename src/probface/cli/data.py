"""``probface data pack``: images to the files that face recognition is trained and tested with."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from itertools import tee
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from probface.cli.options import Json
from probface.cli.output import print_json, progress_bar, warn

if TYPE_CHECKING:
    from rich.progress import Progress

    from probface.readers.item import Item
    from probface.writers.intake import Prepare


class Trouble(StrEnum):
    """What to do about an image that cannot be had."""

    error = "error"
    skip = "skip"


app = typer.Typer(help="Convert sets of face images.", rich_markup_mode=None)


@app.callback()
def _verbs() -> None:
    """Keep ``pack`` a verb of its own, though it is the only one so far."""


@app.command("pack")
def pack_command(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Folders (one a person), .txt or .lst lists, tar shards, .rec."),
    ],
    out: Annotated[Path, typer.Option("--out", help="FILE.rec, or with --pairs FILE.bin.")],
    pairs: Annotated[Path | None, typer.Option("--pairs", help="LFW's pairs.txt; SOURCE then holds LFW.")] = None,
    align: Annotated[bool, typer.Option("--align", help="The images are photos: cut out each one's face.")] = False,
    size: Annotated[
        int | None, typer.Option("--size", help="Edge of the cut faces in pixels; 112 if not given.", min=8, max=4096)
    ] = None,
    broken: Annotated[
        Trouble, typer.Option("--broken", help="On images that cannot be read, or photos without a face.")
    ] = Trouble.error,
    missing: Annotated[Trouble, typer.Option("--missing", help="On images that a list names in vain.")] = Trouble.error,
    as_json: Json = False,
) -> int:
    """Pack aligned face images, as they are, into one training set or one verification set.

    Of photos, --align packs the most central face, cut out by ArcFace's template, as PNG.
    Beside FILE.rec come its .idx, property, and identities.txt with the name of each label.

    Example: probface data pack people/ --out set/train.rec --align
    """
    from probface.writers.intake import UnequalSizes

    prepare = _preparation(align, size)
    try:
        if pairs is None:
            return _pack_people(sources, out, broken, missing, prepare, as_json)
        return _pack_pairs(sources, out, pairs, broken, missing, prepare, as_json)
    except UnequalSizes as error:
        raise UnequalSizes(f"{error}, or cut them: --align") from error


def _preparation(align: bool, size: int | None) -> Prepare | None:
    """What is done to the images on their way into the set; None where they go in as they are."""
    from probface.errors import InvalidValue

    if align:
        from probface.pipeline.aligned_items import aligned_items

        return partial(aligned_items, size=size or 112)
    if size is not None:
        raise InvalidValue(f"--size {size}: images are copied as they are; add --align, which cuts faces of that size")
    return None


def _pack_people(
    sources: list[str], out: Path, broken: Trouble, missing: Trouble, prepare: Prepare | None, as_json: bool
) -> int:
    from probface.writers.recordio import write_recordio

    absent: list[str] = []
    with progress_bar() as bar:
        task = bar.add_task("packing", total=None)
        written = write_recordio(
            _labelled(sources, missing, absent),
            out,
            broken=broken.value,
            prepare=prepare,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _tell_left_out(written.left_out, absent)
    if as_json:
        counts = {"images": written.images, "identities": written.identities}
        print_json({"out": str(out), **counts, "broken": len(written.left_out), "missing": len(absent)})
    else:
        print(f"{written.images} images of {written.identities} identities -> {out}")
        _print_left_out("images", len(written.left_out), len(absent), prepare)
    return 0


def _pack_pairs(
    sources: list[str],
    out: Path,
    pairs: Path,
    broken: Trouble,
    missing: Trouble,
    prepare: Prepare | None,
    as_json: bool,
) -> int:
    from probface.errors import InvalidValue
    from probface.writers.verification_bin import write_verification_bin

    if len(sources) != 1:
        raise InvalidValue(f"{len(sources)} sources: with --pairs there must be one, which holds LFW; name only that")
    absent: list[str] = []
    with progress_bar() as bar:
        listed = _paired(Path(sources[0]), pairs, missing, absent, bar)
        written = write_verification_bin(
            listed if prepare is None else _prepared(listed, prepare), out, broken=broken.value
        )
    _tell_left_out(written.left_out, absent)
    if as_json:
        counts = {"pairs": written.pairs, "genuine": written.genuine}
        print_json({"out": str(out), **counts, "broken": len(written.left_out), "missing": len(absent)})
    else:
        print(f"{written.pairs} pairs, {written.genuine} of them genuine -> {out}")
        _print_left_out("pairs", len(written.left_out), len(absent), prepare)
    return 0


def _labelled(sources: list[str], missing: Trouble, absent: list[str]) -> Iterator[Item]:
    """The images of all sources; what a list names in vain is added to ``absent``.

    One label is one person, in whatever source. A ``.rec`` numbers its people for itself, so there it is an error.
    """
    from probface.errors import DataError

    home: dict[str | None, str] = {}
    for item in (item for source in sources for item in _opened(source, missing, absent)):
        parent = PurePosixPath(item.name).parent
        own = str(parent) if parent.suffix == ".rec" else ""
        if item.label is not None and home.setdefault(item.label, own) != own:
            raise DataError(
                f"image {item.name}: its label {item.label!r} is in another source too, and in a .rec means something "
                "there alone; pack each .rec by itself"
            )
        yield item


def _opened(source: str, missing: Trouble, absent: list[str]) -> Iterator[Item]:
    from probface.readers.image_list import read_list
    from probface.readers.open import open_items

    path = Path(source)
    if missing is Trouble.skip and path.suffix.lower() in (".txt", ".lst") and path.is_file():
        listed = read_list(path, missing="skip")
        absent.extend(f"{source}: {name}: no such file" for name in listed.missing)
        return iter(listed.items)
    return open_items(source)


def _paired(
    root: Path, pairs: Path, missing: Trouble, absent: list[str], bar: Progress
) -> Iterator[tuple[Item, Item, bool]]:
    """The images of each pair; those of which one is not there are added to ``absent``."""
    from probface.errors import DataError
    from probface.readers.lfw import lfw_images, read_pairs

    images = {item.name: item for item in lfw_images(root)}
    protocol = read_pairs(pairs)
    task = bar.add_task("packing", total=len(protocol))
    for pair in protocol:
        lost = [name for name in (pair.a, pair.b) if name not in images]
        if not lost:
            yield images[pair.a], images[pair.b], pair.genuine
        elif missing is Trouble.skip:
            absent.append(f"{pairs}: {lost[0]}: not in {root}")
        else:
            raise DataError(f"{pairs}: {lost[0]}: not in {root}; get a complete copy, or give --missing skip")
        bar.advance(task)


def _prepared(pairs: Iterator[tuple[Item, Item, bool]], prepare: Prepare) -> Iterator[tuple[Item, Item, bool]]:
    """The same pairs with their images prepared; only those under way are in memory."""
    ours, theirs = tee(pairs)
    images = iter(prepare(image for a, b, _ in ours for image in (a, b)))
    return zip(images, images, (genuine for *_, genuine in theirs), strict=True)


def _tell_left_out(broken: tuple[str, ...], absent: list[str]) -> None:
    for reason in (*absent, *broken):
        warn(f"{reason} (left out)")


def _print_left_out(what: str, broken: int, absent: int, prepare: Prepare | None) -> None:
    unusable = "unreadable" if prepare is None else "unreadable or without a face"
    if broken or absent:
        print(f"left out {what}: {broken} {unusable}, {absent} missing")
