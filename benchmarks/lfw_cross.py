"""All cross pairs of the judge's images, clean and degraded: what most sections of docs/evidence.md count on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfw_judge import Judge, State
from probface.eval.cross_pairs import CrossPairs
from probface.eval.metrics.bootstrap import Resampled, Statistic, resample
from probface.eval.metrics.weighted import BestErrorRate, DiscardCurve, Impostors, TmrAtFmr
from probface.models.head_weights import HeadWeights
from probface.score.by_metric import paired_scores
from probface.types import Embeddings, FloatArray, Metric

FMRS = np.array([1e-2, 1e-3, 1e-4, 1e-5])
DISCARD = np.linspace(0, 0.3, 61)
RESAMPLES = 200


@dataclass(frozen=True, slots=True, eq=False)
class Cross:
    """All cross pairs of the judge's images, each clean and in one other state."""

    judge: Judge
    pairs: CrossPairs
    clean: State
    other: State
    rows: tuple[NDArray[np.int32], NDArray[np.int32]]

    @classmethod
    def of(cls, judge: Judge, name: str) -> Cross:
        count = len(judge.faces.names)
        pairs = CrossPairs.of(np.tile(judge.faces.people, 2), np.tile(np.arange(count), 2))
        return cls(judge, pairs, judge.clean, judge.state(name), pairs.indices())

    def embeddings(self, head: HeadWeights) -> Embeddings:
        return Embeddings.concatenate([self.clean.embeddings(head), self.other.embeddings(head)])

    def impostors(self, scores: FloatArray) -> Impostors:
        people, no = self.pairs.people, ~self.pairs.genuine
        return Impostors(scores[no], people[self.rows[0][no]], people[self.rows[1][no]], people.max() + 1)

    @property
    def person(self) -> NDArray[np.int64]:
        """The person of each genuine pair."""
        return self.pairs.people[self.rows[0][self.pairs.genuine]]

    def scores(self, head: HeadWeights, metric: Metric) -> FloatArray:
        return self.pairs.scores(self.embeddings(head), metric)

    def tmr(self, scores: FloatArray, fmrs: NDArray[np.float64] = FMRS) -> TmrAtFmr:
        return TmrAtFmr(scores[self.pairs.genuine], self.person, self.impostors(scores), fmrs)

    def discard(self, cos: FloatArray, impostors: Impostors, quality: NDArray[np.floating]) -> DiscardCurve:
        """Cosine decides; the pair's quality is the lower of the two."""
        first, second = (rows[self.pairs.genuine] for rows in self.rows)
        worse = np.minimum(quality[first], quality[second])
        return DiscardCurve(cos[self.pairs.genuine], worse, self.person, impostors, 1e-2, DISCARD)


def score_of(head: HeadWeights) -> Metric:
    return "fastmls" if head.contract.sigma_sq_width == 1 else "mls"


def sampled(statistic: Statistic, judge: Judge) -> Resampled:
    return resample(statistic, judge.people, resamples=RESAMPLES)


def pair_errors(judge: Judge, head: HeadWeights, metric: Metric, states: Iterable[State]) -> Statistic:
    """Error rate of the judge's pairs at the score's best threshold, the mean over the states given."""
    first, second = judge.pair_rows
    people = judge.faces.people

    def one(state: State) -> BestErrorRate:
        faces = state.embeddings(head)
        return BestErrorRate(paired_scores(faces[first], faces[second], metric), people[first], people[second])

    statistics = [one(state) for state in states]
    return lambda weights: np.mean([statistic(weights) for statistic in statistics], axis=0)
