import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.eval.results import Figure
from probface.report.evaluation_wording import fine_share, operating_point, reading, standing, value_with_interval


@pytest.mark.parametrize(
    ("better", "relation", "low", "high", "says"),
    [
        ("higher", "difference", 0.01, 0.03, "better"),
        ("higher", "difference", -0.03, -0.01, "worse"),
        ("lower", "difference", -0.03, -0.01, "better"),
        ("lower", "ratio", 0.7, 0.9, "better"),
        ("higher", "ratio", 0.7, 0.9, "worse"),
        ("lower", "ratio", 0.9, 1.1, "open"),
        ("higher", "difference", 0.0, 0.03, "open"),
        (None, "difference", 0.01, 0.03, "different"),
        ("higher", "value", 0.01, 0.03, None),
        ("higher", "difference", None, None, None),
    ],
)
def test_a_difference_is_marked_by_its_interval(better, relation, low, high, says) -> None:
    against = None if relation == "value" else "b"
    figure = Figure("x", "a", 0.02, low, high, better=better, relation=relation, against=against)
    assert standing(figure) == says


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure("x", "a", 0.99383, 0.9921, 0.9953), "99.38 % [99.21, 99.53]"),
        (Figure("x", "a", 0.52, 0.45, 0.59), "52 % [45, 59]"),
        (Figure("x", "a", 0.99998), "99.9980 %"),
        (Figure("x", "a", 0.0), "0.00 %"),
        (Figure("x", "a", 0.0123, -0.002, 0.03, relation="difference", against="b"), "+1.2 points [−0.2, +3.0]"),
        (Figure("x", "a", 0.5, 0.31, 0.72, relation="ratio", against="b"), "0.50 × [0.31, 0.72]"),
        (Figure("x", "a", -0.77123, unit="score"), "−0.7712"),
        (Figure("x", "a", 12345.0, unit="count"), "12,345"),
        (Figure("x", "a", 0.0412, 0.036, 0.046, unit="bits"), "0.041 bits [0.036, 0.046]"),
        (Figure("x", "a", None, note="insufficient data: 5 of 10"), "insufficient data 5 of 10"),
        (Figure("x", "a", None, note="no such image"), "no such image"),
    ],
)
def test_a_figure_has_the_digits_that_its_interval_allows(figure: Figure, text: str) -> None:
    assert re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", value_with_interval(figure))).strip() == text


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [
        (1e-5, True, "0.001 %"), (0.9938, True, "99.38 %"), (0.99998, True, "99.998 %"), (0.0, True, "0 %"),
        (1.0, True, "100 %"), (1e6, False, "1,000,000"), (-2.5, False, "−2.5"), (0.123456, False, "0.1235"),
        (-1e-12, False, "0"), (-0.125, True, "−12.5 %"),
    ],
)  # fmt: skip
def test_a_reading(value: float, percent: bool, text: str) -> None:
    assert reading(value, percent).replace("\u00a0", " ") == text


@given(st.floats(0, 1))
def test_a_share_that_is_not_all_is_not_told_as_all(share: float) -> None:
    told = float(fine_share(share).split("\u00a0")[0])
    assert told == pytest.approx(100 * share, abs=0.005)
    assert (told == 100) is (share == 1) or 1 - share < 1e-9


def test_operating_points() -> None:
    at = {"fmr": 1e-3, "rejected": 0.2, "rank": 5.0, "gallery": 1e6, "mask_size": 3.0}
    told = operating_point(at, "dark & <small>").replace("\u00a0", " ")
    assert told == "FMR 0.1 %, 20 % rejected, rank 5, 1,000,000 enrolled, mask size 3, dark &amp; &lt;small&gt;"
