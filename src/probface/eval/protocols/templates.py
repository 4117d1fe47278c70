"""From embedded images to templates, as IJB means them: first within each media, then across the media of a template.

A media is a still image or one video, so that a thousand frames count as much as one photograph.

``mean``, the field's way, with x_i = [|f_i|] [d_i] mu_i of the images (|f_i| the length of the embedding before it was
scaled, d_i the detector's score; either or both):

    template = unit( sum over its media of  mean over the media's images of x_i )

``uncertainty``, PFE's way: images are fused to a media, and media to a template, by :mod:`probface.gallery.fusion`.
What is carried from a media to its template is its fused Gaussian, mean of unit length and variance. With the estimator
``weighted_mean`` a media is as sure as its typical image; with ``precision_sum`` its variance falls with every frame,
though frames of one video are no independent witnesses. The norm and the detector's score weigh by making a variance
larger or smaller: sigma_i^2 / w_i with w_i = [|f_i| / mean |f|] [d_i]. The mean is over the whole table of faces, so
that a template is the same whichever others are fused with it.

A ``mean`` template has a variance, too, so that FastMLS can score it; cosine does not look at it. ``weighted_mean`` is
that of its images with the weights that their vectors have in the sum; ``minimum`` and ``precision_sum`` are of its
images' sigma_i^2 as they are, without weights.

The flip test (the sum of the raw embeddings of image and mirror image) comes before all this: the table's faces are
such sums or they are not, and their norms are the sums' lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue
from probface.eval.face_table import DETECTOR_SCORE, NORM, FaceTable
from probface.gallery.fusion import SHORTEST_MEAN, fuse_groups, fused_variance, group_blocks
from probface.gallery.records import ESTIMATORS, Estimator
from probface.types import Embeddings, FloatArray

Method: TypeAlias = Literal["mean", "uncertainty"]
METHODS: tuple[Method, ...] = get_args(Method)
BLOCK_ROWS = 8192
"""Images gathered at once; a larger template has a block to itself."""


@dataclass(frozen=True, slots=True)
class TemplateFusion:
    """How images become templates.

    Attributes:
        method: ``mean`` or ``uncertainty``.
        norm: weigh images by the length of their embeddings (the field's un-normalised features).
        detector_score: weigh images by the detector's score.
        estimator: of the variance.
        temperature: T of ``uncertainty``, above 0.
    """

    method: Method = "mean"
    norm: bool = False
    detector_score: bool = False
    estimator: Estimator = "weighted_mean"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidValue(f"method {self.method!r}: must be one of {', '.join(METHODS)}")
        if self.estimator not in ESTIMATORS:
            raise InvalidValue(f"estimator {self.estimator!r}: must be one of {', '.join(ESTIMATORS)}")
        if not self.temperature > 0:
            raise InvalidValue(f"temperature {self.temperature}: must be above 0")


FIELD = TemplateFusion(norm=True, detector_score=True)
"""What the field's scripts do by default (N1 D1). F1, the flip test, comes before: the evaluation sums image and mirror
image where it embeds them, and takes ready embeddings as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """T templates.

    Attributes:
        ids: (T,) int64, rising.
        embeddings: T rows.
        images, media: (T,) int64, how many each is made of.
    """

    ids: NDArray[np.int64]
    embeddings: Embeddings
    images: NDArray[np.int64]
    media: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """The rows of templates, in the order asked.

        Raises:
            DataError: a template is not there; the message names the first and counts the others.
        """
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        lost = np.flatnonzero(self.ids[rows] != ids)
        if len(lost):
            raise DataError(
                f"template {ids[lost[0]]}: has no image ({len(np.unique(ids[lost]))} such templates); get a complete "
                "copy of the list of faces"
            )
        return rows


def fuse_templates(
    faces: FaceTable,
    names: Sequence[str],
    templates: NDArray[np.integer],
    media: NDArray[np.integer],
    fusion: TemplateFusion = FIELD,
    *,
    detector_scores: NDArray[np.floating] | None = None,
) -> Templates:
    """Fuse images to templates; memory beyond the table and the templates is that of a block of images.

    Args:
        faces: the embedded images.
        names: (N,) of the images, in any order.
        templates: (N,) the template that each belongs to.
        media: (N,) its media; numbers need to differ only within a template.
        fusion: how.
        detector_scores: (N,) of the images where the protocol's lists have them; else the table's measure.

    Raises:
        DataError: an image is not in the table, a weight is negative (or, for ``uncertainty``, 0), or a template's
            vectors cancel out.
        InvalidValue: shapes differ, no image, or the table has no norm or detector score to weigh by.
    """
    if not (templates.shape == media.shape == (len(names),) and len(names)):
        raise InvalidValue(
            f"{len(names)} names, templates {templates.shape}, media {media.shape}: need (N,) of each, N above 0"
        )
    rows = faces.rows(names)
    weights = _weights(faces, rows, fusion, detector_scores)
    _check_weights(weights, names, fusion)
    order = np.lexsort((media, templates))
    rows, weights, owners, media = rows[order], weights[order], templates[order].astype(np.int64), media[order]
    new_template = np.append(True, owners[1:] != owners[:-1])
    media_starts = np.flatnonzero(new_template | np.append(True, media[1:] != media[:-1]))
    starts = np.flatnonzero(new_template)
    parts = []
    for images, inner_media, inner_templates in _blocks(len(rows), media_starts, starts):
        part = faces.embeddings.mu[rows[images]], faces.embeddings.sigma_sq[rows[images]], weights[images]
        if fusion.method == "mean":
            ids = owners[images][inner_media[inner_templates]]
            parts.append(_fuse_mean(*part, inner_media, inner_templates, fusion.estimator, ids))
            continue
        try:
            parts.append(_fuse_uncertainty(*part, inner_media, inner_templates, fusion))
        except InvalidValue as error:  # the one thing left that can be wrong: vectors that cancel out
            some = owners[images]
            raise DataError(f"templates {some[0]} to {some[-1]}, {error}") from error
    return Templates(
        ids=owners[starts],
        embeddings=Embeddings.concatenate(parts),
        images=np.diff(np.append(starts, len(rows))),
        media=np.diff(np.append(np.searchsorted(media_starts, starts), len(media_starts))),
    )


def _weights(
    faces: FaceTable, rows: NDArray[np.int64], fusion: TemplateFusion, detector_scores: NDArray[np.floating] | None
) -> NDArray[np.float64]:
    """(N,) of the images; the norms in shares of the table's mean, which leaves unit templates as they are."""
    weights = np.ones(len(rows))
    if fusion.norm:
        norms = faces.quality(NORM)
        weights *= norms[rows] / norms.mean()
    if fusion.detector_score:
        scores = faces.quality(DETECTOR_SCORE)[rows] if detector_scores is None else np.asarray(detector_scores)
        if scores.shape != weights.shape:
            raise InvalidValue(f"detector scores of shape {scores.shape}: must be {weights.shape}, one for each image")
        weights *= scores
    return weights


def _check_weights(weights: NDArray[np.float64], names: Sequence[str], fusion: TemplateFusion) -> None:
    sound = np.isfinite(weights) & ((weights >= 0) if fusion.method == "mean" else (weights > 0))
    if not sound.all():
        row = int(np.argmin(sound))
        rule = "at least 0" if fusion.method == "mean" else "above 0"
        raise DataError(
            f"image {names[row]!r}: its weight by norm and detector score is {weights[row]:g}, must be finite and "
            f"{rule}; correct its scores, or do not weigh by them"
        )


def _blocks(
    count: int, media_starts: NDArray[np.int64], starts: NDArray[np.int64]
) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.int64]]]:
    """Whole templates with about BLOCK_ROWS images: images, first images of the media, first media of the templates."""
    bounds = np.append(starts, count)
    for first, last in group_blocks(bounds, BLOCK_ROWS):
        begin, end = int(bounds[first]), int(bounds[last])
        inside = media_starts[np.searchsorted(media_starts, begin) : np.searchsorted(media_starts, end)]
        yield slice(begin, end), inside - begin, np.searchsorted(inside, bounds[first:last])


