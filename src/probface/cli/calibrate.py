"""``probface calibrate``: thresholds on your own people, written into the model."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probface.cli.options import Aligned, Json, Model, Provider
from probface.cli.output import Bars, print_json, printable, progress_bar, warn
from probface.defaults import DEFAULT_MODEL

if TYPE_CHECKING:
    from probface.pipeline.calibrate import CalibratedModel


class OneFace(StrEnum):
    """Which face of a photo counts."""

    largest = "largest"
    central = "central"


def calibrate_command(
    data: Annotated[
        Path,
        typer.Option("--data", help="Images, one folder a person; LFW, .rec, a list; or embeddings of this model."),
    ],
    out: Annotated[Path, typer.Option("--out", help="FILE.onnx, or a folder for model.onnx; not the model itself.")],
    model: Model = DEFAULT_MODEL,
    aligned: Aligned = False,
    faces: Annotated[OneFace, typer.Option("--faces", help="Which face of a photo.")] = OneFace.largest,
    degrade: Annotated[
        bool | None,
        typer.Option(
            "--degrade/--no-degrade",
            help="Compare a degraded copy of each image, too, and set the quality scale; images are, unless said.",
        ),
    ] = None,
    fmr: Annotated[
        list[float] | None,
        typer.Option("--fmr", help="A false-match rate to measure a threshold at; several. 1e-1 to 1e-6, unless said."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the data, for the contract.")] = None,
    provider: Provider = "cpu",
    as_json: Json = False,
) -> int:
    """Measure thresholds on your own people, and write the model with them; its outputs stay as they are.

    People who trained the model's head are left out.

    Example: probface calibrate --model sface --data people/ --out mine.onnx
    """
    from probface.pipeline.calibrate import FALSE_MATCH_RATES, calibrate_model

    with progress_bar() as bar:
        result = calibrate_model(
            model,
            data,
            out,
            aligned=aligned,
            policy=faces.value,
            degrade=degrade,
            fmrs=fmr or FALSE_MATCH_RATES,
            name=name,
            provider=provider,
            progress=Bars(bar),
        )
    for image in result.failed:
        warn(image.error)
    (print_json if as_json else _print_text)(_document(result))
    return 0


def _document(result: CalibratedModel) -> dict[str, Any]:
    (name, description), *_ = result.contract.data.items()
    scale = result.contract.quality
    return {
        "out": str(result.out),
        "model": result.contract.name,
        "data": name,
        "description": description,
        "people": result.people,
        "images": result.images,
        "failed": len(result.failed),
        "trained_the_head": result.trained,
        "beyond_the_limit": result.beyond,
        "thresholds": [
            {key: value for key, value in dataclasses.asdict(entry).items() if key != "data"}
            for entry in result.contract.thresholds
        ],
        "insufficient_data": list(result.insufficient),
        "quality": None if scale is None else dataclasses.asdict(scale),
    }


def _print_text(document: dict[str, Any]) -> None:
    print(f"{document['out']}: {printable(document['model'])}, thresholds measured on {printable(document['data'])}")
    print(f"  {printable(document['description'])}")
    for entry in document["thresholds"]:
        print(
            f"  {entry['metric']:8s} FMR {entry['fmr']:g}: threshold {entry['threshold']:.4f} "
            f"({entry['false_matches']} of {entry['impostor_pairs']} pairs, 95 % upper bound {entry['fmr_upper']:.2g})"
        )
    for rate in document["insufficient_data"]:
        print(f"  FMR {rate:g}: insufficient data; it takes {10 / rate:,.0f} impostor pairs")
    if document["beyond_the_limit"]:
        print(f"  {document['beyond_the_limit']} further people were not needed")
