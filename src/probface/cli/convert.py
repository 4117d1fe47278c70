"""``probface convert``: other people's checkpoints into models of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from probface.cli.options import Aligned, Json
from probface.cli.output import Bars, print_json, progress_bar
from probface.cli.train import require_torch

app = typer.Typer(help="Convert other people's checkpoints.", rich_markup_mode=None)


@app.callback()
def _verbs() -> None:
    """Keep ``tf1`` a verb of its own, though it is the only one so far."""


@app.command("tf1")
def convert_tf1_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder of a TensorFlow 1 checkpoint, or the checkpoint's prefix.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Images to measure thresholds and quality on, one folder a person.")
    ] = None,
    aligned: Aligned = False,
    name: Annotated[str | None, typer.Option("--name", help="Name of the model; the folder's if not given.")] = None,
    as_json: Json = False,
) -> int:
    """Convert a ResFace of the paper's authors, with or without an uncertainty head. TensorFlow is not needed.

    Without --data the model has no thresholds and no quality scale yet: verify and embed ask for them.

    Example: probface convert tf1 ResFace64_half/ --out out/resface64 --data people/
    """
    require_torch("converting")
    from probface.export.model_folder import write_backbone, write_paper_head
    from probface.export.tf1 import read_tf1

    model = read_tf1(checkpoint)
    backbone = write_backbone(model.network, model.architecture, model.architecture.input, out)
    if model.head is not None:
        write_paper_head(
            backbone,
            model.head,
            name=name or out.name,
            fusion=model.fusion,
            trained_on=f"converted from the TensorFlow 1 checkpoint {checkpoint.name}; its training data are not known",
            folder=out,
        )
    if data is not None and model.head is not None:
        from probface.train.calibrate import calibrate_folder

        with progress_bar() as bar:
            calibrate_folder(out, data, aligned=aligned, progress=Bars(bar))
    if as_json:
        print_json(
            {
                "out": str(out),
                "architecture": model.architecture.name,
                "width": model.architecture.width,
                "dim": model.architecture.dim,
                "fusion": model.fusion,
                "outputs": model.outputs,
                "unmapped": list(model.unmapped),
            }
        )
        return 0
    kind = f"{model.architecture.name}, width {model.architecture.width:g}, D = {model.architecture.dim}"
    if model.head is None:
        print(f"{out}/backbone.onnx: {kind}, no uncertainty head; train one: probface train head --backbone {out}")
    else:
        fused = "with" if model.fusion else "without"
        print(f"{out}/model.onnx: {kind}, head with {model.outputs} output(s), {fused} layer fusion")
    for variable in model.unmapped:
        print(f"  not used: {variable}")
    return 0