def _fuse_mean(
    mu: FloatArray,
    sigma_sq: FloatArray,
    weights: NDArray[np.float64],
    media: NDArray[np.int64],
    templates: NDArray[np.int64],
    estimator: Estimator,
    ids: NDArray[np.int64],
) -> Embeddings:
    """The field's way; ``ids`` of the templates, for the message."""
    sizes = np.diff(np.append(media, len(mu)))
    shares = (weights / np.repeat(sizes, sizes))[:, None]
    first = media[templates]  # the first image of each template
    total = np.add.reduceat(shares, first)
    mean = np.add.reduceat(shares * mu, first)
    length = np.sqrt((mean * mean).sum(axis=1, keepdims=True))
    lost = np.flatnonzero(length <= SHORTEST_MEAN * total)
    if len(lost):
        raise DataError(
            f"template {ids[lost[0]]}: its images' vectors (or weights) cancel out to length 0; look at its images, or "
            "weigh them otherwise"
        )
    variance = fused_variance(sigma_sq.astype(np.float64), shares, total, first, estimator)
    return Embeddings((mean / length).astype(np.float32), variance)


def _fuse_uncertainty(
    mu: FloatArray,
    sigma_sq: FloatArray,
    weights: NDArray[np.float64],
    media: NDArray[np.int64],
    templates: NDArray[np.int64],
    fusion: TemplateFusion,
) -> Embeddings:
    weighted = (sigma_sq / weights[:, None]).astype(np.float32)
    of_media = fuse_groups(mu, weighted, media, fusion.estimator, fusion.temperature)
    return Embeddings(*fuse_groups(*of_media, templates, fusion.estimator, fusion.temperature))
