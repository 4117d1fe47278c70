"""Whether what an index file holds can be searched: a flipped byte must not lead the search out of its memory.

The form of the arrays is checked by :meth:`probface.match.exact.SearchIndex.open`. Here what is in the small ones is
read, 8 bytes a row of order and of identity; the vectors are not, verify compares them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.gallery.records import GallerySettings
from probface.match.exact import SearchIndex


def check_form(path: Path, index: SearchIndex, order: NDArray[np.int64], settings: GallerySettings) -> None:
    """Refuse an index of other widths, or whose rows lead astray.

    Raises:
        DataError: it is one.
        KeyError: an array is missing.
    """
    identities, references = index.extra["identities"], index.extra["references"]
    rows, widths = len(index), (settings.model.dim, settings.model.sigma_sq_width)
    if (index.references.dim, index.references.sigma_sq.shape[1]) != widths:
        raise DataError(f"{path}: an index of other widths than D = {widths[0]} with {widths[1]} variances")
    if any(ids.dtype != np.int64 or ids.shape != (rows,) for ids in (identities, references)):
        raise DataError(f"{path}: a damaged index, its ids are not one a row")
    least = 1 if settings.templates == "fused" else 0
    if not (
        rows > 0
        and order.min() >= -1
        and order.max() < rows
        and identities[0] > 0
        and bool((np.diff(identities) >= least).all())
    ):
        raise DataError(f"{path}: a damaged index, its rows are not in order")
