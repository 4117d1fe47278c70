"""Fill a model contract with what held-out people show: thresholds, quality scale, score histograms."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from probface.contract import ModelContract, ScoreHistogram, Threshold
from probface.errors import InsufficientData
from probface.eval.cross_pairs import CrossPairs
from probface.score.calibration import threshold_at_fmr
from probface.score.quality import fit_scale
from probface.types import METRICS, Embeddings, FloatArray, Metric

FALSE_MATCH_RATES = (1e-2, 1e-3, 1e-4, 1e-5)
HISTOGRAM_BINS = 80


def calibrate(
    contract: ModelContract,
    embeddings: Embeddings,
    people: NDArray[np.int64],
    images: NDArray[np.int64],
    *,
    clean_sigma_sq: FloatArray,
    extreme_sigma_sq: FloatArray,
    data: str,
    description: str,
) -> ModelContract:
    """Measure thresholds on all cross-identity pairs of held-out people.

    Args:
        contract: of the model that made the embeddings.
        embeddings: N faces; an image may be there in several states.
        people: (N,) who each face is; none of them may have trained the head.
        images: (N,) the image of each face; an image is never compared with its own copy.
        clean_sigma_sq: (K, 1) or (K, D), of clean images: the upper end of the quality scale.
        extreme_sigma_sq: the same of hardly recognisable images: its lower end.
        data: short name of this set of comparisons.
        description: what it is, in one sentence.

    Returns:
        The contract with thresholds (for each metric, at each of :data:`FALSE_MATCH_RATES` that there are impostor
        pairs enough for), histograms and quality scale, all naming ``data``.

    Raises:
        InsufficientData: too few impostor pairs for even the largest rate.
    """
    pairs = CrossPairs.of(people, images)
    thresholds: list[Threshold] = []
    histograms: list[ScoreHistogram] = []
    for metric in METRICS:
        if metric == "fastmls" and contract.sigma_sq_width != 1:
            continue
        scores = pairs.scores(embeddings, metric)
        thresholds += _thresholds(scores[~pairs.genuine], metric, data)
        histograms.append(_histogram(scores, pairs.genuine, metric, data))
    return dataclasses.replace(
        contract,
        thresholds=tuple(thresholds),
        histograms=tuple(histograms),
        quality=fit_scale(clean_sigma_sq, extreme_sigma_sq),
        data={data: description},
    )


def _thresholds(impostor: FloatArray, metric: Metric, data: str) -> list[Threshold]:
    largest, *smaller = sorted(FALSE_MATCH_RATES, reverse=True)
    measured = [threshold_at_fmr(impostor, largest, metric=metric, data=data)]
    for fmr in smaller:
        try:
            measured.append(threshold_at_fmr(impostor, fmr, metric=metric, data=data))
        except InsufficientData:
            break  # the smaller rates need more pairs still
    return measured


def _histogram(scores: FloatArray, genuine: NDArray[np.bool_], metric: Metric, data: str) -> ScoreHistogram:
    low = min(float(np.quantile(scores[~genuine], 1e-3)), float(np.min(scores[genuine], initial=np.inf)))
    high = max(float(np.max(scores)), low + 1e-9)  # a network that gives one score for all still has a histogram
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    digits = max(6, 3 - math.floor(math.log10(edges[1] - edges[0])))  # rounded, and still apart
    clipped = np.clip(scores, edges[0], edges[-1])

    def shares(values: FloatArray) -> tuple[float, ...]:
        counts, _ = np.histogram(values, edges)
        return tuple(round(float(share), 8) for share in counts / max(1, counts.sum()))

    return ScoreHistogram(
        metric, tuple(round(float(e), digits) for e in edges), shares(clipped[genuine]), shares(clipped[~genuine]), data
    )
