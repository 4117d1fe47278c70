"""An axis of a chart: where a value is on it, and its round numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from probface.eval.results import ChartAxis

DECADES = 8
"""That a logarithmic axis shows at most; what is smaller lies on its edge."""

STEPS = 5
"""Into about how many a linear axis is cut."""


@dataclass(frozen=True, slots=True)
class PlotAxis:
    """A range of values over a side of the plot. Places are percentages of that side.

    Attributes:
        low, high: ends of the range.
        log: whether places go with the logarithm.
        percent: whether values are shares, shown in percent.
        ticks: round numbers in the range, rising.
    """

    low: float
    high: float
    log: bool
    percent: bool
    ticks: tuple[float, ...]

    @classmethod
    def holding(cls, axis: ChartAxis, values: Sequence[float], *, snug: bool = False, zero: bool = False) -> PlotAxis:
        """An axis that holds the values.

        A logarithmic axis without any positive value becomes a linear one.

        Args:
            axis: what the chart asks for.
            values: all that shall be seen.
            snug: end at the outermost values, not at the round numbers beyond them.
            zero: start at 0 if no value is negative.
        """
        positive = [value for value in values if value > 0]
        if axis.scale == "log" and positive:
            return cls._logarithmic(min(positive), max(positive), axis.percent)
        return cls._linear(min(values, default=0.0), max(values, default=1.0), axis.percent, snug, zero)

    @classmethod
    def _logarithmic(cls, least: float, most: float, percent: bool) -> PlotAxis:
        top = math.ceil(math.log10(most) - 1e-9)
        bottom = max(min(math.floor(math.log10(least) + 1e-9), top - 1), top - DECADES)
        if top - bottom > 2:
            stride = math.ceil((top - bottom) / 6)
            ticks = [10.0**power for power in range(top, bottom - 1, -stride)][::-1]
        else:
            ticks = [factor * 10.0**power for power in range(bottom, top) for factor in (1, 2, 5)] + [10.0**top]
        return cls(10.0**bottom, 10.0**top, True, percent, tuple(ticks))

    @classmethod
    def _linear(cls, least: float, most: float, percent: bool, snug: bool, zero: bool) -> PlotAxis:
        if least >= 0 and (zero or (not snug and least < 0.4 * most)):
            least = 0.0
        if not most > least:
            around = 0.5 * abs(most) or (0.01 if percent else 1.0)
            most, least = most + around, least if zero and least == 0 else least - around
        step = _round_step((most - least) / STEPS)
        low, high = math.floor(least / step + 1e-9) * step, math.ceil(most / step - 1e-9) * step
        if percent and least >= 0 and most <= 1:
            low, high = max(low, 0.0), min(high, 1.0)
        if snug:
            low, high = least, most
        numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        ticks = [round(number * step, 12) for number in numbers]
        if snug and ticks and float(low).is_integer() and ticks[0] - low > 0.6 * step:
            ticks.insert(0, low)  # rank 1
        return cls(low, high, False, percent, tuple(ticks))

    def place(self, value: float) -> float:
        """Where the value is, 0 to 100; at the edge if it is beyond."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            at = (math.log10(max(value, self.low)) - low) / (high - low)
        else:
            at = (value - self.low) / (self.high - self.low)
        return 100 * min(1.0, max(0.0, at))

    def value(self, place: float) -> float:
        """What lies at a place: the inverse of :meth:`place`."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            return math.pow(10, low + (high - low) * place / 100)
        return self.low + (self.high - self.low) * place / 100

    def described(self) -> str:
        """For the script of the page."""
        return f"{'log' if self.log else 'linear'} {self.low!r} {self.high!r} {'percent' if self.percent else 'plain'}"


def _round_step(raw: float) -> float:
    unit = 10.0 ** math.floor(math.log10(raw))
    return next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw * (1 - 1e-9))
