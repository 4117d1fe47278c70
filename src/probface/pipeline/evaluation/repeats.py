"""Figures that a protocol takes several times, over trials or splits: what they are on the mean, and how they vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.eval.metrics.bootstrap import Interval
from probface.eval.metrics.subset_interval import subset_interval
from probface.eval.results import INSUFFICIENT, Chart, ChartAxis, Figure, Series, System


@dataclass(frozen=True, slots=True)
class Repeats:
    """Which repeats there are.

    Attributes:
        word: what one is called, ``trial`` or ``split``.
        numbers: of those that there are, in order.
        confidence: of the intervals.
        kept, left_out: how many people are judged in a repeat, and how many are not, on the mean; None where that is
            not known, and there is no interval then.
    """

    word: str
    numbers: tuple[int, ...]
    confidence: float = 0.95
    kept: float | None = None
    left_out: float | None = None

    def interval(self, values: NDArray[np.float64]) -> Interval | None:
        """Of the mean over repeats; None where there is none."""
        if len(values) < 2 or not self.kept or not self.left_out:
            return None
        return subset_interval(values, self.kept, self.left_out, self.confidence)


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """A figure of one system in each of T repeats.

    Attributes:
        name, at: as in :class:`probface.eval.results.Figure`.
        system: key of the system.
        values: (T,) shares; None where the data cannot give them, and ``note`` says why.
        genuine, impostor: (T,) how many comparisons or searches each rests on.
        note: why there is no value, or what to know.
    """

    name: str
    system: str
    values: NDArray[np.float64] | None
    at: Mapping[str, float] = field(default_factory=dict)
    genuine: NDArray[np.integer] | None = None
    impostor: NDArray[np.integer] | None = None
    note: str = ""

    def figures(self, repeats: Repeats) -> list[Figure]:
        """The mean; then standard deviation, and mean less standard deviation, where there are two repeats or more."""
        row = Figure(
            self.name,
            self.system,
            None,
            at=dict(self.at),
            better="higher",
            genuine=_mean_count(self.genuine),
            impostor=_mean_count(self.impostor),
            note=self.note or INSUFFICIENT,
        )
        if self.values is None:
            return [row]
        mean, interval = float(self.values.mean()), repeats.interval(self.values)
        ends = (None, None) if interval is None else (max(0.0, interval.low), min(1.0, interval.high))
        row = replace(row, value=mean, low=ends[0], high=ends[1], note=self.note)
        if len(self.values) < 2:
            return [replace(row, note=_joined(self.note, f"{repeats.word} {repeats.numbers[0]} alone"))]
        deviation = float(self.values.std(ddof=1))
        plain = replace(row, low=None, high=None, note="")
        return [
            row,
            replace(plain, name=f"{self.name}, standard deviation", value=deviation, better=None),
            replace(plain, name=f"{self.name}, mean minus standard deviation", value=mean - deviation),
        ]

    def less(self, first: Repeated, repeats: Repeats) -> list[Figure]:
        """This system's figure less that of ``first``, repeat by repeat; none where either has no value."""
        if self.values is None or first.values is None:
            return []
        if (self.name, self.at, len(self.values)) != (first.name, first.at, len(first.values)):
            raise InvalidValue(f"figures {self.name} {self.at} and {first.name} {first.at}: only alike ones compare")
        more = self.values - first.values
        interval = repeats.interval(more)
        note = f"higher in {int((more > 0).sum())}, lower in {int((more < 0).sum())} of {len(more)} {repeats.word}s"
        if len(more) > 1:
            note += f"; standard deviation {100 * float(more.std(ddof=1)):.2g} points"
        row = Figure(
            self.name,
            self.system,
            float(more.mean()),
            at=dict(self.at),
            better="higher",
            relation="difference",
            against=first.system,
            genuine=_mean_count(self.genuine),
            impostor=_mean_count(self.impostor),
            note=note,
        )
        return [row if interval is None else replace(row, low=interval.low, high=interval.high)]


def compared(found: Sequence[Sequence[Repeated]], repeats: Repeats) -> list[Figure]:
    """Every later system less the first; ``found`` has the figures of each system, in one order."""
    first, *others = found
    return [
        figure
        for later in others
        for ours, theirs in zip(first, later, strict=True)
        for figure in theirs.less(ours, repeats)
    ]


def repeats_chart(
    rows: Sequence[Repeated], systems: Sequence[System], repeats: Repeats, label: str
) -> tuple[Chart, ...]:
    """One figure of each system, repeat by repeat; nothing where none has values, or there is one repeat alone."""
    labels = {system.key: system.label for system in systems}
    x = tuple(map(float, repeats.numbers))
    series = tuple(
        Series(labels[row.system], x, tuple(row.values.tolist()), row.system) for row in rows if row.values is not None
    )
    if not series or len(x) < 2:
        return ()
    text = f"Higher is better. Lines that rise and fall together show what the {repeats.word}s have in common."
    return (
        Chart(
            "lines",
            f"{label}, {repeats.word} by {repeats.word}",
            text,
            ChartAxis(repeats.word),
            ChartAxis(label, percent=True),
            series,
        ),
    )


def _mean_count(counts: NDArray[np.integer] | None) -> int:
    return 0 if counts is None or not len(counts) else round(float(counts.mean()))


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
