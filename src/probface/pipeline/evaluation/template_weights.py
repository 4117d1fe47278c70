"""What images are weighed by when they become templates must be there."""

from __future__ import annotations

from probface.errors import InvalidValue
from probface.eval.face_table import DETECTOR_SCORE, NORM, FaceTable
from probface.eval.protocols.templates import TemplateFusion


def check_weights(name: str, table: FaceTable, fusion: TemplateFusion) -> None:
    """Raise InvalidValue where a model's faces lack what the fusion weighs by; ``name`` is the model's."""
    if fusion.norm and NORM not in table.measures:
        raise InvalidValue(
            f"{name}: no embedding norm to weigh images by; add an array 'norm' to ready embeddings, or fuse without "
            "it (--no-norm)"
        )
    if fusion.detector_score and DETECTOR_SCORE not in table.measures:
        raise InvalidValue(
            f"{name}: no detector score to weigh images by; add an array 'detector_score' to ready embeddings, or fuse "
            "without it (--no-detector-score)"
        )
