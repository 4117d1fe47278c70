"""What is judged: a model and a score, with the faces that it embedded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from probface.contract import QualityScale
from probface.eval.comparisons import Comparisons
from probface.eval.face_table import FaceTable
from probface.eval.results import System
from probface.score.by_metric import paired_scores
from probface.types import FloatArray

BLOCK_PAIRS = 1 << 16
"""Scored at once: their gathered embeddings stay in the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One of the systems of an evaluation.

    Attributes:
        system: how the results name it.
        faces: what the model made of the data set's images.
        trained: subjects of the data set who trained the head; comparisons with them are left out of its figures.
            Empty for cosine, in which the head takes no part.
        taught: subjects who trained the head, whatever the score: where sigma^2 is a quality measure, comparisons with
            them are left out, too.
        quality: scale of the model's quality 0..100, where it has one.
    """

    system: System
    faces: FaceTable
    trained: frozenset[str] = frozenset()
    taught: frozenset[str] = frozenset()
    quality: QualityScale | None = None

    def scores(self, comparisons: Comparisons) -> FloatArray:
        """(P,) float32 scores of all comparisons, those of trained subjects too.

        Raises:
            DataError: an image of the comparisons is not among the faces.
            InvalidValue: FastMLS on D variances a face.
        """
        rows = self.faces.rows(comparisons.names)
        embeddings, first, second = self.faces.embeddings, rows[comparisons.first], rows[comparisons.second]
        out = np.empty(len(comparisons), np.float32)
        for block in _blocks(len(comparisons)):
            out[block] = paired_scores(embeddings[first[block]], embeddings[second[block]], self.system.metric)
        return out


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK_PAIRS, count)) for start in range(0, count, BLOCK_PAIRS))
