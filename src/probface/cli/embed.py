"""``probface embed``: many images to one file of embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from probface.cli.options import Aligned, Json, MaxPixels, Model, Policy, Provider
from probface.cli.output import print_json, progress_bar, warn
from probface.defaults import DEFAULT_MODEL, MAX_PIXELS


def embed_command(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Images, folders, globs, .bin, .rec, tar shards."),
    ],
    out: Annotated[Path, typer.Option("--out", help="FILE.npz or FILE.parquet.")],
    model: Model = DEFAULT_MODEL,
    aligned: Aligned = False,
    faces: Annotated[Policy, typer.Option("--faces", help="Which faces of an image.")] = Policy.largest,
    batch: Annotated[int, typer.Option("--batch", help="Faces to a pass through the network.", min=1)] = 32,
    strict: Annotated[bool, typer.Option("--strict", help="End with 2 at the first image that fails.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    provider: Provider = "cpu",
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: Json = False,
) -> int:
    """Embed every image: path, mu, sigma_sq, quality. Images that fail are listed in OUT.errors.jsonl.

    Example: probface embed photos/ --out photos.npz
    """
    from probface.pipeline.embed import embed

    with progress_bar() as bar:
        task = bar.add_task("embedding", total=None)
        result = embed(
            paths,
            out,
            model=model,
            aligned=aligned,
            policy=faces.value,
            batch=batch,
            strict=strict,
            resume=resume,
            provider=provider,
            max_pixels=max_pixels,
            progress=lambda count: bar.advance(task, count),
        )
    if result.errors is not None:
        with result.errors.open(encoding="utf-8") as lines:
            for line in lines:
                warn(json.loads(line)["error"])
        warn(f"{result.failed} image{'' if result.failed == 1 else 's'} failed, listed in {result.errors}")
    if as_json:
        errors = str(result.errors) if result.errors else None
        print_json({"out": str(result.out), "faces": result.faces, "failed": result.failed, "errors": errors})
    else:
        print(f"{result.faces} faces -> {result.out}")
    return 0
