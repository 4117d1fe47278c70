"""Charts as SVG that is complete without a script: curves, their axes, a legend, and the numbers as a table.

Across and down, places are percentages of the plot, so that letters keep their size on a telephone and in print. The
script of the page reads the curves' values from their ``data-`` attributes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from probface.eval.results import Chart, Series
from probface.report.chart_axis import PlotAxis
from probface.report.evaluation_wording import SPACE, reading
from probface.report.wording import shown

STYLES = 6
"""Colours, and as many patterns of dashes; the seventh curve takes the first colour with the second pattern."""

MARKED, APART = 16, 3
"""A curve of so many points or fewer shows them as dots, if they are so many hundredths of the plot apart."""

ROWS = 21
"""Of the table of numbers, where a chart has more points than that."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart with its axes laid out.

    Attributes:
        chart: what to draw.
        x, y: the axes.
        styles: the CSS classes of each series.
    """

    chart: Chart
    x: PlotAxis
    y: PlotAxis
    styles: tuple[str, ...]

    @classmethod
    def of(cls, chart: Chart, order: Mapping[str, int]) -> Plot:
        """Lay a chart out.

        Args:
            chart: any.
            order: a system's place on the page, by its key; it has the same colour in every chart.
        """
        zero = chart.kind in ("histogram", "edc")
        stretch = _edges if chart.kind == "histogram" else tuple
        x = PlotAxis.holding(chart.x, [value for series in chart.series for value in stretch(series.x)], snug=True)
        y = PlotAxis.holding(chart.y, [value for series in chart.series for value in series.y], zero=zero)
        return cls(chart, x, y, _styles(chart, order))

    @property
    def stepped(self) -> bool:
        """Whether curves are bars around their points, and nothing lies between the points."""
        return self.chart.kind == "histogram"

    def read(self, series: Series, x: float) -> float | None:
        """The curve's height at x, as drawn: on the straight line between its two neighbours; None beyond its ends.

        Where a line falls to the edge of a logarithmic axis, or the curve is stepped, the nearer point's value.
        """
        after = bisect_right(series.x, x)
        if after == 0 or (after == len(series.x) and series.x[-1] < x):
            return None
        if series.x[after - 1] == x:
            return series.y[after - 1]
        left, right = (self.x.place(series.x[place]) for place in (after - 1, after))
        low, high = series.y[after - 1], series.y[after]
        share = (self.x.place(x) - left) / (right - left) if right > left else 0.0
        if self.stepped or (self.y.log and min(low, high) < self.y.low):
            return low if share < 0.5 else high
        return self.y.value((1 - share) * self.y.place(low) + share * self.y.place(high))


def chart_card(chart: Chart, order: Mapping[str, int]) -> str:
    """A chart with its title, how to read it, its legend, and its numbers.

    Args:
        chart: what to draw; one without points says so.
        order: a system's place on the page, by its key.
    """
    head = f"<h3>{shown(chart.title)}</h3><p>{shown(chart.text)}</p>"
    if not any(series.x for series in chart.series):
        return f'<figure class="chart-card"><figcaption>{head}<p>No points to draw.</p></figcaption></figure>'
    plot = Plot.of(chart, order)
    keys = "".join(
        f'<li>{_swatch(style)}<span class="label">{shown(series.label)}</span><span class="value"></span></li>'
        for series, style in zip(chart.series, plot.styles, strict=True)
    )
    return (
        f'<figure class="chart-card" data-kind="{chart.kind}" data-x="{plot.x.described()}" '
        f'data-y="{plot.y.described()}"><figcaption>{head}</figcaption><ul class="keys">{keys}</ul>'
        f'<p class="readout" data-axis="{shown(chart.x.label)}" hidden></p><p class="axis-name">{shown(chart.y.label)}'
        f'</p><div class="plot">{_picture(plot)}</div><p class="axis-name across">{shown(chart.x.label)}</p>'
        f"<details><summary>The numbers</summary>{_numbers(plot)}</details></figure>"
    )


def _styles(chart: Chart, order: Mapping[str, int]) -> tuple[str, ...]:
    """By system where each curve is another system's, else by position; a line of reference has a style of its own."""
    keys = [series.key for series in chart.series if series.key]
    by_system = len(set(keys)) == len(keys) and all(key in order for key in keys)
    styles, position = [], 0
    for series in chart.series:
        reference = not series.key and bool(keys)
        place = order[series.key] if by_system and series.key else position
        styles.append("reference" if reference else f"s{place % STYLES} d{(place + place // STYLES) % STYLES}")
        position += not reference
    return tuple(styles)


def _swatch(style: str) -> str:
    return (
        f'<svg class="swatch" aria-hidden="true"><line class="curve {style}" x1="0" x2="100%" y1="50%" y2="50%"/></svg>'
    )


