"""Figures of an evaluation in the words of its page: as many digits as their intervals allow, and no more."""

from __future__ import annotations

import math
from typing import Literal

from probface.eval.results import INSUFFICIENT, Figure
from probface.report.wording import shown

Standing = Literal["better", "worse", "different", "open"]
"""What a difference or a ratio says: ``open`` where its interval holds 0, or 1 for a ratio."""

SPACE = "\u00a0"
"""Between a number and its unit, where no line may break."""

_POINTS = {name: name.upper() for name in ("fmr", "fnmr", "tmr", "fpir", "fnir")}
_RATES = {*_POINTS, "rejected", "discarded"}


def reading(value: float, percent: bool) -> str:
    """A number read off a chart; the script of the page writes the same.

    Args:
        value: a share where ``percent``, shown to three digits of what it lacks to 0 or 100; else any number, to four.
        percent: whether the value is a share, to be shown in percent.
    """
    scaled = 100 * value if percent else value
    room = min(abs(scaled), abs(100 - scaled)) if percent else abs(scaled)
    digits = (2 if percent else 3) - math.floor(math.log10(room)) if room > 0 else 0
    text = f"{scaled:,.{min(9, max(0, digits))}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return _minus("0" if text == "-0" else text) + (f"{SPACE}%" if percent else "")


def fine_share(share: float) -> str:
    """A share in percent with two decimals, or as many as tell it from 0 and 100."""
    return f"{100 * share:.{max(2, _places(100 * min(share, 1 - share), 1))}f}{SPACE}%"


def signed(score: float, digits: int) -> str:
    """A score with a true minus sign."""
    return _minus(f"{score:.{digits}f}")


def operating_point(at: dict[str, float], by: str = "") -> str:
    """Where a figure was taken: ``FMR 0.1 %, 20 % rejected, by sigma``; as HTML."""
    words = [_point(name, value) for name, value in at.items()]
    return ", ".join([*words, shown(by)] if by else words)


def value_with_interval(figure: Figure) -> str:
    """The number, its interval in brackets, and its note below; as HTML."""
    if figure.value is None:
        return absent(figure.note)
    digits = _digits(figure)
    sign = "+" if figure.relation == "difference" else ""
    text = f'<span class="number">{_number(figure.value, figure, digits, sign)}{_unit(figure)}</span>'
    if figure.low is not None or figure.high is not None:
        ends = ", ".join(
            "\u2013" if end is None else _number(end, figure, digits, sign) for end in (figure.low, figure.high)
        )
        text += f' <span class="interval">[{ends}]</span>'
    return text + (f'<span class="remark">{shown(figure.note)}</span>' if figure.note else "")


def absent(note: str) -> str:
    """Why there is no number; "insufficient data" is set off from the reason. As HTML."""
    if not note.startswith(INSUFFICIENT):
        return f'<span class="remark">{shown(note)}</span>'
    rest = note.removeprefix(INSUFFICIENT).lstrip(" :;,.-(").removesuffix(")")
    reason = f'<span class="remark">{shown(rest)}</span>' if rest else ""
    return f'<span class="insufficient">{INSUFFICIENT}</span> {reason}'


def standing(figure: Figure) -> Standing | None:
    """What a difference or ratio says; None for a plain value, or without an interval."""
    if figure.relation == "value" or figure.value is None or figure.low is None or figure.high is None:
        return None
    neutral = 0.0 if figure.relation == "difference" else 1.0
    if figure.low <= neutral <= figure.high:
        return "open"
    if figure.better is None:
        return "different"
    return "better" if (figure.low > neutral) is (figure.better == "higher") else "worse"


def _point(name: str, value: float) -> str:
    label = _POINTS.get(name)
    if label:
        return f"{label}{SPACE}{reading(value, percent=True)}"
    if name in _RATES:
        return f"{reading(value, percent=True)} {name}"
    if name == "gallery":
        return f"{reading(value, percent=False)} enrolled"
    return f"{shown(name.replace('_', ' '))}{SPACE}{reading(value, percent=False)}"


def _scale(figure: Figure) -> float:
    return 100.0 if figure.unit == "share" and figure.relation != "ratio" else 1.0


def _digits(figure: Figure) -> int:
    """Two digits of the interval's width; without one, two of what the value lacks to the nearest end of its range."""
    value = figure.value or 0.0
    if figure.unit == "count" and figure.relation != "ratio":
        return 0 if value == round(value) else 1
    if figure.low is not None and figure.high is not None and figure.high > figure.low:
        return _places(_scale(figure) * (figure.high - figure.low), 1)
    if figure.relation == "ratio":
        return 2
    if figure.unit == "share":
        rest = min(abs(value), abs(1 - value)) if figure.relation == "value" else abs(value)
        return max(1, _places(100 * rest, 1))
    return _places(value, 2 if figure.unit == "bits" else 3)


def _places(size: float, digits: int) -> int:
    """Decimals that show so many digits after the first of a number of this size."""
    return min(7, max(0, digits - math.floor(math.log10(abs(size))))) if size else 2


def _number(value: float, figure: Figure, digits: int, sign: str) -> str:
    text = f"{_scale(figure) * value:{sign},.{digits}f}"
    return _minus(text)


def _unit(figure: Figure) -> str:
    if figure.relation == "ratio":
        return f"{SPACE}×"
    if figure.unit == "share":
        return f"{SPACE}%" if figure.relation == "value" else f"{SPACE}points"
    return f"{SPACE}bits" if figure.unit == "bits" else ""


def _minus(text: str) -> str:
    return text.replace("-", "−")
