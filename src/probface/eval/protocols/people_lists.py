"""Lists of people to train and to judge by: nobody may be in both."""

from __future__ import annotations

from collections.abc import Iterable

from probface.errors import DataError

NAMED = 3


def refuse_overlap(train: Iterable[str], test: Iterable[str], force: bool = False) -> tuple[str, ...]:
    """Refuse to judge by people who trained, unless forced.

    Args:
        train: people in the training list.
        test: people in the list to judge by.
        force: go on all the same.

    Returns:
        The people in both, in the order of their names, for a note on the figures; none unless forced.

    Raises:
        DataError: somebody is in both lists; the message names the first few and counts them.
    """
    judged = frozenset(test)
    both = tuple(sorted(judged.intersection(train)))
    if both and not force:
        named = ", ".join(map(repr, both[:NAMED])) + (", ..." if len(both) > NAMED else "")
        raise DataError(
            f"people {named}: {len(both)} of the {len(judged)} people to judge by are in the training list, too; take "
            "them out of one of the lists, or force it and get figures that flatter the model"
        )
    return both
