"""Verification sets (``lfw.bin``, ``cfp_fp.bin``, ``agedb_30.bin`` ...) as the field's scripts judge them.

Pair ``i`` is images ``2 i`` and ``2 i + 1``; ten folds are cut in file order, the first ones a pair longer where the
number of pairs is no multiple of ten. The file does not tell who anybody is, nor that two of its images are the same.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.eval.comparisons import Comparisons
from probface.readers.verification_bin import VerificationSet
from probface.types import Embeddings

FOLDS = 10

MirrorVariance: TypeAlias = Literal["mean", "minimum"]
"""Of an image and its mirror image: the mean of the two variances, or the smaller one, as PFE fuses templates."""


def bin_comparisons(found: VerificationSet) -> Comparisons:
    """The pairs of a verification set, in ten folds; in none where there are fewer than ten pairs.

    Raises:
        DataError: a kind of pair is missing.
    """
    count = len(found.genuine)
    names = tuple(item.name for item in found.items)
    subjects = tuple(f"pair {row // 2}" if found.genuine[row // 2] else f"image {row}" for row in range(2 * count))
    sizes = np.full(FOLDS, count // FOLDS) + (np.arange(FOLDS) < count % FOLDS)
    return Comparisons(
        names=names,
        subjects=subjects,
        first=np.arange(0, 2 * count, 2),
        second=np.arange(1, 2 * count, 2),
        genuine=found.genuine,
        folds=np.repeat(np.arange(1, FOLDS + 1), sizes) if count >= FOLDS else None,
    )


def fuse_mirror(
    image: Embeddings,
    mirror: Embeddings,
    *,
    norms: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    variance: MirrorVariance = "mean",
) -> Embeddings:
    """Fuse N images with their mirror images: ``mu = |a| mu_a + |b| mu_b``, scaled to length 1.

    The field's scripts sum the networks' raw outputs a and b, so that the longer of the two counts for more; without
    their lengths both count alike. The two are one photo, so their errors are not independent and the variance is not
    halved.

    Args:
        image: N rows.
        mirror: N rows, of the same images mirrored.
        norms: (N,) lengths of the raw outputs of both, positive.
        variance: how ``sigma_sq`` of the two becomes one.

    Raises:
        InvalidValue: shapes differ, the two means of a row are opposite, or an unknown variance.
    """
    if image.mu.shape != mirror.mu.shape or image.sigma_sq.shape != mirror.sigma_sq.shape:
        raise InvalidValue(
            f"images of {image.mu.shape} with variances {image.sigma_sq.shape}, mirror images of {mirror.mu.shape} "
            f"with {mirror.sigma_sq.shape}: must be alike"
        )
    if variance not in ("mean", "minimum"):
        raise InvalidValue(f"variance {variance!r}: must be mean or minimum")
    one, other = np.ones(2) if norms is None else (norm.astype(np.float64)[:, None] for norm in norms)
    total = one * image.mu + other * mirror.mu
    length = np.linalg.norm(total, axis=1, keepdims=True)
    lost = np.flatnonzero(length < 1e-6 * one)
    if len(lost):
        raise InvalidValue(f"row {lost[0]}: image and mirror image have opposite means, the sum is 0; embed them again")
    a, b = image.sigma_sq, mirror.sigma_sq
    sigma_sq = np.minimum(a, b) if variance == "minimum" else a / 2 + b / 2
    return Embeddings((total / length).astype(np.float32), sigma_sq.astype(np.float32))
