"""What the lists of a search in a gallery must keep, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError


def check_search(
    path: Path,
    templates: NDArray[np.integer],
    subjects: NDArray[np.integer],
    probes_path: Path,
    probes: NDArray[np.integer],
) -> None:
    """Refuse a gallery that has a subject twice, and a template that is in the gallery and among the probes.

    Args:
        path: of the gallery's list, for the message.
        templates: (T,) of the gallery.
        subjects: (T,) theirs.
        probes_path: of the list of probes.
        probes: templates of the probes.

    Raises:
        DataError: one of the two.
    """
    people, counts = np.unique(subjects, return_counts=True)
    if (counts > 1).any():
        subject = people[counts > 1][0]
        one, other = templates[subjects == subject][:2]
        raise DataError(
            f"{path}: subject {subject} has templates {one} and {other}; a gallery has one template a subject, remove "
            "the other"
        )
    both = np.intersect1d(templates, probes)
    if len(both):
        raise DataError(
            f"{path}: template {both[0]} is also among the probes of {probes_path} ({len(both)} such templates); a "
            "template cannot search for itself, correct one of the lists"
        )
