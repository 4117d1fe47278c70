"""Options that several verbs share, worded once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


class MetricName(StrEnum):
    """The scores on offer."""

    fastmls = "fastmls"
    mls = "mls"
    cosine = "cosine"


class Policy(StrEnum):
    """Which faces of an image count."""

    largest = "largest"
    central = "central"
    all = "all"


class DeviceName(StrEnum):
    """Where torch computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Model: TypeAlias = Annotated[
    str, typer.Option("--model", help="A name from 'probface models list', an .onnx file, or a training folder.")
]
Aligned: TypeAlias = Annotated[bool, typer.Option("--aligned", help="The images are aligned faces already.")]
Provider: TypeAlias = Annotated[
    str,
    typer.Option("--provider", help="Where the network runs: cpu, cuda, coreml ...; one that is absent is an error."),
]
MaxPixels: TypeAlias = Annotated[int, typer.Option("--max-pixels", help="Refuse images with more pixels.", min=1)]
Report: TypeAlias = Annotated[Path | None, typer.Option("--report", help="Write one self-contained HTML page.")]
