"""Options of the verbs that use a gallery, worded once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import typer


class TemplatesName(StrEnum):
    """How the references of one identity are searched."""

    fused = "fused"
    all = "all"


class EstimatorName(StrEnum):
    """The variance of a fused template."""

    weighted_mean = "weighted_mean"
    minimum = "minimum"
    precision_sum = "precision_sum"


def _checked(place: str) -> str:
    from probface.gallery.place import checked_place

    return str(checked_place(place))


GalleryPlace: TypeAlias = Annotated[
    str, typer.Option("--gallery", callback=_checked, help="A file, or postgresql://...")
]
OwnModel: TypeAlias = Annotated[
    str | None,
    typer.Option("--model", help="A name, .onnx file or training folder; the gallery's own model if not given."),
]
Templates: TypeAlias = Annotated[
    TemplatesName | None,
    typer.Option("--templates", help="Of a new gallery: search one fused template a person, or every reference."),
]
Estimator: TypeAlias = Annotated[
    EstimatorName | None, typer.Option("--estimator", help="Of a new gallery: the variance of fused templates.")
]
