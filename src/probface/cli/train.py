"""``probface train head``: an uncertainty head for any ONNX face model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probface.cli.options import Json, Provider
from probface.cli.output import print_json, progress_bar

if TYPE_CHECKING:
    from rich.progress import TaskID

    from probface.train.fit import StepLog

app = typer.Typer(help="Train an uncertainty head.", rich_markup_mode=None)


@app.callback()
def _verbs() -> None:
    """Keep ``head`` a verb of its own, though it is the only one so far."""


def require_torch(what: str) -> None:
    """Raise MissingExtra unless torch is installed."""
    from probface.errors import MissingExtra

    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"{what} needs torch; pip install 'probface[train]'") from error


@app.command("head")
def train_head_command(
    backbone: Annotated[str, typer.Option("--backbone", help="A model name or any .onnx face model.")],
    data: Annotated[Path, typer.Option("--data", help="Images, one folder a person (or as the recipe says).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model, the head, the log and checkpoints.")],
    recipe: Annotated[Path | None, typer.Option("--recipe", help="A TOML recipe.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder for cached features.")] = None,
    embedding: Annotated[str | None, typer.Option("--embedding", help="The output that is the embedding.")] = None,
    channels: Annotated[str | None, typer.Option("--channels", help="Channel order of the input: rgb or bgr.")] = None,
    mean: Annotated[float | None, typer.Option("--mean", help="Grey level taken from each pixel.")] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="What each pixel is then divided by.")] = None,
    template: Annotated[str | None, typer.Option("--template", help="Alignment: arcface or arcface-96.")] = None,
    licence: Annotated[str, typer.Option("--licence", help="SPDX name of the backbone's licence.")] = "unknown",
    provider: Provider = "cpu",
    as_json: Json = False,
) -> int:
    """Run the frozen backbone once over the images, train the head, graft it on: one ONNX file.

    How the backbone takes a face is guessed from its graph; --channels, --mean, --scale and --template correct that.

    Example: probface train head --backbone w600k_r50.onnx --data people/ --out out/r50
    """
    require_torch("training")
    from probface.models.registry import resolve_backbone
    from probface.train.head import train_head

    given = {"channels": channels, "mean": mean, "scale": scale, "template": template}
    corrected: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    guess = resolve_backbone(backbone, embedding=embedding).input if corrected else None
    spec = dataclasses.replace(guess, **corrected) if guess is not None else None
    with progress_bar() as bar:
        tasks: dict[str, TaskID] = {}

        def show(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=done)

        def log(line: StepLog) -> None:
            show("training", line.step, line.steps)
            bar.update(
                tasks["training"],
                description=f"loss {line.loss:.3f}, sigma^2 {line.sigma_sq_min:.3f} to {line.sigma_sq_max:.3f}, "
                f"{line.steps_per_second:.0f} steps/s",
            )

        made = train_head(
            backbone,
            data,
            out,
            recipe=recipe,
            resume=resume,
            cache=cache,
            input_spec=spec,
            embedding=embedding,
            licence=licence,
            provider=provider,
            progress=show,
            on_log=log,
        )
    if as_json:
        print_json(
            {"model": str(made.model), "weights": str(made.weights), "images": made.images, "failed": made.failed}
        )
    else:
        print(f"{made.images} images trained {made.model} ({made.failed} without a usable face left out)")
        for entry in made.contract.thresholds:
            print(
                f"  {entry.metric:8s} FMR {entry.fmr:g}: {entry.threshold:.4f} (95 % upper bound {entry.fmr_upper:.2g})"
            )
    return 0
