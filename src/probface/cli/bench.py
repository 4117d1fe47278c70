"""``probface bench``: what ProbFace costs, as a ratio to what one would use otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probface.cli.options import Json
from probface.cli.output import print_json, progress_bar, warn

if TYPE_CHECKING:
    from probface.match.benchmark import Comparison, Machine
    from probface.types import Embeddings


class RivalName(StrEnum):
    """What a search is compared with."""

    faiss = "faiss"
    numpy = "numpy"


app = typer.Typer(help="Measure, as a ratio to what one would use otherwise.", rich_markup_mode=None)


@app.callback()
def _verbs() -> None:
    """Keep ``match`` a verb of its own, though it is the only one so far."""


@app.command("match")
def match_command(
    against: Annotated[RivalName, typer.Option("--against", help="What to compare with.")] = RivalName.faiss,
    references: Annotated[int, typer.Option("--references", help="How many are searched.", min=1)] = 100_000,
    probes: Annotated[int, typer.Option("--probes", help="How many are searched for.", min=1)] = 500,
    top: Annotated[int, typer.Option("--top", help="k.", min=1)] = 10,
    dims: Annotated[list[int], typer.Option("--dim", help="D; may be given several times.", min=1)] = [128, 256, 512],  # noqa: B006
    threads: Annotated[int, typer.Option("--threads", help="Of every candidate; 0 for all cores.", min=0)] = 1,
    rounds: Annotated[int, typer.Option("--rounds", help="Of which the median counts.", min=1)] = 7,
    path: Annotated[str, typer.Option("--path", help="Of the kernel: auto, avx2 ... numpy.")] = "auto",
    embeddings: Annotated[
        Path | None, typer.Option("--embeddings", help="FILE.npz of probface embed: search all of it in itself.")
    ] = None,
    matrices: Annotated[bool, typer.Option("--matrices/--no-matrices", help="Measure whole matrices, too.")] = True,
    as_json: Json = False,
) -> int:
    """Time exact FastMLS search against exact cosine search, in turns, and say which code ran.

    Example: probface bench match --against faiss --threads 2
    """
    from probface.match.benchmark import machine
    from probface.match.native import thread_count

    count = thread_count(threads)
    measured = []
    with progress_bar() as bar:
        task = bar.add_task("measuring", total=None)
        for a, b in _sets(dims, probes, references, embeddings):
            for comparison in _compare(a, b, min(top, len(b)), against, path, count, rounds, matrices):
                measured.append(comparison)
                bar.advance(task)
    where = machine(path, count)
    if as_json:
        rows = [dataclasses.asdict(comparison) for comparison in measured]
        print_json({"machine": dataclasses.asdict(where), "measured": rows})
    else:
        print_table(where, measured)
    return 0


def _sets(
    dims: list[int], probes: int, references: int, embeddings: Path | None
) -> Iterator[tuple[Embeddings, Embeddings]]:
    from probface.match.synthetic import synthetic_faces

    if embeddings is not None:
        from probface.pipeline.embedding_file import read_embeddings

        all_of_it = read_embeddings(embeddings).embeddings
        yield all_of_it, all_of_it
        return
    for dim in dims:
        yield synthetic_faces(probes, references, dim)


def _compare(
    a: Embeddings, b: Embeddings, k: int, against: RivalName, path: str, threads: int, rounds: int, matrices: bool
) -> Iterator[Comparison]:
    import numpy as np

    from probface.match.benchmark import measure_matrix, measure_search
    from probface.types import Embeddings

    yield from measure_search(a, b, k, rival=against.value, path=path, threads=threads, rounds=rounds)
    if matrices:
        rows, columns = min(len(a), 1000), min(len(b), 50_000)
        yield measure_matrix(a[:rows], b[:columns], path=path, threads=threads, rounds=rounds)
        rows, columns = min(len(a), 200), min(len(b), 4096)
        # PFE: each dimension its own share of the variance.
        rng = np.random.default_rng(0)
        sides = []
        for side in (a[:rows], b[:columns]):
            shares = rng.lognormal(0, 0.5, (len(side), side.dim)) * side.sigma_sq / side.dim
            sides.append(Embeddings(side.mu, shares.astype(np.float32)))
        yield measure_matrix(*sides, path=path, threads=threads, rounds=rounds)


def print_table(where: Machine, measured: list[Comparison]) -> None:
    """A table for people; Markdown, so that it may be pasted."""
    print(f"{where.processor}; path {where.path}; {where.threads} thread{'s' * (where.threads > 1)}, {where.clock}")
    for library in where.libraries:
        print(f"matrix products of {library}")
    if where.hint:
        warn(where.hint)
    print("\n| task | compared with | ratio | milliseconds | rescored for a probe |\n|---|---|---|---|---|")
    for row in measured:
        rescored = "" if row.rescored is None else f"{row.rescored:.0f}"
        times = f"{1e3 * row.seconds:.1f} / {1e3 * row.rival_seconds:.1f}"
        print(f"| {row.task} | {row.rival} | {row.ratio:.2f} | {times} | {rescored} |")
