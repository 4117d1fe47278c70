"""Do the thresholds keep their promise on people who had no part in them? A section of docs/evidence.md.

    python benchmarks/threshold_promise.py --data LFW

The people of the judge's folds are dealt into five groups; a comparison of two groups is decided by the threshold of
the comparisons among the other groups' people (probface.eval.cross_fitting). Nobody both sets and judges a threshold.
"""

from __future__ import annotations

from lfw_cross import FMRS, RESAMPLES, Cross, score_of
from lfw_judge import opened
from markdown_tables import percent, table
from probface.eval.cross_fitting import CrossFitted, cross_fit
from probface.models.head_weights import HeadWeights
from probface.types import Metric

NAMES: dict[Metric, str] = {"cosine": "cosine", "fastmls": "FastMLS", "mls": "MLS"}


def promise_section(cross: Cross, head: HeadWeights) -> str:
    """A row for each score and rate: the rate asked, the rate met, and the matches."""
    first, second = (cross.pairs.people[rows] for rows in cross.rows)
    rows = []
    for metric in ("cosine", score_of(head)):
        scores = cross.scores(head, metric)
        results = cross_fit(scores, first, second, FMRS.tolist(), resamples=RESAMPLES)
        rows += [_row(NAMES[metric], result) for result in results]
    return table(["score", "FMR asked", "FMR met", "met / asked", "false matches", "TMR %"], rows)


def _row(name: str, result: CrossFitted) -> list[str]:
    met = result.met_fmr
    return [
        name,
        f"{result.fmr:g}",
        f"{met.estimate:.2g} [{met.low:.2g}, {met.high:.2g}]",
        f"{met.estimate / result.fmr:.2f}",
        f"{result.false_matches:,}",
        percent(result.tmr),
    ]


def main() -> None:
    given = opened(__doc__)
    for name in ("moderate", "extreme"):
        print(f"Clean and {name}:\n\n{promise_section(Cross.of(given.judge, name), given.head)}\n")


if __name__ == "__main__":
    main()
