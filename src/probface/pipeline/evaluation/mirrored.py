"""The field's flip test: each embedding fused with that of its mirror image."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue
from probface.eval.face_table import NORM, FaceTable
from probface.eval.protocols.verification_bin import fuse_mirror
from probface.pipeline.evaluation.judged import Judged
from probface.types import Embeddings, FloatArray

BLOCK_ROWS = 1 << 14
"""Fused at once: the sums are float64."""


def with_mirror(one: Judged) -> Judged:
    """A model's faces fused with their mirror images by :func:`fuse_mirror`; ready embeddings stay as they are.

    The norm of a fused face is the length of the sum ``|a| mu_a + |b| mu_b`` of the raw embeddings, so that weighing
    images by their norms is weighing the field's un-normalised sums. Without norms both images count alike, and the
    faces have no norm then either.

    Raises:
        DataError: an image and its mirror image have opposite means.
    """
    if one.export is None or one.export.mirror is None:
        return one
    table, mirror = one.table, one.export.mirror
    measures, norms = dict(table.measures), None
    if NORM in table.measures:
        norms = table.measures[NORM], mirror.measures[NORM]
        measures[NORM] = _sum_lengths(table.embeddings.mu, mirror.embeddings.mu, *norms)
    parts = []
    for start in range(0, max(len(table), 1), BLOCK_ROWS):  # one block at least, where nobody has a face
        rows = slice(start, start + BLOCK_ROWS)
        lengths = None if norms is None else (norms[0][rows], norms[1][rows])
        try:
            parts.append(fuse_mirror(table.embeddings[rows], mirror.embeddings[rows], norms=lengths))
        except InvalidValue as error:
            raise DataError(f"{one.name}, counted from face {table.names[start]!r}: {error}") from error
    return one.with_table(FaceTable(table.names, Embeddings.concatenate(parts), measures))


def told_of_mirror(judged: Iterable[Judged]) -> str:
    """What to add to the words on the data: which faces were fused so."""
    fused = [one.export is not None for one in judged]
    if not any(fused):
        return ""
    return ", each image with its mirror image" + ("" if all(fused) else " (ready embeddings as they are)")


def _sum_lengths(
    mu_a: FloatArray, mu_b: FloatArray, a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) ``| a mu_a + b mu_b |`` of unit vectors, by the law of cosines."""
    cos = np.einsum("nd,nd->n", mu_a, mu_b, dtype=np.float64)
    lengths: NDArray[np.float64] = np.sqrt(np.maximum(a * a + b * b + 2 * a * b * cos, 0))
    return lengths
