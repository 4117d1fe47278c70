"""Pairs in the manner of LFW: ten folds of people who are in no other fold (view 2), or two lists (view 1).

Huang, Ramesh, Berg and Learned-Miller (2007). View 1 is for development: the threshold is chosen on
``pairsDevTrain.txt`` and judged on ``pairsDevTest.txt`` (:mod:`probface.eval.verification.transfer`). View 2,
``pairs.txt``, is for the figure that is published: each fold is decided by the threshold best on the other nine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probface.errors import DataError
from probface.eval.comparisons import Comparisons
from probface.readers.lfw import LfwPair


def lfw_comparisons(pairs: Sequence[LfwPair], *, allow_duplicates: bool = False) -> Comparisons:
    """Pairs of LFW's lists; the subjects are the people in the names, and the folds those of the list.

    The true lists have no pair twice. A list of one fold (view 1) has no folds here.

    Args:
        pairs: as :func:`probface.readers.lfw.read_pairs` gives them.
        allow_duplicates: keep pairs that come twice, as often as they come.

    Raises:
        DataError: a pair comes twice, in either order; or a kind of pair is missing.
    """
    names = tuple(dict.fromkeys(name for pair in pairs for name in (pair.a, pair.b)))
    place = {name: row for row, name in enumerate(names)}
    folds = np.array([pair.fold for pair in pairs], np.int64)
    comparisons = Comparisons(
        names=names,
        subjects=tuple(name.split("/")[0] for name in names),
        first=np.array([place[pair.a] for pair in pairs], np.int64),
        second=np.array([place[pair.b] for pair in pairs], np.int64),
        genuine=np.array([pair.genuine for pair in pairs], np.bool_),
        folds=folds if len(np.unique(folds)) > 1 else None,
    )
    twice = None if allow_duplicates else comparisons.duplicate()
    if twice is not None:
        raise DataError(
            f"pair {twice[0]!r} and {twice[1]!r}: is in the list twice, in one order or the other; name each pair "
            "once, or allow duplicates"
        )
    return comparisons
