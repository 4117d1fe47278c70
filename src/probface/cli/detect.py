"""``probface detect``: where the faces are."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probface.cli.options import Json, MaxPixels, Policy
from probface.cli.output import face_document, print_json, printable, warn
from probface.defaults import MAX_PIXELS

if TYPE_CHECKING:
    from probface.types import Image


def detect_command(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files.")],
    crops: Annotated[Path | None, typer.Option("--crops", help="Write aligned 112 x 112 faces to this folder.")] = None,
    faces: Annotated[Policy, typer.Option("--faces", help="Which faces of an image.")] = Policy.all,
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: Json = False,
) -> int:
    """Find faces: boxes, five landmarks, detector scores. Exit code 1 where an image has none.

    Example: probface detect photo.jpg --crops faces/
    """
    from probface.contract import InputSpec
    from probface.errors import NoFace
    from probface.pipeline.recogniser import FaceFinder

    find = FaceFinder(InputSpec(), policy=faces.value, max_pixels=max_pixels)
    document: list[dict[str, Any]] = []
    for name, stem in zip(images, _stems(images), strict=True):
        try:
            found = find(name)
        except NoFace:
            found = ()
        entries = [face_document(aligned.face) for aligned in found]
        if crops is not None:
            for number, (aligned, entry) in enumerate(zip(found, entries, strict=True)):
                entry["crop"] = _write_crop(crops / f"{stem}_{number}.png", aligned.crop)
        for warning in (text for aligned in found for text in aligned.warnings):
            warn(f"{name}: {warning}")
        document.append({"path": name, "faces": entries})
    if as_json:
        print_json(document)
    else:
        _print_text(document)
    return 0 if all(entry["faces"] for entry in document) else 1


def _stems(images: list[str]) -> list[str]:
    """What the crops of each image are called: as the image, numbered where an earlier one has that name."""
    taken: dict[str, None] = {}
    for image in images:
        stem = Path(image).stem
        names = chain([stem], (f"{stem}-{number}" for number in count(2)))
        taken[next(name for name in names if name not in taken)] = None
    return list(taken)


def _write_crop(path: Path, crop: Image) -> str:
    from probface.face.image import encode_png
    from probface.storage import write_bytes

    write_bytes(path, encode_png(crop))
    return str(path)


def _print_text(document: list[dict[str, Any]]) -> None:
    for entry in document:
        count = len(entry["faces"])
        print(f"{printable(entry['path'])}: {count or 'no'} face{'' if count == 1 else 's'}")
        for face in entry["faces"]:
            x, y, width, height = face["box"]
            crop = f"  -> {face['crop']}" if "crop" in face else ""
            print(f"  {width:.0f} x {height:.0f} at ({x:.0f}, {y:.0f}), score {face['detector_score']:.2f}{crop}")
