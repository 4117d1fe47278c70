"""The values that travel between the rooms. Their docstrings ARE the conventions of the package.

- An image is RGB uint8 (height, width, 3). Sizes are (height, width); points are (x, y) in pixels, x to the right,
  y downwards, the centre of the first pixel at (0, 0).
- ``mu`` is (N, D) float32, each row of unit length. ``sigma_sq`` is (N, 1) or (N, D) float32, positive: one variance
  for the whole vector (ProbFace) or one for each dimension (PFE). The two are never concatenated, and nothing guesses
  which is which from a width.
- Scores: larger means more alike; natural logarithm.

Every type is frozen and checks itself when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue

Image: TypeAlias = NDArray[np.uint8]
"""RGB, uint8, (height, width, 3)."""

FloatArray: TypeAlias = NDArray[np.float32]

Metric: TypeAlias = Literal["fastmls", "mls", "cosine"]
METRICS: tuple[Metric, ...] = get_args(Metric)

UNIT_TOLERANCE = 1e-3
"""How far the length of a ``mu`` may be from 1."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face found in an image.

    Attributes:
        box: (x, y, width, height) in pixels of the original image; may reach over its edge.
        landmarks: five points (x, y) in pixels: the eye at the image's left, the eye at its right, nose tip,
            the mouth corner at its left, the one at its right.
        detector_score: in [0, 1]; larger is surer.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    detector_score: float

    def __post_init__(self) -> None:
        if len(self.landmarks) != 5 or any(len(point) != 2 for point in self.landmarks):
            raise InvalidValue(f"landmarks {self.landmarks!r}: need five (x, y) points")
        if not (self.box[2] > 0 and self.box[3] > 0):
            raise InvalidValue(f"box {self.box!r}: need (x, y, width, height) with width and height above 0")
        values = (*self.box, *(value for point in self.landmarks for value in point), self.detector_score)
        if not np.isfinite(values).all():
            raise InvalidValue(f"face {self!r}: every number must be finite")
        if not 0 <= self.detector_score <= 1:
            raise InvalidValue(f"detector score {self.detector_score}: must be in [0, 1]")

    @property
    def size(self) -> float:
        """The shorter edge of the box, in pixels."""
        return min(self.box[2], self.box[3])


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """N faces as Gaussians: unit means and variances (Eq. 1 of the paper).

    Attributes:
        mu: (N, D) float32, unit length.
        sigma_sq: (N, 1) or (N, D) float32, > 0; (N, 1) is the variance of the whole vector.
    """

    mu: FloatArray
    sigma_sq: FloatArray

    def __post_init__(self) -> None:
        mu, sigma_sq = np.asarray(self.mu), np.asarray(self.sigma_sq)
        if mu.ndim != 2 or mu.dtype != np.float32:
            raise InvalidValue(f"mu of shape {mu.shape}, {mu.dtype}: must be (N, D) float32")
        if sigma_sq.dtype != np.float32 or sigma_sq.shape not in ((len(mu), 1), mu.shape):
            raise InvalidValue(
                f"sigma_sq of shape {sigma_sq.shape}, {sigma_sq.dtype}: must be float32, "
                f"({len(mu)}, 1) or {mu.shape} to go with mu"
            )
        lengths = np.sqrt(np.einsum("nd,nd->n", mu, mu))  # without a copy of mu, which may be mapped from disk
        off = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))
        if len(off):
            raise InvalidValue(f"mu row {off[0]} has length {lengths[off[0]]:.6g}: must be 1; normalise the rows")
        bad = np.flatnonzero(~((sigma_sq > 0) & np.isfinite(sigma_sq)).all(axis=1))
        if len(bad):
            raise InvalidValue(f"sigma_sq row {bad[0]} is {sigma_sq[bad[0]]}: must be positive and finite")
        object.__setattr__(self, "mu", mu)
        object.__setattr__(self, "sigma_sq", sigma_sq)

    def __len__(self) -> int:
        return len(self.mu)

    def __getitem__(self, rows: slice | NDArray[np.generic] | list[int]) -> Embeddings:
        """Some of the rows, as Embeddings again. Take one row as ``embeddings[3:4]``."""
        return Embeddings(self.mu[rows], self.sigma_sq[rows])

    @property
    def dim(self) -> int:
        """D, the length of ``mu``."""
        return int(self.mu.shape[1])

    @classmethod
    def concatenate(cls, parts: Iterable[Embeddings]) -> Embeddings:
        """Stack the rows of several Embeddings of the same D and the same width of ``sigma_sq``."""
        gathered = list(parts)
        widths = {(part.dim, part.sigma_sq.shape[1]) for part in gathered}
        if len(widths) != 1:
            raise InvalidValue(
                f"embeddings of widths {sorted(widths)}: need one or more, all of the same (D, sigma_sq)"
            )
        return cls(np.concatenate([part.mu for part in gathered]), np.concatenate([part.sigma_sq for part in gathered]))


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedFace:
    """One face with all that is known of it: where it was found, what it looks like, how sure that is.

    Attributes:
        source: what the caller named as the image: a path, or a label such as ``<bytes>``.
        face: where it was found; None when the input was an aligned crop.
        crop: the aligned face that the network saw, RGB uint8 (height, width, 3).
        embedding: one row.
        quality: 0..100, from ``sigma_sq`` as the model contract says; 100 is best.
        warnings: what the caller should know, one sentence each ("face of 14 pixels ...").
    """

    source: str
    face: Face | None
    crop: Image
    embedding: Embeddings
    quality: int
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.embedding) != 1:
            raise InvalidValue(f"{len(self.embedding)} embeddings: an embedded face has exactly one")
        if not 0 <= self.quality <= 100:
            raise InvalidValue(f"quality {self.quality}: must be in 0..100")

    @property
    def sigma_sq(self) -> float:
        """The variance as one number: ``sigma_sq`` itself, or the sum over the D dimensions of a PFE model."""
        return float(self.embedding.sigma_sq.sum())


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer to "are these two the same person?".

    Attributes:
        match: ``score`` is above ``threshold``.
        score: of ``metric``; larger means more alike.
        metric: the score that decided.
        threshold: of that metric, measured at ``fmr``.
        fmr: the false-match rate that the threshold was measured at.
        cosine: the cosine of the two means, for comparison.
        faces: the two faces, in the order asked.
    """

    match: bool
    score: float
    metric: Metric
    threshold: float
    fmr: float
    cosine: float
    faces: tuple[EmbeddedFace, EmbeddedFace]
