"""``probface identify``: who is this, if anybody in the gallery?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probface.cli.gallery_options import GalleryPlace, OwnModel
from probface.cli.options import Aligned, Json, MaxPixels, MetricName, Provider
from probface.cli.output import face_document, print_json, printable, warn
from probface.defaults import MAX_PIXELS

if TYPE_CHECKING:
    from probface.pipeline.identify import IdentifyResult


def identify_command(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A photo.")],
    gallery: GalleryPlace,
    top: Annotated[int, typer.Option("--top", help="How many candidates to name.", min=1)] = 5,
    fpir: Annotated[
        float, typer.Option("--fpir", help="Share of people not enrolled that may be taken for somebody who is.")
    ] = 0.01,
    metric: Annotated[MetricName, typer.Option("--metric", help="The score that decides.")] = MetricName.fastmls,
    model: OwnModel = None,
    aligned: Aligned = False,
    provider: Provider = "cpu",
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: Json = False,
) -> int:
    """Look up the largest face of an image. Exit code 0: identified, 1: nobody, 2: trouble.

    Example: probface identify gate.jpg --gallery staff.db --fpir 0.001
    """
    from probface.pipeline.identify import identify

    result = identify(
        image,
        gallery,
        top=top,
        fpir=fpir,
        metric=metric.value,
        model=model,
        aligned=aligned,
        provider=provider,
        max_pixels=max_pixels,
    )
    for warning in result.face.warnings:
        warn(f"{result.face.source}: {warning}")
    if as_json:
        print_json(_document(result))
    else:
        _print_text(result)
    return 1 if result.answer.name is None else 0


def _document(result: IdentifyResult) -> dict[str, Any]:
    answer, face = result.answer, result.face
    return {
        "identified": answer.name is not None,
        "name": answer.name,
        "reason": answer.reason,
        "metric": answer.metric,
        "threshold": answer.threshold if math.isfinite(answer.threshold) else None,
        "fpir": answer.fpir,
        "basis": answer.basis,
        "candidates": [{"name": candidate.name, "score": candidate.score} for candidate in answer.candidates],
        "face": {
            "path": face.source,
            **face_document(face.face),
            "sigma_sq": face.sigma_sq,
            "quality": face.quality,
        },
    }


def _print_text(result: IdentifyResult) -> None:
    answer, face = result.answer, result.face
    print("NOBODY" if answer.name is None else printable(answer.name), f"at a false-positive rate of {answer.fpir:g}")
    print(f"  {printable(answer.reason)}")
    print(f"  threshold {answer.threshold:.4f} of {answer.metric}: {printable(answer.basis)}")
    for rank, candidate in enumerate(answer.candidates, 1):
        print(f"  {rank:2d}. {candidate.score:9.4f}  {printable(candidate.name)}")
    print(f"  {printable(face.source)}: quality {face.quality} of 100, sigma^2 {face.sigma_sq:.4f}")
