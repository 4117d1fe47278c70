"""Are these two the same person? One answer, at a stated false-match rate."""

from __future__ import annotations

import os

from probface.errors import InvalidValue
from probface.face.image import MAX_PIXELS, ImageSource
from probface.pipeline.recogniser import DEFAULT_MODEL, Recogniser
from probface.score.cosine import cosine
from probface.score.fast_mls import fast_mls
from probface.score.mls import mls
from probface.types import METRICS, EmbeddedFace, Embeddings, Metric, Verification


def score(a: Embeddings, b: Embeddings, metric: Metric) -> float:
    """The score of one face with one other.

    Raises:
        InvalidValue: unknown metric, or FastMLS for D variances a face.
    """
    if metric == "cosine":
        return float(cosine(a.mu, b.mu)[0])
    if metric not in METRICS:
        raise InvalidValue(f"metric {metric!r}: must be one of {', '.join(METRICS)}")
    formula = fast_mls if metric == "fastmls" else mls
    return float(formula(a.mu, a.sigma_sq, b.mu, b.sigma_sq)[0])


def compare(
    recogniser: Recogniser, a: EmbeddedFace, b: EmbeddedFace, *, metric: Metric = "fastmls", fmr: float = 1e-3
) -> Verification:
    """Decide on two faces that are embedded already; as :func:`verify`."""
    value = score(a.embedding, b.embedding, metric)
    threshold = recogniser.contract.threshold(metric, fmr)
    return Verification(
        match=value > threshold.threshold,
        score=value,
        metric=metric,
        threshold=threshold.threshold,
        fmr=threshold.fmr,
        cosine=score(a.embedding, b.embedding, "cosine"),
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
