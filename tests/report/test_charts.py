import itertools
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.eval.results import Chart, ChartAxis, Series
from probface.report.chart_axis import PlotAxis
from probface.report.charts import Plot, chart_card


def plot(kind: str = "lines", x: str = "linear", y: str = "linear", *series: Series) -> Plot:
    chart = Chart(kind, "t", "", ChartAxis("x", x), ChartAxis("y", y, percent=True), series)  # type: ignore[arg-type]
    return Plot.of(chart, {"a": 0, "b": 1})


@given(
    log=st.booleans(),
    values=st.lists(st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6), min_size=1, max_size=20),
)
def test_an_axis_holds_its_values(log: bool, values: list[float]) -> None:
    axis = PlotAxis.holding(ChartAxis("x", "log" if log else "linear"), values)
    seen = [value for value in values if value > 0] if axis.log else values
    assert axis.low <= axis.high * (1 + 1e-9)
    for value in seen:
        inside = max(value, axis.low)
        assert axis.value(axis.place(value)) == pytest.approx(inside, rel=1e-6, abs=1e-6 * (axis.high - axis.low))
    assert 1 <= len(axis.ticks) <= 10
    assert all(axis.low * (1 - 1e-9) - 1e-9 <= tick <= axis.high * (1 + 1e-9) + 1e-9 for tick in axis.ticks if axis.log)
    assert list(axis.ticks) == sorted(set(axis.ticks))


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12, unique_by=lambda p: round(p[0], 3))
)
def test_a_curve_is_read_as_it_is_drawn(points: list[tuple[float, float]]) -> None:
    xs, ys = (tuple(values) for values in zip(*sorted(points), strict=True))
    series = Series("s", xs, ys, "a")
    drawn = plot("lines", "linear", "linear", series)
    for x in np.linspace(xs[0], xs[-1], 9)[:-1]:
        expected = np.interp(x, xs, ys)
        assert drawn.read(series, float(x)) == pytest.approx(expected, abs=1e-9)
    assert drawn.read(series, xs[-1]) == ys[-1]
    assert drawn.read(series, xs[-1] + 1) is None
    assert drawn.read(series, xs[0] - 1) is None


def test_on_logarithmic_axes_a_curve_is_read_between_the_logarithms() -> None:
    series = Series("s", (1e-4, 1e-2, 1e-1), (0.1, 0.001, 0.0), "a")
    drawn = plot("det", "log", "log", series)
    assert drawn.read(series, 1e-3) == pytest.approx(0.01)
    assert drawn.read(series, 0.09) == 0.0  # a line that falls off the axis: the nearer point


def test_the_bars_of_a_histogram_stand_around_their_points() -> None:
    drawn = plot("histogram", "linear", "linear", Series("s", (0.0, 1.0, 2.0), (0.2, 0.5, 0.3)))
    assert (drawn.x.low, drawn.x.high) == (-0.5, 2.5)
    card = chart_card(drawn.chart, {})
    (outline,) = re.findall(r'class="curve s0 d0" d="(M[^"]*)"', card)
    assert [float(x) for x in re.findall(r"H([\d.]+)", outline)] == pytest.approx([33.33, 66.67, 100], abs=0.01)
    heights = [100 - float(y) for y in re.findall(r"V([\d.]+)", outline)]
    assert heights == pytest.approx([40, 100, 60], abs=0.01)


def test_the_picture_is_where_its_values_are() -> None:
    series = Series("s", (0.001, 0.01, 1.0), (0.5, 0.75, 1.0), "a")
    card = chart_card(plot("roc", "log", "linear", series).chart, {"a": 0})
    (path,) = re.findall(r'class="curve s0 d0" d="M([^"]*)"', card)
    axis = PlotAxis.holding(ChartAxis("y", percent=True), series.y)
    places = [tuple(map(float, point.split(","))) for point in path.split("L")]
    assert [x for x, _ in places] == pytest.approx([0, 100 / 3, 100], abs=0.01)
    assert [axis.value(100 - y) for _, y in places] == pytest.approx(series.y, abs=1e-4)


def test_systems_keep_their_colour_and_references_stand_back() -> None:
    ab = (Series("b", (0, 1), (0, 1), "b"), Series("r", (0, 1), (0, 1)))
    assert plot("roc", "linear", "linear", *ab).styles == ("s1 d1", "reference")
    same = tuple(Series(str(n), (0, 1), (0, 1), "a") for n in range(8))
    styles = plot("edc", "linear", "linear", *same).styles
    assert styles[:2] == ("s0 d0", "s1 d1")
    assert len(set(styles)) == 8


def test_a_chart_without_points_says_so() -> None:
    chart = Chart("roc", "t", "", ChartAxis("x"), ChartAxis("y"), (Series("s", (), ()),))
    assert "No points to draw" in chart_card(chart, {})
    mixed = replace(chart, series=(Series("none", (), ()), Series("one", (1.0,), (2.0,))))
    card = chart_card(mixed, {})
    assert card.count('class="series"') == 2
    assert card.count("<path") == 2


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def colours(scheme: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("style.css", "evaluation.css"):
        style = resources.files("probface.report").joinpath(name).read_text(encoding="utf-8")
        blocks = re.findall(r":root \{(.*?)\}", style, re.S)[: 1 if scheme == "light" else 2]
        found.update(pair for block in blocks for pair in re.findall(r"--(\w+): #(\w{6});", block))
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_from_the_ground(scheme: str) -> None:
    """WCAG 2.2, contrast: 4.5 for text, 3 for the lines of a drawing."""
    named = colours(scheme)
    assert len(named) == 10 + 8

    def contrast(a: str, b: str) -> float:
        darker, lighter = sorted((luminance(named[a]), luminance(named[b])))
        return (lighter + 0.05) / (darker + 0.05)

    for text in ("ink", "soft", "accent", "impostor", "genuine", "edge"):
        assert contrast(text, "card") >= 4.5, text
    assert min(contrast(a, b) for a, b in (("ink", "mark"), ("soft", "ground"), ("accent", "ground"))) >= 4.5
    assert min(contrast(f"s{place}", "card") for place in range(6)) >= 3


MACHADO = {  # Machado, Oliveira, Fernandes 2009, full severity, linear RGB
    "normal": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                        [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip


@pytest.mark.parametrize("sight", MACHADO)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_colours_can_be_told_apart(scheme: str, sight: str) -> None:
    """Distance in CIELAB; dashes tell curves apart besides."""
    named = colours(scheme)

    def lab(name: str) -> np.ndarray:
        rgb = np.clip(MACHADO[sight] @ linear(named[name]), 0, 1)
        matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
        xyz = (np.array(matrix) @ rgb) / [0.9505, 1.0, 1.089]
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    distances = {
        (a, b): float(np.linalg.norm(lab(f"s{a}") - lab(f"s{b}"))) for a, b in itertools.combinations(range(4), 2)
    }
    assert min(distances.values()) >= 10, distances