def _picture(plot: Plot) -> str:
    across = "".join(
        f'<line class="grid" x1="{plot.x.place(tick):.2f}%" x2="{plot.x.place(tick):.2f}%" y1="0" y2="100%"/>'
        f'<text class="number{" spare" if (len(plot.x.ticks) - place) % 2 == 0 else ""}" '
        f'x="{plot.x.place(tick):.2f}%" y="100%" dy="19" text-anchor="middle">{reading(tick, plot.x.percent)}</text>'
        for place, tick in enumerate(plot.x.ticks)
    )
    down = "".join(
        f'<line class="grid" x1="0" x2="100%" y1="{100 - plot.y.place(tick):.2f}%" '
        f'y2="{100 - plot.y.place(tick):.2f}%"/><text class="number" x="0" dx="-8" '
        f'y="{100 - plot.y.place(tick):.2f}%" dy="4.5" text-anchor="end">{reading(tick, plot.y.percent)}</text>'
        for tick in plot.y.ticks
    )
    curves = "".join(_curve(plot, series, style) for series, style in zip(plot.chart.series, plot.styles, strict=True))
    return (
        f'<svg class="lines" width="100%" height="100%" role="img" aria-label="{shown(_alternative(plot))}">{across}'
        '<line class="axis" x1="0" x2="0" y1="0" y2="100%"/><line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/>'
        f'{down}<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{curves}</svg></svg>"
    )


def _curve(plot: Plot, series: Series, style: str) -> str:
    heights = [100 - plot.y.place(y) for y in series.y]
    places = [(plot.x.place(x), height) for x, height in zip(series.x, heights, strict=True)]
    values = f'data-x="{_listed(series.x)}" data-y="{_listed(series.y)}"'
    if not places:
        return f'<g class="series" {values}></g>'
    if plot.stepped:
        edges = [plot.x.place(edge) for edge in _edges(series.x)]
        outline = f"M{edges[0]:.2f},100" + "".join(
            f"V{height:.2f}H{edge:.2f}" for height, edge in zip(heights, edges[1:], strict=True)
        )
        drawn = f'<path class="area {style}" d="{outline}V100Z"/>'
    else:
        outline = "M" + "L".join(f"{x:.2f},{y:.2f}" for x, y in places)
        drawn = ""
    drawn += f'<path class="curve {style}" d="{outline}"/>'
    clear = len(places) == 1 or (places[-1][0] - places[0][0]) / (len(places) - 1) >= APART
    if len(places) <= MARKED and clear and not plot.stepped and style != "reference":
        dots = "".join(f"M{x:.2f},{y:.2f}h0" for x, y in places)
        drawn += f'<path class="dots {style}" d="{dots}"/>'
    return f'<g class="series" {values}>{drawn}</g>'


def _edges(middles: tuple[float, ...]) -> tuple[float, ...]:
    """Of the bars around these points: halfway to the next, and as far beyond the outermost ones."""
    if len(middles) < 2:
        return tuple(edge for middle in middles for edge in (middle - 0.5, middle + 0.5))
    inner = [(left + right) / 2 for left, right in pairwise(middles)]
    return (2 * middles[0] - inner[0], *inner, 2 * middles[-1] - inner[-1])


def _listed(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.7g}" for value in values)


def _alternative(plot: Plot) -> str:
    """The chart in words, for who cannot see it."""
    chart = plot.chart

    def told(series: Series) -> str:
        ends = [
            f"{reading(series.y[place], plot.y.percent)} at {reading(series.x[place], plot.x.percent)}"
            for place in (0, -1)
        ]
        return f"{series.label}: from {ends[0]} to {ends[1]}"

    curves = "; ".join(told(series) for series in chart.series if series.x)
    return f"{chart.title}. {chart.y.label} against {chart.x.label}. {curves}.".replace(SPACE, " ")


def _numbers(plot: Plot) -> str:
    """Every point, or so many places across the plot at which the curves are read."""
    points = sorted({x for series in plot.chart.series for x in series.x})
    remark = ""
    if len(points) > ROWS:
        points = sorted({_nearest(points, plot.x.value(100 * row / (ROWS - 1)), plot.x) for row in range(ROWS)})
        remark = '<p class="soft">Read at some places; results.json has every point.</p>'
    head = "".join(f'<th scope="col">{shown(text)}</th>' for text in (plot.chart.x.label, *_labels(plot.chart)))
    body = ""
    for x in points:
        read = [plot.read(series, x) for series in plot.chart.series]
        cells = "".join(f"<td>{'&ndash;' if y is None else reading(y, plot.y.percent)}</td>" for y in read)
        body += f'<tr><th scope="row">{reading(x, plot.x.percent)}</th>{cells}</tr>'
    return (
        f'{remark}<div class="table" role="region" tabindex="0" aria-label="Numbers: {shown(plot.chart.title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _labels(chart: Chart) -> list[str]:
    return [series.label for series in chart.series]


def _nearest(points: list[float], value: float, axis: PlotAxis) -> float:
    return min(points, key=lambda point: abs(axis.place(point) - axis.place(value)))
