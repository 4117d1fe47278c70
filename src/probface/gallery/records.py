"""What a gallery holds and answers: frozen values, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from probface.contract import ModelContract
from probface.errors import InvalidValue
from probface.types import Embeddings, FloatArray, Metric

Templates: TypeAlias = Literal["fused", "all"]
"""``fused``: an identity's references are searched as one Gaussian. ``all``: each for itself; the best one counts."""
TEMPLATES: tuple[Templates, ...] = get_args(Templates)

Estimator: TypeAlias = Literal["weighted_mean", "minimum", "precision_sum"]
"""The variance of a fused template, see :mod:`probface.gallery.fusion`."""
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)

MAX_NAME = 200
"""Longest name of an identity, in characters."""


@dataclass(frozen=True, slots=True)
class ModelBinding:
    """The model that made a gallery's embeddings; embeddings of another one cannot be compared with them.

    Attributes:
        name: the model's short name.
        digest: SHA-256 of the model, hexadecimal; for embeddings of a model that ProbFace never saw, a digest of the
            name that the importer declared.
        dim: D, the length of ``mu``.
        sigma_sq_width: 1 or D.
        contract: what the model says of itself (thresholds, quality scale); None for declared models.
    """

    name: str
    digest: str
    dim: int
    sigma_sq_width: int
    contract: ModelContract | None = None

    def __post_init__(self) -> None:
        if not self.name or self.dim < 1 or self.sigma_sq_width not in (1, self.dim):
            raise InvalidValue(
                f"model {self.name!r} of D = {self.dim}, sigma_sq width {self.sigma_sq_width}: needs a name, D of 1 or "
                "more, and a width of 1 or D"
            )


@dataclass(frozen=True, slots=True)
class GallerySettings:
    """What is fixed when a gallery is made.

    Attributes:
        model: what made its embeddings.
        templates: how the references of one identity are searched.
        estimator: of the fused variance; of no effect with ``templates="all"``.
        keep_images: whether the images' bytes are kept, so that a migration needs no files.
    """

    model: ModelBinding
    templates: Templates = "fused"
    estimator: Estimator = "weighted_mean"
    keep_images: bool = False

    def __post_init__(self) -> None:
        if self.templates not in TEMPLATES:
            raise InvalidValue(f"templates {self.templates!r}: must be one of {', '.join(TEMPLATES)}")
        if self.estimator not in ESTIMATORS:
            raise InvalidValue(f"estimator {self.estimator!r}: must be one of {', '.join(ESTIMATORS)}")


@dataclass(frozen=True, slots=True, eq=False)
class NewReferences:
    """N biometric references to be enrolled, row by row.

    Attributes:
        names: of the identity of each row; an identity that is there already gets further references.
        embeddings: N rows.
        quality: (N,) int64 in 0..100, or -1 where it is not known.
        sources: what the image was: a path or label; "" where it is not known.
        source_digests: SHA-256 of the image's bytes, hexadecimal; "" where it is not known.
        images: the encoded image's bytes to keep, None not to; one entry a row, or no entries at all.
        enrolled: when each was enrolled elsewhere before, with a time zone; no entries at all: now.
    """

    names: tuple[str, ...]
    embeddings: Embeddings
    quality: NDArray[np.int64]
    sources: tuple[str, ...]
    source_digests: tuple[str, ...]
    images: tuple[bytes | None, ...] = ()
    enrolled: tuple[datetime, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.embeddings)
        lengths = (len(self.names), len(self.quality), len(self.sources), len(self.source_digests))
        if set(lengths) != {rows} or len(self.images) not in (0, rows):
            raise InvalidValue(f"references of {(*lengths, len(self.images))} fields: every field needs {rows} entries")
        if len(self.enrolled) not in (0, rows) or any(moment.tzinfo is None for moment in self.enrolled):
            raise InvalidValue(
                f"{len(self.enrolled)} times of enrolment: must be {rows} with a time zone, or none at all"
            )
        for name in set(self.names):
            check_name(name)

    def __len__(self) -> int:
        return len(self.names)

    def moments(self, now: datetime) -> tuple[tuple[datetime, ...], dict[str, datetime]]:
        """When each row was enrolled, and when the first one of each name."""
        rows = self.enrolled or (now,) * len(self)
        first: dict[str, datetime] = {}
        for name, moment in zip(self.names, rows, strict=True):
            first[name] = min(moment, first.get(name, moment))
        return rows, first

    @classmethod
    def unlabelled(cls, names: tuple[str, ...], embeddings: Embeddings) -> NewReferences:
        """Ready embeddings of which nothing else is known."""
        rows = len(embeddings)
        return cls(names, embeddings, np.full(rows, -1, np.int64), ("",) * rows, ("",) * rows)


@dataclass(frozen=True, slots=True)
class Reference:
    """One enrolled reference, without its vector.

    Attributes:
        id: ascending, never used again.
        source, source_digest, quality: as in :class:`NewReferences`.
        sigma_sq: the variance as one number (the sum over D variances).
        enrolled: when, in UTC.
        image_kept: whether the image's bytes are in the gallery.
    """

    id: int
    source: str
    source_digest: str
    quality: int
    sigma_sq: float
    enrolled: datetime
    image_kept: bool


@dataclass(frozen=True, slots=True)
class IdentitySummary:
    """One enrolled identity.

    Attributes:
        id: ascending, never used again.
        name: unique in the gallery.
        references: how many it has, 1 or more.
        enrolled: when its first reference came, in UTC.
    """

    id: int
    name: str
    references: int
    enrolled: datetime


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceBlock:
    """Some references with their vectors, ordered by (identity, reference).

    Attributes:
        ids: (N,) int64, of the references.
        identities: (N,) int64, ids of their identities, ascending.
        mu: (N, D) float32.
        sigma_sq: (N, 1) or (N, D) float32.
    """

    ids: NDArray[np.int64]
    identities: NDArray[np.int64]
    mu: FloatArray
    sigma_sq: FloatArray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An identity that a probe resembles.

    Attributes:
        name: of the identity.
        score: of its template, or of its best reference; larger means more alike.
    """

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class Identification:
    """The answer to "who is this, if anybody here?" (open-set identification, ISO/IEC 19795-1).

    Attributes:
        name: the identity, or None: nobody.
        reason: why, in one sentence.
        candidates: the best ones, best first, whatever the decision.
        metric: the score that decided.
        threshold: the best candidate is accepted above it.
        fpir: the false-positive identification rate that it stands for, at this gallery's size.
        basis: what the threshold was measured on, in one sentence.
    """

    name: str | None
    reason: str
    candidates: tuple[Candidate, ...]
    metric: Metric
    threshold: float
    fpir: float
    basis: str


def check_name(name: str) -> str:
    """The name, if an identity may have it.

    Raises:
        InvalidValue: empty, with space at an end, longer than 200 characters, or with control characters.
    """
    if not name or name != name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidValue(
            f"identity name {name[:60]!r}: must be 1 to {MAX_NAME} printable characters without space at either end"
        )
    return name
