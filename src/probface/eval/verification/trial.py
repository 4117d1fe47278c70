"""One system on the comparisons that are its to be judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue
from probface.eval.candidate import Candidate
from probface.eval.comparisons import Comparisons
from probface.eval.metrics.weighted import Impostors
from probface.eval.results import System
from probface.eval.verification.draws import Draws, Numbers
from probface.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Some of the comparisons, with what resamples of them draw.

    Attributes:
        comparisons: those selected.
        draws: of their people.
        left_out: how many were not selected.
    """

    comparisons: Comparisons
    draws: Draws
    left_out: int


class Selections:
    """Comparisons without those of certain people; each selection is made once."""

    def __init__(self, comparisons: Comparisons) -> None:
        if not len(comparisons):
            raise DataError("no comparisons: there is nothing to judge; check the protocol's lists")
        self._comparisons = comparisons
        self._subjects = frozenset(comparisons.subjects)
        self._made: dict[frozenset[str], Selection] = {}

    def counts(self, people: frozenset[str]) -> tuple[int, int]:
        """How many genuine and impostor comparisons are left without these people."""
        there = people & self._subjects
        left = self._made[there].comparisons.genuine if there in self._made else self._genuine_left(there)
        genuine = int(np.count_nonzero(left))
        return genuine, len(left) - genuine

    def without(self, people: frozenset[str], label: str) -> Selection:
        """All comparisons that none of these people is in; ``label`` says whose, for the message.

        Raises:
            DataError: genuine or impostor comparisons are not left, or a label contradicts the subjects.
        """
        there = people & self._subjects
        if there not in self._made:
            kept = self._kept(there, label)
            self._made[there] = Selection(kept, Draws.of(kept), len(self._comparisons) - len(kept))
        return self._made[there]

    def _kept(self, people: frozenset[str], label: str) -> Comparisons:
        if not people:
            return self._comparisons
        genuine, impostor = self.counts(people)
        if not (genuine and impostor):
            raise DataError(
                f"{label}: {genuine} genuine and {impostor} impostor comparisons without those of people who trained "
                f"the head ({len(people)} subjects): need both kinds; judge by other people, or by cosine alone"
            )
        return self._comparisons.select(~self._comparisons.of_subjects(people))

    def _genuine_left(self, people: frozenset[str]) -> NDArray[np.bool_]:
        return self._comparisons.genuine[~self._comparisons.of_subjects(people)]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A candidate's scores of P comparisons.

    Attributes:
        candidate: the one judged.
        selection: the comparisons.
        scores: (P,) float32, finite.
        impostors: the impostor scores, sorted, for thresholds.
    """

    candidate: Candidate
    selection: Selection
    scores: FloatArray
    impostors: Impostors

    @classmethod
    def of(cls, candidate: Candidate, selection: Selection) -> Trial:
        """Score the comparisons.

        Raises:
            DataError: an image is not among the candidate's faces.
            InvalidValue: a score is not finite; the message names the two images.
        """
        comparisons, draws = selection.comparisons, selection.draws
        scores = candidate.scores(comparisons)
        _check_scores(scores, comparisons, candidate.system)
        no = ~comparisons.genuine
        return cls(candidate, selection, scores, Impostors(scores[no], draws.first[no], draws.second[no], draws.people))

    @property
    def system(self) -> System:
        """How results name it, with the number of comparisons left out."""
        return replace(self.candidate.system, left_out=self.selection.left_out)

    @property
    def key(self) -> str:
        """Of the system."""
        return self.candidate.system.key

    @property
    def label(self) -> str:
        """Of the system."""
        return self.candidate.system.label

    @property
    def comparisons(self) -> Comparisons:
        """That it is judged by."""
        return self.selection.comparisons

    @property
    def draws(self) -> Draws:
        """Of the people in them."""
        return self.selection.draws

    @property
    def genuine_scores(self) -> FloatArray:
        """(G,)."""
        return self.scores[self.comparisons.genuine]

    @property
    def impostor_scores(self) -> FloatArray:
        """(M,)."""
        return self.scores[~self.comparisons.genuine]

    @property
    def genuine_person(self) -> Numbers:
        """(G,) number of the person of each genuine comparison."""
        return self.draws.first[self.comparisons.genuine]

    @property
    def genuine(self) -> int:
        """G."""
        return len(self.scores) - len(self.impostors)

    @property
    def impostor(self) -> int:
        """M."""
        return len(self.impostors)

    def pair_quality(self, measure: str) -> NDArray[np.float64]:
        """(P,) of a quality measure: the lower of the two images' (ISO/IEC 29794-1); larger is better."""
        quality = self.candidate.faces.quality(measure)[self.candidate.faces.rows(self.comparisons.names)]
        return np.minimum(quality[self.comparisons.first], quality[self.comparisons.second])

    @property
    def tells_uncertainty(self) -> bool:
        """Whether the variance differs between images at all."""
        rows = self.candidate.faces.rows(self.comparisons.names)
        whole = self.candidate.faces.embeddings.sigma_sq[rows].sum(axis=1)
        return bool(np.ptp(whole) > 0)


def _check_scores(scores: FloatArray, comparisons: Comparisons, system: System) -> None:
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        a, b = (comparisons.names[rows[bad[0]]] for rows in (comparisons.first, comparisons.second))
        raise InvalidValue(
            f"{system.label}: the score of {a!r} and {b!r} is {scores[bad[0]]} ({len(bad)} such pairs): must be "
            "finite; embed the two images again, or leave them out"
        )
