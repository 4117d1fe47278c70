"""What the paper claims, against what is measured here: a section of docs/evidence.md.

A claim is *supported* where an interval lies on its side of 0 and none on the other, *contradicted* where one lies on
the other side and none on its own, *mixed* where both happen, and *not seen* where every interval holds 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lfw_cross import Cross, pair_errors, sampled, score_of
from lfw_judge import Judge
from markdown_tables import percent, table
from probface.eval.metrics.bootstrap import Interval, Resampled, difference
from probface.models.head_weights import HeadWeights
from probface.types import Metric

FMR = 1e-3


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the paper, and the two systems that it sets apart.

    Attributes:
        says: what the paper says, in few words; or we, in the last one.
        ours: head that it is said of.
        theirs: head that it is said to be better than; None for cosine.
    """

    says: str
    ours: str
    theirs: str | None


CLAIMS = (
    Claim("Uncertainty with all three losses and fusion improves recognition in the wild.", "paper-terms", None),
    Claim("One variance in place of one for each dimension (PFE) makes the score more robust.", "mls", "pfe"),
    Claim("The output constraint regularises the uncertainty.", "mls-lc", "mls"),
    Claim("The identification preserving loss makes the score more discriminative.", "mls-lc-lid", "mls-lc"),
    Claim("Fusion of several layers estimates uncertainty better.", "mls-fusion", "mls"),
    Claim("(not the paper's) A ranking loss beside the likelihood does better still.", "shipped", "paper-terms"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What a system is compared by: errors on degraded pairs, TMR on moderate and on extreme cross pairs."""

    errors: Resampled
    moderate: Resampled
    extreme: Resampled

    def gains(self, other: Figures) -> tuple[Interval, Interval, Interval]:
        """Over another system; positive is better."""
        pairs = ((other.errors, self.errors), (self.moderate, other.moderate), (self.extreme, other.extreme))
        fewer, moderate, extreme = (difference(a, b).intervals()[0] for a, b in pairs)
        return fewer, moderate, extreme


class Measured:
    """The figures of heads, each measured once."""

    def __init__(self, judge: Judge, crosses: tuple[Cross, Cross], heads: dict[str, HeadWeights]) -> None:
        self._judge, self._crosses, self._heads = judge, crosses, heads
        self._found: dict[str | None, Figures] = {}

    def of(self, name: str | None) -> Figures:
        """Of a head by its own score, or of cosine."""
        if name not in self._found:
            head = self._heads[name or "shipped"]
            metric: Metric = "cosine" if name is None else score_of(head)
            moderate, extreme = (self._tmr(cross, head, metric) for cross in self._crosses)
            errors = sampled(pair_errors(self._judge, head, metric, self._judge.draws), self._judge)
            self._found[name] = Figures(errors, moderate, extreme)
        return self._found[name]

    def _tmr(self, cross: Cross, head: HeadWeights, metric: Metric) -> Resampled:
        return sampled(cross.tmr(cross.scores(head, metric), np.array([FMR])), self._judge)


def claims_section(judge: Judge, crosses: tuple[Cross, Cross], heads: dict[str, HeadWeights]) -> str:
    """A row for each claim whose heads are there."""
    measured, rows = Measured(judge, crosses, heads), []
    for claim in CLAIMS:
        if claim.ours not in heads or (claim.theirs is not None and claim.theirs not in heads):
            continue
        gains = measured.of(claim.ours).gains(measured.of(claim.theirs))
        pair = f"`{claim.ours}` over {'cosine' if claim.theirs is None else f'`{claim.theirs}`'}"
        rows.append([claim.says, pair, *(percent(gain, 2) for gain in gains), verdict(gains)])
    header = ["the paper", "compared", "fewer errors", "TMR, moderate", "TMR, extreme", "here"]
    return table(header, rows)


def verdict(gains: Sequence[Interval]) -> str:
    """In one word or two."""
    for_it, against = any(gain.low > 0 for gain in gains), any(gain.high < 0 for gain in gains)
    if for_it and against:
        return "mixed"
    return "supported" if for_it else "contradicted" if against else "not seen"
