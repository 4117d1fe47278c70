"""Clean against degraded: every image against every other, each clean and degraded once.

Low false-match rates need millions of impostors, and uncertainty shows its worth where images are poor: N images give
all cross pairs of their 2 N states but for an image and its own copy (:mod:`probface.eval.cross_pairs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from probface.errors import DataError, InvalidValue
from probface.eval.comparisons import Comparisons
from probface.eval.cross_pairs import CrossPairs
from probface.eval.face_table import FaceTable
from probface.types import Embeddings

Mixture: TypeAlias = Literal["moderate", "extreme"]
"""What the copies suffered: a mixture of degradations of :mod:`probface.face.degrade`."""


def degraded_name(name: str, mixture: Mixture) -> str:
    """What the degraded copy of an image is called."""
    return f"{name} ({mixture})"


def cross_quality(names: Sequence[str], subjects: Sequence[str], mixture: Mixture = "moderate") -> Comparisons:
    """All pairs of the 2 N states of N images, but for an image and its own copy.

    Args:
        names: (N,) of the images, each once.
        subjects: (N,) who is on each.
        mixture: of the copies.

    Raises:
        DataError: an image is named twice, or a kind of pair is missing: nobody has two images, or there is one person.
        InvalidValue: the two differ in length, or there is one image alone.
    """
    if len(names) != len(subjects):
        raise InvalidValue(f"{len(names)} images of {len(subjects)} subjects: need one for each")
    if len(set(names)) < len(names):
        twice = next(name for row, name in enumerate(names) if name in names[:row])
        raise DataError(f"image {twice!r}: is named twice; name each image once")
    people = np.unique(np.array(subjects, np.str_), return_inverse=True)[1]
    pairs = CrossPairs.of(np.tile(people, 2), np.tile(np.arange(len(names)), 2))
    first, second = pairs.indices()
    return Comparisons(
        names=(*names, *(degraded_name(name, mixture) for name in names)),
        subjects=(*subjects, *subjects),
        first=first.astype(np.int64),
        second=second.astype(np.int64),
        genuine=pairs.genuine,
    )


def clean_and_degraded(clean: FaceTable, degraded: FaceTable, mixture: Mixture = "moderate") -> FaceTable:
    """The faces of images and of their degraded copies, under the names of :func:`cross_quality`.

    Args:
        clean: N images.
        degraded: their copies, under the names of the images, in any order.
        mixture: of the copies.

    Returns:
        2 N faces, with the measures that both tables have.

    Raises:
        DataError: an image has no copy.
        InvalidValue: the two have other widths.
    """
    rows = degraded.rows(clean.names)
    return FaceTable(
        (*clean.names, *(degraded_name(name, mixture) for name in clean.names)),
        Embeddings.concatenate([clean.embeddings, degraded.embeddings[rows]]),
        {
            measure: np.concatenate([values, degraded.measures[measure][rows]])
            for measure, values in clean.measures.items()
            if measure in degraded.measures
        },
    )
