"""Fill a model contract with what held-out people show: thresholds, quality scale, score histograms."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probface.contract import ModelContract, ScoreHistogram, Threshold
from probface.errors import InsufficientData
from probface.eval.cross_pairs import CrossPairs
from probface.eval.metrics.bootstrap import resample
from probface.eval.metrics.histogram import score_shares
from probface.eval.metrics.weighted import FmrAtThreshold
from probface.score.calibration import threshold_at_fmr
from probface.score.quality import fit_scale
from probface.types import METRICS, Embeddings, FloatArray, Metric

FALSE_MATCH_RATES = (1e-2, 1e-3, 1e-4, 1e-5)
HISTOGRAM_BINS = 80
PEOPLE_TO_RESAMPLE = 20
"""With fewer people resamples of them are too much alike to bound a rate."""
RESAMPLES = 200


def calibrate(
    contract: ModelContract,
    embeddings: Embeddings,
    people: NDArray[np.int64],
    images: NDArray[np.int64],
    *,
    clean_sigma_sq: FloatArray | None,
    extreme_sigma_sq: FloatArray | None,
    data: str,
    description: str,
    fmrs: Sequence[float] = FALSE_MATCH_RATES,
) -> ModelContract:
    """Measure thresholds on all cross-identity pairs of held-out people.

    The bound of a threshold's rate, ``fmr_upper``, is the larger of two: Clopper and Pearson's, exact for independent
    comparisons, which pairs of people are not; and the 95th percentile of the rate at this threshold over resamples of
    the people. With fewer than :data:`PEOPLE_TO_RESAMPLE` people it is the first alone, and the description says so.

    Args:
        contract: of the model that made the embeddings.
        embeddings: N faces; an image may be there in several states.
        people: (N,) who each face is; none of them may have trained the head.
        images: (N,) the image of each face; an image is never compared with its own copy.
        clean_sigma_sq: (K, 1) or (K, D), of clean images: the upper end of the quality scale.
        extreme_sigma_sq: the same of hardly recognisable images: its lower end. The contract's scale stays where one
            of the two is None.
        data: short name of this set of comparisons.
        description: what it is, in one sentence.
        fmrs: the false-match rates, each in (0, 1).

    Returns:
        The contract with thresholds (for each metric, at each of ``fmrs`` that there are impostor pairs enough for),
        histograms and quality scale, all naming ``data``.

    Raises:
        InsufficientData: too few impostor pairs for even the largest rate.
    """
    people = np.unique(people, return_inverse=True)[1].astype(np.int64)
    pairs = CrossPairs.of(people, images)
    thresholds: list[Threshold] = []
    histograms: list[ScoreHistogram] = []
    for metric in METRICS:
        if metric == "fastmls" and contract.sigma_sq_width != 1:
            continue
        scores = pairs.scores(embeddings, metric)
        measured = _thresholds(scores[~pairs.genuine], metric, data, fmrs)
        thresholds += _bounded(measured, scores, pairs) if people.max() + 1 >= PEOPLE_TO_RESAMPLE else measured
        histograms.append(_histogram(scores, pairs.genuine, metric, data))
    if people.max() + 1 < PEOPLE_TO_RESAMPLE:
        description += f"; too few people ({people.max() + 1}) for bounds by resampling them"
    scale = contract.quality
    if clean_sigma_sq is not None and extreme_sigma_sq is not None:
        scale = fit_scale(clean_sigma_sq, extreme_sigma_sq)
    return dataclasses.replace(
        contract,
        thresholds=tuple(thresholds),
        histograms=tuple(histograms),
        quality=scale,
        data={data: description},
    )


def _bounded(measured: list[Threshold], scores: FloatArray, pairs: CrossPairs) -> list[Threshold]:
    """The thresholds, none of them claiming more certainty than resamples of the people show."""
    levels = np.array([entry.threshold for entry in measured])
    false = np.flatnonzero((scores > levels.min()) & ~pairs.genuine)
    first, second = pairs.faces_of(false)
    rates = FmrAtThreshold(scores[false], pairs.people[first], pairs.people[second], np.bincount(pairs.people), levels)
    resampled = resample(rates, int(pairs.people.max()) + 1, resamples=RESAMPLES)
    upper = np.percentile(resampled.values, 95, axis=0, method="higher")
    return [
        dataclasses.replace(entry, fmr_upper=max(entry.fmr_upper, float(bound)))
        for entry, bound in zip(measured, upper, strict=True)
    ]


def _thresholds(impostor: FloatArray, metric: Metric, data: str, fmrs: Sequence[float]) -> list[Threshold]:
    largest, *smaller = sorted(set(fmrs), reverse=True)
    measured = [threshold_at_fmr(impostor, largest, metric=metric, data=data)]
    for fmr in smaller:
        try:
            measured.append(threshold_at_fmr(impostor, fmr, metric=metric, data=data))
        except InsufficientData:
            break  # the smaller rates need more pairs still
    return measured


def _histogram(scores: FloatArray, genuine: NDArray[np.bool_], metric: Metric, data: str) -> ScoreHistogram:
    found = score_shares(scores[genuine], scores[~genuine], HISTOGRAM_BINS)
    edges = found.edges
    digits = max(6, 3 - math.floor(math.log10(edges[1] - edges[0])))  # rounded, and still apart
    genuine_shares, impostor_shares = (
        tuple(round(float(share), 8) for share in shares) for shares in (found.genuine, found.impostor)
    )
    rounded = tuple(round(float(edge), digits) for edge in edges)
    return ScoreHistogram(metric, rounded, genuine_shares, impostor_shares, data)
