"""Are these two the same person? One answer, at a stated false-match rate."""

from __future__ import annotations

import os

from probface.defaults import DEFAULT_MODEL, MAX_PIXELS
from probface.face.image import ImageSource
from probface.pipeline.recogniser import Recogniser
from probface.score.by_metric import paired_scores
from probface.types import EmbeddedFace, Metric, Verification


def compare(
    recogniser: Recogniser, a: EmbeddedFace, b: EmbeddedFace, *, metric: Metric = "fastmls", fmr: float = 1e-3
) -> Verification:
    """Decide on two faces that are embedded already; as :func:`verify`."""
    value = float(paired_scores(a.embedding, b.embedding, metric)[0])
    threshold = recogniser.contract.threshold(metric, fmr)
    return Verification(
        match=value > threshold.threshold,
        score=value,
        metric=metric,
        threshold=threshold.threshold,
        fmr=threshold.fmr,
        cosine=float(paired_scores(a.embedding, b.embedding, "cosine")[0]),
        faces=(a, b),
    )


def verify(
    a: ImageSource,
    b: ImageSource,
    *,
    metric: Metric = "fastmls",
    fmr: float = 1e-3,
    model: str | os.PathLike[str] | Recogniser = DEFAULT_MODEL,
    aligned: bool = False,
    provider: str = "cpu",
    threads: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Verification:
    """Compare the largest face of each of two images.

    Args:
        a: a path, bytes, a file object, or an RGB uint8 array (height, width, 3).
        b: the other image, given likewise.
        metric: ``fastmls``, ``mls`` or ``cosine``.
        fmr: false-match rate of the decision; one that the model carries a threshold for (1e-2 .. 1e-5).
        model: a name, an .onnx file with a contract, a training output folder, or a :class:`Recogniser` to use again
            (which then has the say on ``aligned``, ``provider``, ``threads`` and ``max_pixels``).
        aligned: the images are aligned faces already.
        provider: where the network runs.
        threads: of the network; 0 for all cores.
        max_pixels: limit on an image's size.

    Raises:
        NoFace, ImageError, ModelError, InvalidValue: each names the value, the rule and the mend.
    """
    if not isinstance(model, Recogniser):
        model = Recogniser(model, aligned=aligned, provider=provider, threads=threads, max_pixels=max_pixels)
    model.contract.threshold(metric, fmr)  # a wrong metric or rate is told before any image is read
    return compare(model, model(a)[0], model(b)[0], metric=metric, fmr=fmr)
