"""The two pictures of the comparison page, as SVG text. Colours and line styles are the page's, by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from probface.contract import ScoreHistogram

TOP, FLOOR, CHART_HEIGHT = 58, 218, 244
"""Of the chart, in pixels: the curves' highest point, the axis, all of it."""

MARGIN = 0.2
"""By how much of its own width the axis may grow to show a score outside it; one still farther off is at the edge."""

CLOUDS_WIDTH, CLOUDS_HEIGHT, UNIT = 360, 190, 100
"""Of the picture of the clouds: its size, and how many pixels a distance of 1 is, unless that is too large."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of scores over the width of the chart. Places are percentages of that width, within 2 and 98."""

    low: float
    high: float

    @classmethod
    def holding(cls, edges: Sequence[float], values: Sequence[float]) -> Axis:
        """The histogram's own range, widened for the values as far as :data:`MARGIN` allows."""
        room = MARGIN * (edges[-1] - edges[0])
        low = max(min(edges[0], *values), edges[0] - room)
        return cls(low, min(max(edges[-1], *values), edges[-1] + room))

    def place(self, value: float) -> float:
        """Where the value is; at the edge if it is beyond."""
        return 2 + 96 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def ticks(self) -> list[float]:
        """Four to ten round numbers in the range."""
        raw = (self.high - self.low) / 9
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw)
        numbers = range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        return [round(number * step, 10) for number in numbers]


def distributions(histogram: ScoreHistogram, score: float, threshold: float) -> str:
    """Genuine and impostor scores as step curves, each scaled to its own peak, with the threshold and this score.

    Across, places are percentages, so that the letters keep their size on a telephone and in print.
    """
    axis = Axis.holding(histogram.edges, (score, threshold))
    places = [axis.place(edge) for edge in histogram.edges]
    curves = _steps("impostor", places, histogram.impostor) + _steps("genuine", places, histogram.genuine)
    words = (
        f"Chart: this pair scores {score:.3f}, the threshold is {threshold:.3f}; "
        "scores of different people are spread on the left, of one person on the right."
    )
    return (
        f'<svg class="chart" width="100%" height="{CHART_HEIGHT}" role="img" aria-label="{words}">'
        f'<svg y="{TOP}" width="100%" height="{FLOOR - TOP}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f'{curves}</svg><line class="axis" x1="0" x2="100%" y1="{FLOOR}" y2="{FLOOR}"/>{_numbers(axis)}'
        f"{_marker('threshold', f'threshold {threshold:.3f}', threshold, score, axis, 44)}"
        f"{_marker('score', f'this pair {score:.3f}', score, threshold, axis, 18)}</svg>"
    )


def clouds(sigma_sq: tuple[float, float], cosine: float) -> str:
    """The two faces A and B as clouds: dots as far apart as the means, rings of the radius sigma.

    The truth lies about sigma off the dot: E |z - mu|^2 = sigma^2 in the model z ~ N(mu, sigma^2 I / D).
    """
    distance = distance_of_cosine(cosine)
    radii = (math.sqrt(sigma_sq[0]), math.sqrt(sigma_sq[1]))
    left, right = max(radii[0], radii[1] - distance), max(radii[1], radii[0] - distance)
    scale = min(UNIT, (CLOUDS_WIDTH - 12) / (left + distance + right), (CLOUDS_HEIGHT - 12) / (2 * max(radii)))
    middle = CLOUDS_HEIGHT / 2
    first = CLOUDS_WIDTH / 2 - (distance + right - left) * scale / 2
    places = (first, first + distance * scale)
    words = (
        f"Picture: the dots of the two faces are {distance:.2f} apart; "
        f"the ring around A has the radius {radii[0]:.2f}, the one around B {radii[1]:.2f}."
    )
    rings = "".join(
        f'<circle class="cloud-{name}" fill="url(#haze-{name})" '
        f'cx="{x:.1f}" cy="{middle:.1f}" r="{radius * scale:.1f}"/>'
        for name, x, radius in zip("ab", places, radii, strict=True)
    )
    dots = "".join(
        f'<circle class="dot-{name}" cx="{x:.1f}" cy="{middle:.1f}" r="4.5"/>'
        f'<text x="{x + aside:.1f}" y="{middle + 5:.1f}" text-anchor="middle">{name.upper()}</text>'
        for name, x, aside in zip("ab", places, (-15, 15), strict=True)
    )
    line = f'<line class="apart" x1="{places[0]:.1f}" x2="{places[1]:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
    return (
        f'<svg class="clouds" viewBox="0 0 {CLOUDS_WIDTH} {CLOUDS_HEIGHT}" role="img" aria-label="{words}">'
        f"<defs>{_haze('a')}{_haze('b')}</defs>{rings}{line}{dots}</svg>"
    )


def distance_of_cosine(cosine: float) -> float:
    """The distance |mu_i - mu_j| = sqrt(2 - 2 cos) of two unit vectors; rounding may put cos a little above 1."""
    return math.sqrt(max(0.0, 2 - 2 * cosine))


def swatch(name: str) -> str:
    """A piece of a line of the chart, for its legend."""
    return f'<svg class="swatch" aria-hidden="true"><line class="{name}" x1="0" x2="100%" y1="50%" y2="50%"/></svg>'


def _steps(name: str, places: Sequence[float], shares: Sequence[float]) -> str:
    peak = max(shares) or 1.0
    points = [f"M{places[0]:.2f},100"]
    for left, right, share in zip(places[:-1], places[1:], shares, strict=True):
        top = 100 - 100 * share / peak
        points.append(f"L{left:.2f},{top:.2f}L{right:.2f},{top:.2f}")
    path = "".join(points) + f"L{places[-1]:.2f},100"
    return f'<path class="{name}-area" d="{path}Z"/><path class="{name}-line" d="{path}"/>'


def _numbers(axis: Axis) -> str:
    """The numbers under the axis; every other one gives way where the page is narrow."""
    return "".join(
        f'<text class="number{" spare" if place % 2 else ""}" x="{axis.place(value):.2f}%" y="{FLOOR + 19}" '
        f'text-anchor="middle">{value:g}</text>'
        for place, value in enumerate(axis.ticks())
    )


def _marker(name: str, label: str, value: float, other: float, axis: Axis, y: int) -> str:
    """A vertical line with its label on top, on the side away from the other marker's line.

    An arrow says that the value is beyond the edge.
    """
    if value < axis.low:
        label = f"&larr; {label}"
    elif value > axis.high:
        label = f"{label} &rarr;"
    x = axis.place(value)
    rightwards = x < 40 or (x < 60 and value >= other)  # the label fits a telephone on the wider side
    anchor = "start" if rightwards else "end"
    return (
        f'<line class="{name}" x1="{x:.2f}%" x2="{x:.2f}%" y1="{y + 6}" y2="{FLOOR}"/>'
        f'<text class="{name}-label" x="{x:.2f}%" y="{y}" text-anchor="{anchor}">{label}</text>'
    )


def _haze(name: str) -> str:
    stops = ((0, 0.55), (0.5, 0.3), (1, 0.1))
    inside = "".join(f'<stop class="haze-{name}" offset="{at}" stop-opacity="{opacity}"/>' for at, opacity in stops)
    return f'<radialGradient id="haze-{name}">{inside}</radialGradient>'
