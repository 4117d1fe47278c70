"""``probface convert``: other people's checkpoints into models of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probface.cli.options import Aligned, Json
from probface.cli.output import Bars, print_json, progress_bar
from probface.cli.train import require_torch

if TYPE_CHECKING:
    from probface.train.convert import ConvertedModel

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
    from probface.train.convert import convert_tf1

    with progress_bar() as bar:
        made = convert_tf1(checkpoint, out, name=name, data=data, aligned=aligned, progress=Bars(bar))
    if as_json:
        print_json(_document(made))
    else:
        _print_text(made)
    return 0


def _document(made: ConvertedModel) -> dict[str, Any]:
    return {
        "out": str(made.folder),
        "architecture": made.architecture.name,
        "width": made.architecture.width,
        "dim": made.architecture.dim,
        "fusion": made.fusion,
        "outputs": made.outputs,
        "unmapped": list(made.unmapped),
    }


def _print_text(made: ConvertedModel) -> None:
    out = made.folder
    kind = f"{made.architecture.name}, width {made.architecture.width:g}, D = {made.architecture.dim}"
    if made.contract is None:
        print(f"{out}/backbone.onnx: {kind}, no uncertainty head; train one: probface train head --backbone {out}")
    else:
        fused = "with" if made.fusion else "without"
        print(f"{out}/model.onnx: {kind}, head with {made.outputs} output(s), {fused} layer fusion")
    for variable in made.unmapped:
        print(f"  not used: {variable}")
