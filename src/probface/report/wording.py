"""Numbers and foreign text in the words of the comparison page."""

from __future__ import annotations

import math
from html import escape

from probface.types import Metric

METRIC_NAMES: dict[Metric, str] = {"fastmls": "FastMLS", "mls": "MLS", "cosine": "cosine"}


def shown(text: str) -> str:
    """Text that came from outside, as HTML that shows it and can do nothing else.

    What cannot be printed is written as its escape: a file name may hold bytes that are no UTF-8, line breaks, or marks
    that turn the direction of writing and so feign another name.
    """
    return escape("".join(letter if letter.isprintable() else _named(letter) for letter in text))


def one_in(rate: float) -> str:
    """A rate as the N of "1 in N", to three digits and never rarer than it is: ``1.0134e-3`` is ``986``."""
    if not 0 < rate <= 1:
        return "unknown"
    many = 1 / rate * (1 + 1e-9)  # 1 / 1e-5 falls short of 100,000
    unit = 10.0 ** (math.floor(math.log10(many)) - 2)
    return f"{math.floor(many / unit) * unit:,.{0 if many >= 100 else 1}f}".removesuffix(".0")


def percent(share: float) -> str:
    """A share in [0, 1] that was read off a histogram, no finer than the histogram knows it."""
    if share < 0.001:
        return "fewer than 0.1 %"
    if share > 0.999:
        return "more than 99.9 %"
    digits = 1 if min(share, 1 - share) < 0.1 else 0
    return f"about {100 * share:.{digits}f} %"


def facts(rows: list[tuple[str, str]]) -> str:
    """Terms and their values as a list; both are HTML already."""
    return "<dl>" + "".join(f"<dt>{term}</dt><dd>{value}</dd>" for term, value in rows) + "</dl>"


def _named(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
