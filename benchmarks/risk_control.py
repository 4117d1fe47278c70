"""Risk control on LFW: what is gained where the doubtful comparisons are set aside by sigma^2.

    python benchmarks/risk_control.py --data LFW [--model MODEL_FOLDER] [--cache FOLDER]

Prints two tables for docs/evidence.md: FNMR at a threshold that is fixed before anything is rejected, and the paper's
risk-controlled accuracy, whose threshold is refitted on what is kept. The quality of a pair is that of its worse face.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lfw_cross import Cross, sampled, score_of
from lfw_judge import Judge, opened
from markdown_tables import percent, table
from probface.eval.metrics.bootstrap import Statistic, Weights
from probface.eval.metrics.risk import discard_curve, quality_groups
from probface.eval.metrics.weighted import BestErrorRate, Impostors
from probface.models.head_weights import HeadWeights
from probface.score.by_metric import paired_scores
from probface.types import Embeddings, Metric

REJECTED = np.array([0.0, 0.1, 0.2, 0.3])
FMRS = (1e-2, 1e-3)
Rows = tuple[NDArray[np.integer], NDArray[np.integer]]


def worse_quality(faces: Embeddings, rows: Rows) -> NDArray[np.float64]:
    """Of each pair: -log of the larger sigma^2 of its two faces."""
    risk = np.log(faces.sigma_sq.sum(axis=1, dtype=np.float64))
    return -np.maximum(risk[rows[0]], risk[rows[1]])


class FixedThreshold:
    """FNMR of the genuine pairs kept at each share rejected, the mean over states; then the share that each cut off it.

    The threshold is set before anything is rejected.

    Args:
        states: what the head made of the images, in one state or more.
        rows: (G,) the two faces of each genuine pair.
        person: (G,) whose they are.
        metric: the score.
        impostors: scores of that metric.
        fmr: where on them the threshold is.
    """

    def __init__(
        self,
        states: Sequence[Embeddings],
        rows: Rows,
        person: NDArray[np.integer],
        metric: Metric,
        impostors: Impostors,
        fmr: float,
    ) -> None:
        self._scores = [paired_scores(faces[rows[0]], faces[rows[1]], metric) for faces in states]
        self._groups = [quality_groups(worse_quality(faces, rows)) for faces in states]
        self._person, self._impostors, self._fmr = person, impostors, np.array([fmr])

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        threshold = self._impostors.thresholds(weights, self._fmr)[0]
        weight = weights[self._person]
        curves = []
        for scores, (groups, count) in zip(self._scores, self._groups, strict=True):
            errors = np.bincount(groups, weight * (scores <= threshold), minlength=count)
            curves.append(discard_curve(errors, np.bincount(groups, weight, minlength=count), REJECTED))
        rates = np.mean(curves, axis=0)
        return np.concatenate([rates, 1 - rates / rates[0]])


def fixed_threshold_section(cross: Cross, head: HeadWeights, draws: Sequence[Embeddings]) -> str:
    """The threshold is that of the cross pairs: the LFW pairs alone have too few impostors."""
    judge, faces = cross.judge, cross.embeddings(head)
    people, genuine = judge.faces.people, cross.pairs.genuine
    first, second = judge.pair_rows
    same = people[first] == people[second]
    pairs: dict[str, tuple[Sequence[Embeddings], Rows, NDArray[np.integer]]] = {
        "LFW pairs, degraded": (draws, (first[same], second[same]), people[first[same]]),
        "cross pairs, clean and moderate": (
            [faces],
            (cross.rows[0][genuine], cross.rows[1][genuine]),
            cross.person,
        ),
    }
    rows = []
    for metric, label in (("cosine", "cosine"), (score_of(head), "FastMLS")):
        impostors = cross.impostors(cross.pairs.scores(faces, metric))
        for fmr in FMRS:
            for name, (states, places, person) in pairs.items():
                statistic = FixedThreshold(states, places, person, metric, impostors, fmr)
                found = sampled(statistic, judge).intervals()
                rates, cuts = found[: len(REJECTED)], found[len(REJECTED) :]
                rows.append([name, label, f"{fmr:g}", *(percent(rate, 2) for rate in rates), percent(cuts[2], 0)])
    header = ["pairs", "score", "FMR", *(f"FNMR % at {100 * share:g} %" for share in REJECTED), "cut at 20 %, in %"]
    return table(header, rows)


def refitted_accuracy(judge: Judge, states: Sequence[Embeddings], metric: Metric) -> Statistic:
    """Accuracy at each share rejected. Which pairs go is settled once; resamples weigh those that are kept."""
    people, rows = judge.faces.people, judge.pair_rows
    first, second = people[rows[0]], people[rows[1]]

    def one(faces: Embeddings) -> list[BestErrorRate]:
        scores = paired_scores(faces[rows[0]], faces[rows[1]], metric)
        order = np.argsort(-worse_quality(faces, rows), kind="stable")
        kept = [order[: len(order) - int(share * len(order) + 1e-9)] for share in REJECTED]
        return [BestErrorRate(scores[some], first[some], second[some]) for some in kept]

    rates = [one(faces) for faces in states]
    return lambda weights: 1 - np.mean([[rate(weights)[0] for rate in state] for state in rates], axis=0)


def accuracy_section(judge: Judge, head: HeadWeights, draws: Sequence[Embeddings]) -> str:
    """Risk-controlled recognition as the paper has it, on all 1,800 pairs."""
    rows = []
    for name, states in (("clean", [judge.clean.embeddings(head)]), (f"degraded, mean of {len(draws)} draws", draws)):
        for metric, label in (("cosine", "cosine"), (score_of(head), "FastMLS")):
            found = sampled(refitted_accuracy(judge, states, metric), judge).intervals()
            rows.append([name, label, *(percent(interval, 2) for interval in found)])
    header = ["pairs", "score", *(f"accuracy % at {100 * share:g} %" for share in REJECTED)]
    return table(header, rows)


def sections(judge: Judge, head: HeadWeights) -> Iterator[str]:
    """The tables, in order."""
    draws = [state.embeddings(head) for state in judge.draws]
    yield accuracy_section(judge, head, draws)
    yield fixed_threshold_section(Cross.of(judge, "moderate"), head, draws)


def main() -> None:
    given = opened(__doc__)
    for section in sections(given.judge, given.head):
        print(section, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
