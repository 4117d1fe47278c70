"""The faces of a data set, embedded once: what every protocol scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue
from probface.types import Embeddings

UNCERTAINTY, NORM, SHARPNESS, DETECTOR_SCORE = "sigma^2", "embedding norm", "sharpness", "detector score"
"""Names of the quality measures that an export brings; a user's columns have names of their own."""


@dataclass(frozen=True, eq=False)
class FaceTable:
    """N embedded faces, found by the names of their images.

    Attributes:
        names: (N,) of the images, each once, as the protocol's lists mean them.
        embeddings: N rows.
        measures: quality measure -> (N,) float64, finite, larger is better. :data:`UNCERTAINTY` is not among them: it
            follows from the embeddings.
    """

    names: tuple[str, ...]
    embeddings: Embeddings
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.embeddings):
            raise InvalidValue(f"{len(self.names)} names for {len(self.embeddings)} embeddings: need one for each")
        if len(self._places) != len(self.names):
            first = next(name for row, name in enumerate(self.names) if self._places[name] != row)
            raise DataError(f"image {first!r}: is in the embeddings twice; name each image once")
        for measure, values in self.measures.items():
            if values.shape != (len(self.names),):
                raise InvalidValue(f"measure {measure!r} of shape {values.shape}: must be ({len(self.names)},)")
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                raise InvalidValue(
                    f"measure {measure!r} of image {self.names[bad[0]]!r} is {values[bad[0]]}: must be finite; fill it "
                    "in, or leave the column out"
                )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    def rows(self, names: Sequence[str]) -> NDArray[np.int64]:
        """The rows of images, in the order asked.

        Raises:
            DataError: an image is not there; the message names the first and counts the others.
        """
        missing = self.missing(names)
        if missing:
            raise DataError(
                f"image {missing[0]!r}: is in the protocol's lists and not among the {len(self)} embeddings "
                f"({len(missing)} such images); embed it, or leave what is missing out"
            )
        return np.array([self._places[name] for name in names], np.int64)

    def missing(self, names: Sequence[str]) -> tuple[str, ...]:
        """Which of these images are not there, each once, in order."""
        return tuple(dict.fromkeys(name for name in names if name not in self._places))

    def quality(self, measure: str) -> NDArray[np.float64]:
        """(N,) of a quality measure; larger is better. :data:`UNCERTAINTY` gives ``-log sigma^2`` of the whole vector.

        Raises:
            InvalidValue: no such measure.
        """
        if measure == UNCERTAINTY:
            whole = self.embeddings.sigma_sq.sum(axis=1, dtype=np.float64)
            negative: NDArray[np.float64] = -np.log(whole)
            return negative
        if measure not in self.measures:
            known = ", ".join((UNCERTAINTY, *self.measures))
            raise InvalidValue(f"quality measure {measure!r}: must be one of {known}")
        return self.measures[measure]
