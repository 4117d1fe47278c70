"""``probface export``: any model to one ONNX file, in float32, float16 or int8, and what the conversion cost."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probface.cli.options import Aligned, Json, Model
from probface.cli.output import Bars, print_json, progress_bar, warn
from probface.defaults import DEFAULT_MODEL, JUDGING_IMAGES

if TYPE_CHECKING:
    from probface.export.accuracy import AccuracyChange
    from probface.export.one_file import ExportedModel

INSUFFICIENT = "insufficient data"


class PrecisionName(StrEnum):
    """What the backbone may compute in."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


def export_command(
    out: Annotated[Path, typer.Option("--out", help="FILE.onnx.")],
    model: Model = DEFAULT_MODEL,
    precision: Annotated[
        PrecisionName, typer.Option("--precision", help="What the backbone computes in; the head stays float32.")
    ] = PrecisionName.float32,
    data: Annotated[
        Path | None, typer.Option("--data", help="Images to calibrate and judge with, one folder a person; or LFW.")
    ] = None,
    aligned: Aligned = False,
    images: Annotated[int, typer.Option("--images", help="At most so many images judge.", min=1)] = JUDGING_IMAGES,
    as_json: Json = False,
) -> int:
    """Write a model as one ONNX file with its contract, and say how far its outputs move.

    float16 halves the weights of the backbone, int8 quarters them. int8 needs --data; who calibrates never judges.

    Example: probface export --model sface --out sface-int8.onnx --precision int8 --data people/
    """
    from probface.export.one_file import export_model

    with progress_bar() as bar:
        result = export_model(
            model, out, precision=precision.value, data=data, aligned=aligned, images=images, progress=Bars(bar)
        )
    for use, count in {"judging": result.judging, "calibration": result.calibration}.items():
        if count is not None and count.failed:
            warn(f"{count.failed} of {count.images} images for {use} have no usable face and were left out")
    (print_json if as_json else _print_text)(_document(result))
    return 0


def _document(result: ExportedModel) -> dict[str, Any]:
    return {
        "out": str(result.out),
        "model": result.model,
        "precision": result.precision,
        "bytes": result.size,
        "float32_bytes": result.float32_size,
        "judged_on": "random patterns" if result.data is None else str(result.data),
        "failed": 0 if result.judging is None else result.judging.failed,
        "parity": dataclasses.asdict(result.parity),
        "accuracy": None if result.accuracy is None else _accuracy_document(result.accuracy),
    }


def _accuracy_document(change: AccuracyChange) -> dict[str, Any]:
    """As JSON, with words in place of numbers that were not measured."""
    document = dataclasses.asdict(change)
    for rate in document["rates"]:
        rate.update({name: INSUFFICIENT for name, value in rate.items() if value is None})
    return document


def _print_text(document: dict[str, Any]) -> None:
    moved, change = document["parity"], document["accuracy"]
    size, whole = document["bytes"] / 1e6, document["float32_bytes"] / 1e6
    print(f"{document['out']}: {document['model']} in {document['precision']}, {size:.1f} MB (float32: {whole:.1f} MB)")
    print(f"  compared on {moved['faces']} faces, {document['judged_on']}")
    print(f"  mu          moved by {moved['angle_max']:.3g} degrees at most, {moved['angle_mean']:.3g} on average")
    rank = "not defined" if moved["spearman"] is None else f"{moved['spearman']:.5f}"
    print(
        f"  log sigma^2 moved by {moved['log_sigma_sq_max']:.3g} at most, {moved['log_sigma_sq_median']:.3g} in the "
        f"middle; rank correlation {rank}"
    )
    if change is None:
        print("  no accuracy was measured: that takes --data with images of several people, one folder a person")
        return
    pairs = f"{change['genuine_pairs']} genuine and {change['impostor_pairs']} impostor pairs"
    print(f"  {change['people']} people, {pairs}:")
    for rate in change["rates"]:
        tars = " -> ".join(_percent(rate[name]) for name in ("tar_before", "tar_after"))
        kept = f"; at the threshold of float32, FMR {_percent(rate['fmr_kept'])}"
        measured = tars + kept if rate["tar_before"] != INSUFFICIENT else INSUFFICIENT
        print(f"    {rate['metric']:8s} TAR at FMR {rate['fmr']:g}: {measured}")


def _percent(share: float | str) -> str:
    return share if isinstance(share, str) else f"{100 * share:.3f} %"
