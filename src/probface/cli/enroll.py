"""``probface enroll``: put a person into a gallery."""

from __future__ import annotations

from typing import Annotated

import typer

from probface.cli.gallery_options import Estimator, GalleryPlace, OwnModel, Templates
from probface.cli.options import Aligned, Json, MaxPixels, Provider
from probface.cli.output import face_document, print_json, printable, warn
from probface.defaults import MAX_PIXELS


def enroll_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the person.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Photos of that person.")],
    gallery: GalleryPlace,
    model: OwnModel = None,
    templates: Templates = None,
    estimator: Estimator = None,
    keep_images: Annotated[
        bool | None,
        typer.Option(
            "--keep-images/--no-keep-images", help="Of a new gallery: keep the images, for a migration to a new model."
        ),
    ] = None,
    aligned: Aligned = False,
    provider: Provider = "cpu",
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: Json = False,
) -> int:
    """Enrol the largest face of each image: all of them, or nobody. The gallery is made if there is none yet.

    Example: probface enroll "Ann Lee" ann-1.jpg ann-2.jpg --gallery staff.db
    """
    from probface.pipeline.enroll import enroll

    result = enroll(
        name,
        images,
        gallery,
        model=model,
        templates=None if templates is None else templates.value,
        estimator=None if estimator is None else estimator.value,
        keep_images=keep_images,
        aligned=aligned,
        provider=provider,
        max_pixels=max_pixels,
    )
    for face in result.faces:
        for warning in face.warnings:
            warn(f"{face.source}: {warning}")
    if as_json:
        faces = [
            {"path": face.source, **face_document(face.face), "sigma_sq": face.sigma_sq, "quality": face.quality}
            for face in result.faces
        ]
        print_json(
            {
                "name": result.name,
                "gallery": result.gallery,
                "created": result.created,
                "references": result.references,
                "faces": faces,
            }
        )
        return 0
    if result.created:
        print(f"made the gallery {printable(result.gallery)}")
    print(f"{printable(result.name)}: {len(result.faces)} enrolled, {result.references} in all")
    for face in result.faces:
        print(f"  {printable(face.source)}: quality {face.quality} of 100, sigma^2 {face.sigma_sq:.4f}")
    return 0
