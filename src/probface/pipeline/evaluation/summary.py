"""The few sentences that an evaluation comes down to, made from its figures."""

from __future__ import annotations

from collections.abc import Sequence

from probface.eval.results import Figure, Section, System

FAVOURITE_FMR = 1e-3
"""The rate that a summary speaks of, or the nearest larger one that was measured."""


def summary(systems: Sequence[System], sections: Sequence[Section]) -> tuple[str, ...]:
    """Plain sentences on the first system that is not cosine, and on what it has more or less than others."""
    figures = [figure for section in sections for figure in section.figures]
    labels = {system.key: system.label for system in systems}
    sentences = []
    foremost = next((system for system in systems if system.metric != "cosine"), systems[0])
    main = _favourite(figures, foremost.key)
    if main is not None:
        sentences.append(
            f"At a false-match rate of {_one_in(main.at['fmr'])}, {labels[main.system]} recognises "
            f"{_percent(main)} of the genuine comparisons."
        )
        sentences += [_compared(one, labels) for one in _differences(figures, main)]
    return tuple(sentences)


def _favourite(figures: Sequence[Figure], system: str) -> Figure | None:
    rates = [
        one
        for one in figures
        if one.name == "TMR"
        and one.relation == "value"
        and one.system == system
        and one.value is not None
        and "fmr" in one.at
        and not one.by
    ]
    enough = [one for one in rates if one.at["fmr"] >= FAVOURITE_FMR]
    return min(enough, key=lambda one: one.at["fmr"]) if enough else None


def _differences(figures: Sequence[Figure], main: Figure) -> list[Figure]:
    return [
        one
        for one in figures
        if one.name == "TMR"
        and one.relation == "difference"
        and one.at == main.at
        and one.value is not None
        and main.system in (one.system, one.against)
    ]


def _compared(one: Figure, labels: dict[str, str]) -> str:
    value = one.value or 0.0
    more = "more" if value >= 0 else "fewer"
    if one.low is None or one.high is None:
        return (
            f"On the same comparisons {labels[one.system]} recognises {abs(100 * value):.2f} points {more} than "
            f"{labels[one.against or '']}."
        )
    low, high = one.low, one.high
    sure = "" if low > 0 or high < 0 else "; the interval holds 0, so this may be chance"
    ends = sorted((abs(100 * low), abs(100 * high))) if low * high > 0 else (100 * low, 100 * high)
    return (
        f"On the same comparisons {labels[one.system]} recognises {abs(100 * value):.2f} points [{ends[0]:.2f}, "
        f"{ends[1]:.2f}] {more} than {labels[one.against or '']}{sure}."
    )


def _percent(figure: Figure) -> str:
    value = f"{100 * (figure.value or 0.0):.1f} %"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _one_in(rate: float) -> str:
    return f"1 in {round(1 / rate):,}"
