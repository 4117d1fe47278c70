"""``probface score``: every face of one file against every face of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from probface.cli.options import Json, MetricName
from probface.cli.output import Bars, print_json, progress_bar, warn


def score_command(
    a: Annotated[Path, typer.Argument(metavar="A.npz", help="Faces, as 'probface embed' writes them.")],
    b: Annotated[Path, typer.Argument(metavar="B.npz", help="Others, of the same model.")],
    out: Annotated[Path, typer.Option("--out", help="FILE.npz.")],
    metric: Annotated[MetricName, typer.Option("--metric", help="The score.")] = MetricName.fastmls,
    top: Annotated[
        int | None, typer.Option("--top", help="Only the best K faces of B for each of A, exactly.", min=1)
    ] = None,
    as_json: Json = False,
) -> int:
    """Write all scores of A with B (array scores), or with --top the best of B (arrays scores and indices).

    Example: probface score gate.npz staff.npz --top 5 --out best.npz
    """
    from probface.pipeline.score_files import score_files

    with progress_bar() as bar:
        show = Bars(bar)
        result = score_files(
            a, b, out, metric=metric.value, top=top, progress=lambda done, total: show("scoring", done, total)
        )
    if top is not None and result.top is not None and result.top < top:
        warn(f"--top {top}: {b} holds {result.top} faces, so each of {a} has {result.top}")
    if as_json:
        print_json(
            {
                "out": str(result.out),
                "metric": result.metric,
                "shape": list(result.shape),
                "top": result.top,
                "path": result.path,
                "prefilter": result.prefilter,
            }
        )
    else:
        rows, columns = result.shape
        what = "scores" if result.top is None else f"best of {b}"
        code = result.path if result.prefilter is None else f"{result.path}, {result.prefilter} filter"
        print(f"{rows} x {columns} {what} by {result.metric} -> {result.out}   (ran {code})")
    return 0
