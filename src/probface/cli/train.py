"""``probface train``: an uncertainty head for any ONNX face model, or a recognition network from nothing."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probface.cli.options import DeviceName, Json, Provider
from probface.cli.output import Bars, print_json, progress_bar

if TYPE_CHECKING:
    from probface.train.backbone_loop import BackboneLog
    from probface.train.fit import StepLog

_HEADS = "probface, mls, mls-lc-lid, pfe, authors, authors-half"
_BACKBONES = "base, base-half"

app = typer.Typer(help="Train an uncertainty head, or a recognition network.", rich_markup_mode=None)


def require_torch(what: str) -> None:
    """Raise MissingExtra unless torch is installed."""
    from probface.errors import MissingExtra

    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"{what} needs torch; pip install 'probface[train]'") from error


@app.command("head")
def train_head_command(
    backbone: Annotated[str, typer.Option("--backbone", help="A model name, any .onnx face model, or a folder.")],
    data: Annotated[Path, typer.Option("--data", help="Images, one folder a person (or as the recipe says).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model, the head, the log and checkpoints.")],
    recipe: Annotated[str | None, typer.Option("--recipe", help=f"A TOML file, or one of {_HEADS}.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder for cached features.")] = None,
    embedding: Annotated[str | None, typer.Option("--embedding", help="The output that is the embedding.")] = None,
    channels: Annotated[str | None, typer.Option("--channels", help="Channel order of the input: rgb or bgr.")] = None,
    mean: Annotated[float | None, typer.Option("--mean", help="Grey level taken from each pixel.")] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="What each pixel is then divided by.")] = None,
    template: Annotated[str | None, typer.Option("--template", help="Alignment: arcface or arcface-96.")] = None,
    licence: Annotated[str, typer.Option("--licence", help="SPDX name of the backbone's licence.")] = "unknown",
    provider: Provider = "cpu",
    device: Annotated[DeviceName, typer.Option("--device", help="Where the head learns.")] = DeviceName.cpu,
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
        show = Bars(bar)

        def log(line: StepLog) -> None:
            text = (
                f"loss {line.loss:.3f}, sigma^2 {line.sigma_sq_min:.3f} to {line.sigma_sq_max:.3f}, "
                f"{line.steps_per_second:.3g} steps/s"
            )
            show("training", line.step, line.steps, text)

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
            device=device.value,
            progress=show,
            on_log=log,
        )
    if not _speaks():
        return 0
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


@app.command("backbone")
def train_backbone_command(
    data: Annotated[Path, typer.Option("--data", help="Images, one folder a person, a .rec file or a list.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the network, the log and checkpoints.")],
    recipe: Annotated[str, typer.Option("--recipe", help=f"A TOML file, or one of {_BACKBONES}.")] = "base",
    arch: Annotated[str | None, typer.Option("--arch", help="Another architecture than the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder for aligned faces.")] = None,
    device: Annotated[DeviceName, typer.Option("--device", help="Where the network learns.")] = DeviceName.auto,
    as_json: Json = False,
) -> int:
    """Train a recognition network from nothing; then give --out to 'train head --backbone'.

    On several processors: torchrun --nproc-per-node N -m probface train backbone ...

    Example: probface train backbone --data faces/train.rec --recipe base-half --out out/backbone
    """
    require_torch("training")
    from probface.train.backbone import train_backbone
    from probface.train.backbone_config import read_backbone_recipe

    config = read_backbone_recipe(recipe)
    if arch is not None:
        dropout = config.architecture.dropout if arch.startswith("resface") else 0.0
        other = dataclasses.replace(config.architecture, name=arch, dropout=dropout)  # type: ignore[arg-type]
        config = dataclasses.replace(config, architecture=other)
    with progress_bar() as bar:
        show = Bars(bar)

        def log(line: BackboneLog) -> None:
            text = f"loss {line.loss:.3f}, {line.images_per_second:.0f} images/s"
            show("training", line.step, line.steps, text)

        made = train_backbone(
            data,
            out,
            recipe=config,
            resume=resume,
            cache=cache,
            device=device.value,
            progress=show,
            on_log=log,
        )
    if not _speaks():
        return 0
    if as_json:
        print_json(
            {
                "out": str(made.folder),
                "images": made.images,
                "identities": made.identities,
                "failed": len(made.failed),
            }
        )
    else:
        print(
            f"{made.images} images of {made.identities} people trained {made.folder}/backbone.onnx "
            f"({len(made.failed)} without a usable face left out)"
        )
    return 0


def _speaks() -> bool:
    """Whether this is the process that prints: the only one, or the first that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"
