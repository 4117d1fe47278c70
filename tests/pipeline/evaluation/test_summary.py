from __future__ import annotations

import pytest

from probface.eval.results import Figure, Section, System
from probface.pipeline.evaluation.summary import summary

COSINE, FAST, OTHER = (
    System(key, label, "m", "", metric)  # type: ignore[arg-type]
    for key, label, metric in (("c", "cosine", "cosine"), ("f", "FastMLS", "fastmls"), ("o", "other", "fastmls"))
)


def tmr(system: System, value: float | None, fmr: float = 1e-3) -> Figure:
    return Figure("TMR", system.key, value, at={"fmr": fmr}, note="" if value is not None else "insufficient data")


def more(value: float, low: float, high: float, system: System = FAST) -> Figure:
    return Figure("TMR", system.key, value, low, high, {"fmr": 1e-3}, relation="difference", against="c")


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (more(0.02, 0.01, 0.03), "2.00 points [1.00, 3.00] more than cosine."),
        (more(-0.02, -0.03, -0.01), "2.00 points [1.00, 3.00] fewer than cosine."),
        (more(-0.02, -0.03, 0.01), "2.00 points [-1.00, 3.00] fewer than cosine; the interval holds 0"),
        (more(0.02, -0.01, 0.03), "2.00 points [-1.00, 3.00] more than cosine; the interval holds 0"),
        (more(0.0, 0.0, 0.0), "0.00 points [0.00, 0.00] more than cosine; the interval holds 0"),
    ],
)
def test_an_interval_has_the_sign_of_its_sentence(difference: Figure, words: str) -> None:
    found = summary((COSINE, FAST), (Section("s", figures=(tmr(COSINE, 0.9), tmr(FAST, 0.92), difference)),))
    assert found[0] == "At a false-match rate of 1 in 1,000, FastMLS recognises 92.0 % of the genuine comparisons."
    assert words in found[1]


def test_every_model_has_its_sentence() -> None:
    figures = (tmr(FAST, 0.9), tmr(OTHER, 0.8, 1e-2), more(0.02, 0.01, 0.03))
    found = summary((COSINE, FAST, OTHER), (Section("s", figures=figures),))
    assert "FastMLS recognises" in found[0]
    assert "other recognises" in found[2]
    assert "1 in 100," in found[2]


def test_where_only_cosine_has_a_figure_it_is_told() -> None:
    found = summary((COSINE, FAST), (Section("s", figures=(tmr(COSINE, 0.9), tmr(FAST, None))),))
    assert found == ("At a false-match rate of 1 in 1,000, cosine recognises 90.0 % of the genuine comparisons.",)


def test_where_nothing_can_be_told_that_is_told() -> None:
    (only,) = summary((COSINE,), (Section("s", figures=(tmr(COSINE, None),)),))
    assert "insufficient data" in only


def test_a_common_rate_is_not_one_in_one() -> None:
    (only,) = summary((COSINE,), (Section("s", figures=(tmr(COSINE, 0.9, 0.7),)),))
    assert "1 in 1.4," in only
