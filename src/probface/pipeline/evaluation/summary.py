"""The few sentences that an evaluation comes down to, made from its figures."""

from __future__ import annotations

from collections.abc import Sequence

from probface.eval.results import INSUFFICIENT, Figure, Section, System

FAVOURITE_FMR = 1e-3
"""The rate that a summary speaks of, or the nearest larger one that was measured."""


def summary(systems: Sequence[System], sections: Sequence[Section]) -> tuple[str, ...]:
    """Plain sentences: what each system that is not cosine reaches, and what it has more or less than others.

    Where only cosine has a figure it is cosine's; where none has, the one sentence says that.
    """
    figures = [figure for section in sections for figure in section.figures]
    labels = {system.key: system.label for system in systems}
    telling = [system for system in systems if system.metric != "cosine"] or list(systems)
    found = [one for system in telling if (one := _favourite(figures, system.key)) is not None]
    if not found:
        found = [one for system in systems if (one := _favourite(figures, system.key)) is not None][:1]
    sentences = []
    for main in found:
        sentences.append(
            f"At a false-match rate of {_one_in(main.at['fmr'])}, {labels[main.system]} recognises "
            f"{_percent(main)} of the genuine comparisons."
        )
        sentences += [_compared(one, labels) for one in _differences(figures, main)]
    if not sentences:
        return (f"There is {INSUFFICIENT} for a true-match rate; the tables say what is missing.",)
    return tuple(dict.fromkeys(sentences))


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
    side = 1 if value >= 0 else -1  # told as how many more, or how many fewer
    words = f"On the same comparisons {labels[one.system]} recognises {100 * side * value:.2f} points"
    rest = f"{'more' if side > 0 else 'fewer'} than {labels[one.against or '']}"
    if one.low is None or one.high is None:
        return f"{words} {rest}."
    low, high = sorted((100 * side * one.low, 100 * side * one.high))
    sure = "" if one.low > 0 or one.high < 0 else "; the interval holds 0, so this may be chance"
    return f"{words} [{low:.2f}, {high:.2f}] {rest}{sure}."


def _percent(figure: Figure) -> str:
    value = f"{100 * (figure.value or 0.0):.1f} %"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _one_in(rate: float) -> str:
    many = 1 / rate
    return f"1 in {round(many):,}" if many >= 10 or abs(many - round(many)) < 1e-9 else f"1 in {many:.1f}"
