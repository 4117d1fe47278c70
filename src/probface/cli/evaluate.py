"""``probface evaluate``: judge models by the field's protocols; a page to read, and the numbers as JSON."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probface.cli.options import Aligned, Json, MetricName, Provider
from probface.cli.output import Bars, print_json, printable, progress_bar, warn
from probface.defaults import DEFAULT_MODEL

if TYPE_CHECKING:
    from probface.eval.results import Results


class ProtocolName(StrEnum):
    """The protocols on offer."""

    lfw = "lfw"
    bin = "bin"
    ijb = "ijb"
    ijba = "ijba"
    blufr = "blufr"
    risk = "risk"
    distractors = "distractors"


class Missing(StrEnum):
    """What to do about images that lists name in vain."""

    error = "error"
    skip = "skip"


class Mixture(StrEnum):
    """How hard ``risk`` degrades."""

    moderate = "moderate"
    extreme = "extreme"


class FusionName(StrEnum):
    """How ``ijb`` and ``ijba`` fuse images to templates."""

    mean = "mean"
    uncertainty = "uncertainty"


def evaluate_command(
    protocol: Annotated[
        ProtocolName, typer.Argument(metavar="PROTOCOL", help="lfw, bin, ijb, ijba, blufr, risk or distractors.")
    ],
    data: Annotated[Path, typer.Option("--data", help="The data set: its folder or file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for results.json, report.html and the exported faces.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="A name, an .onnx file or a training folder; give it again to compare."),
    ] = None,
    embeddings: Annotated[
        list[Path] | None, typer.Option("--embeddings", help="Ready embeddings (.npz, .parquet) to judge, too.")
    ] = None,
    sigma_sq: Annotated[
        float | None, typer.Option("--sigma-sq", help="Variance of ready embeddings that have none.")
    ] = None,
    metric: Annotated[
        list[MetricName] | None,
        typer.Option("--metric", help="A score to judge; cosine and the model's own if not given."),
    ] = None,
    fmr: Annotated[
        list[float] | None, typer.Option("--fmr", help="False-match rates of the tables; 1e-1 to 1e-6 if not given.")
    ] = None,
    at_fmr: Annotated[
        float,
        typer.Option("--at-fmr", help="The rate whose threshold decides where one must: discard, groups, errors."),
    ] = 1e-3,
    measures: Annotated[
        Path | None, typer.Option("--measures", help="CSV of path and quality measures, compared with sigma^2.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option("--groups", help="CSV of subject and labels: error rates per group.")
    ] = None,
    group_by: Annotated[str | None, typer.Option("--group-by", help="Which label, if there are several.")] = None,
    degrade: Annotated[
        Mixture | None, typer.Option("--degrade", help="risk: how hard the copies are degraded; moderate if not given.")
    ] = None,
    max_images: Annotated[
        int | None,
        typer.Option("--max-images", help="risk: so many images at most, 2000 if not given; pairs grow by the square."),
    ] = None,
    fusion: Annotated[
        FusionName | None,
        typer.Option("--fusion", help="ijb, ijba: how images become a template; mean if not given."),
    ] = None,
    norm: Annotated[
        bool | None,
        typer.Option("--norm/--no-norm", help="ijb, ijba: weigh images by their norm; they are, unless said."),
    ] = None,
    detector_score: Annotated[
        bool | None,
        typer.Option(
            "--detector-score/--no-detector-score",
            help="ijb, ijba: weigh images by the detector; they are, unless said.",
        ),
    ] = None,
    trial_models: Annotated[
        str | None,
        typer.Option("--trial-models", help="blufr: a model a trial, {} for its number: 'out/trial-{}'."),
    ] = None,
    distractors: Annotated[
        Path | None, typer.Option("--distractors", help="distractors: images, or embeddings, of other people.")
    ] = None,
    faces: Annotated[
        bool, typer.Option("--faces/--no-faces", help="Keep the aligned faces, and show some in the report.")
    ] = True,
    aligned: Aligned = False,
    missing: Annotated[
        Missing, typer.Option("--missing", help="On images that the lists name and that are not there.")
    ] = Missing.error,
    force: Annotated[bool, typer.Option("--force", help="Judge people who trained the head, too, and say so.")] = False,
    resamples: Annotated[
        int, typer.Option("--resamples", help="Resamples of people for the intervals.", min=1, max=100_000)
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Of resamples, degradations and draws.", min=0)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    provider: Provider = "cpu",
    as_json: Json = False,
) -> int:
    """Judge models by a protocol: embed its images once, score them, write results.json and report.html.

    People who trained a model's head are left out of its figures. With --embeddings and no --model, only the embeddings
    are judged.

    Example: probface evaluate lfw --data LFW --out out/lfw
    """
    from probface.errors import InvalidValue
    from probface.eval.protocols.templates import FIELD
    from probface.eval.verification.options import JudgeOptions
    from probface.pipeline.evaluation.evaluate import evaluate
    from probface.readers.subject_labels import read_subject_labels

    of_protocol: dict[tuple[str, ...], dict[str, object]] = {
        ("risk",): {"--degrade": degrade, "--max-images": max_images},
        ("ijb", "ijba"): {"--fusion": fusion, "--norm": norm, "--detector-score": detector_score},
        ("blufr",): {"--trial-models": trial_models},
        ("distractors",): {"--distractors": distractors},
    }
    for protocols, options in of_protocol.items():
        _refuse_strangers(protocol.value, protocols, options)
    if group_by is not None and groups is None:
        raise InvalidValue(f"--group-by {group_by}: names a column of --groups; give that file, too")
    labels = None if groups is None else read_subject_labels(groups, group_by)
    judge = JudgeOptions(fmr=at_fmr, resamples=resamples, seed=seed, groups=labels)
    if fmr:
        judge = dataclasses.replace(judge, fmrs=tuple(sorted(set(fmr), reverse=True)))
    weighed = _told({"method": fusion and fusion.value, "norm": norm, "detector_score": detector_score})
    given = {
        "degrade": degrade and degrade.value,
        "max_images": max_images,
        "fusion": dataclasses.replace(FIELD, **weighed),
        "trial_models": trial_models,
        "distractors": distractors,
    }
    with progress_bar() as bar:
        results = evaluate(
            protocol.value,
            data,
            out,
            models=tuple(model or (() if embeddings else (DEFAULT_MODEL,))),
            embeddings=tuple(embeddings or ()),
            sigma_sq=sigma_sq,
            metrics=tuple(one.value for one in metric or ()),
            judge=judge,
            measures=measures,
            faces=faces,
            aligned=aligned,
            missing=missing.value,
            force=force,
            resume=resume,
            provider=provider,
            command=shlex.join(["probface", *sys.argv[1:]]),
            progress=Bars(bar),
            **_told(given),
        )
    for note in results.notes:
        warn(note)
    _print(results, out, as_json=as_json)
    return 0


def _told(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given; the others keep their defaults."""
    return {name: value for name, value in options.items() if value is not None}


def _refuse_strangers(protocol: str, protocols: tuple[str, ...], options: dict[str, object]) -> None:
    """Options of other protocols: they would have no effect."""
    from probface.errors import InvalidValue

    given = next((name for name, value in options.items() if value is not None), None)
    if given is not None and protocol not in protocols:
        raise InvalidValue(f"{given}: is for {' and '.join(protocols)}, not for {protocol}; leave it out")


def _print(results: Results, out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "results": str(out / "results.json"),
                "report": str(out / "report.html"),
                "summary": list(results.summary),
                "notes": list(results.notes),
            }
        )
        return
    for sentence in results.summary:
        print(printable(sentence))
    for row in results.thresholds:
        if row.threshold is not None:
            print(f"  {printable(row.system)} FMR {row.fmr:g}: threshold {row.threshold:.4f}")
    print(f"report: {out / 'report.html'}")
