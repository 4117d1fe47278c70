"""``probface verify``: are these two the same person?"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probface.cli.options import Aligned, Json, MaxPixels, MetricName, Model, Provider, Report
from probface.cli.output import face_document, print_json, printable, warn
from probface.defaults import DEFAULT_MODEL, MAX_PIXELS

if TYPE_CHECKING:
    from probface.types import Verification


def verify_command(
    a: Annotated[str, typer.Argument(metavar="A", help="An image file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    metric: Annotated[MetricName, typer.Option("--metric", help="The score that decides.")] = MetricName.fastmls,
    fmr: Annotated[float, typer.Option("--fmr", help="False-match rate of the decision.")] = 1e-3,
    report: Report = None,
    model: Model = DEFAULT_MODEL,
    aligned: Aligned = False,
    provider: Provider = "cpu",
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: Json = False,
) -> int:
    """Compare the largest face of each of two images. Exit code 0: match, 1: no match, 2: trouble.

    Example: probface verify passport.jpg gate.jpg --fmr 1e-4 --report answer.html
    """
    from probface.gallery.exchange import check_apart
    from probface.pipeline.recogniser import Recogniser
    from probface.pipeline.verify import verify
    from probface.report.comparison import comparison_page, write_page

    if report is not None:
        check_apart(report, a, b)
    recogniser = Recogniser(model, provider=provider, aligned=aligned, max_pixels=max_pixels)
    answer = verify(a, b, metric=metric.value, fmr=fmr, model=recogniser)
    for face in answer.faces:
        for warning in face.warnings:
            warn(f"{face.source}: {warning}")
    if report is not None:
        command = shlex.join(["probface", *sys.argv[1:]])
        write_page(comparison_page(answer, recogniser.contract, command=command), report)
    if as_json:
        print_json(_document(answer))
    else:
        print_verification(answer)
        if report is not None:
            print(f"report: {report}")
    return 0 if answer.match else 1


def _document(answer: Verification) -> dict[str, Any]:
    faces = [
        {"path": face.source, **face_document(face.face), "sigma_sq": face.sigma_sq, "quality": face.quality}
        for face in answer.faces
    ]
    return {
        "match": answer.match,
        "score": answer.score,
        "metric": answer.metric,
        "threshold": answer.threshold,
        "fmr": answer.fmr,
        "cosine": answer.cosine,
        "faces": faces,
    }


def print_verification(answer: Verification) -> None:
    """The answer as a few lines of text."""
    print("MATCH" if answer.match else "NO MATCH", f"at a false-match rate of {answer.fmr:g}")
    sign = ">" if answer.match else "<="
    print(
        f"  {answer.metric} {answer.score:.4f} {sign} threshold {answer.threshold:.4f}   (cosine {answer.cosine:.4f})"
    )
    for face in answer.faces:
        print(f"  {printable(face.source)}: quality {face.quality} of 100, sigma^2 {face.sigma_sq:.4f}")
