"""Judge systems by comparisons: everything that a report of one-to-one comparison holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from probface.errors import InvalidValue
from probface.eval.candidate import Candidate
from probface.eval.comparisons import Comparisons
from probface.eval.results import INSUFFICIENT, LadderFace, MeasuredThreshold, Section, System, WorstError
from probface.eval.verification.calibration import calibration_section
from probface.eval.verification.compared import Rated, compared_section
from probface.eval.verification.discard import discard_section
from probface.eval.verification.errors import worst_errors
from probface.eval.verification.groups import group_section
from probface.eval.verification.ladder import quality_ladder
from probface.eval.verification.operating_points import verification_section
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.risk_control import risk_section
from probface.eval.verification.thresholds import Decision, decision, threshold_table
from probface.eval.verification.trial import Selections, Trial

Decided: TypeAlias = list[tuple[Trial, Decision]]
"""The trials that there are impostors enough for a threshold of, with it."""
STEPS = 8
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the step that is done, how many are, and how many there are."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The parts of :class:`probface.eval.results.Results` that comparisons give; fields as there."""

    systems: tuple[System, ...]
    sections: tuple[Section, ...]
    thresholds: tuple[MeasuredThreshold, ...]
    ladder: tuple[LadderFace, ...]
    errors: tuple[WorstError, ...]
    notes: tuple[str, ...]


def judge(
    candidates: Sequence[Candidate],
    comparisons: Comparisons,
    options: JudgeOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Judgement:
    """Judge systems by the same comparisons.

    A candidate is not judged by comparisons with people who trained its head; where that leaves systems with different
    comparisons, they are compared on those that both have. The same arguments give the same judgement.

    Args:
        candidates: one or more; the first is the one that the others are compared with.
        comparisons: pairs of images, of both kinds.
        options: see there.
        progress: called after each step.

    Raises:
        DataError: an image is not among a candidate's faces, a label contradicts the subjects, or the people who
            trained a head leave no comparison of one kind.
        InvalidValue: no candidate, two of one key, a score that is not finite, or FastMLS of D variances.
    """
    options = options or JudgeOptions()
    keys = [candidate.system.key for candidate in candidates]
    if not keys or len(set(keys)) < len(keys):
        raise InvalidValue(f"candidates {keys}: need one or more, each with a key of its own")
    steps = _Steps(progress)
    selections = Selections(comparisons)
    trials = [Trial.of(one, selections.without(one.trained, one.system.label)) for one in candidates]
    steps.done("scores")
    decided = _decided(trials, options)
    thresholds = tuple(row for trial in trials for row in threshold_table(trial, options))
    steps.done("thresholds")
    unbiased, biased = _unbiased(trials, selections)
    apart = _decided(unbiased, options)
    sections = _sections(trials, unbiased, apart, selections, options, steps)
    groups, left_out = group_section(decided, options.groups, options) if options.groups is not None else (None, ())
    steps.done("groups")
    ladders = (quality_ladder(trial, options) for trial in unbiased if trial.tells_uncertainty)
    return Judgement(
        systems=tuple(trial.system for trial in trials),
        sections=tuple(section for section in (*sections, groups) if section is not None and section.figures),
        thresholds=thresholds,
        ladder=next(ladders, ()),
        errors=tuple(error for trial, taken in decided for error in worst_errors(trial, taken, options.worst)),
        notes=(
            *_people_notes(trials),
            *_threshold_notes(trials, decided, unbiased, apart, options),
            *dict.fromkeys(map(_drawn, trials)),
            *biased,
            *left_out,
        ),
    )


def _sections(
    trials: list[Trial],
    unbiased: list[Trial],
    apart: Decided,
    selections: Selections,
    options: JudgeOptions,
    steps: _Steps,
) -> list[Section]:
    """All but groups; ``unbiased`` are the trials for what sigma^2 decides, ``apart`` those of them with thresholds."""
    rated = [Rated.of(trial, options) for trial in trials]
    sections = [verification_section(trials, [one.rates for one in rated], options)]
    steps.done("error rates")
    sections.append(compared_section(rated, selections, options))
    steps.done("differences")
    sections.append(discard_section(apart, options))
    steps.done("error versus discard")
    sections.append(risk_section(unbiased, options))
    steps.done("risk control")
    sections.append(calibration_section(trials, options))
    steps.done("likelihood ratios")
    return sections


def _decided(trials: list[Trial], options: JudgeOptions) -> Decided:
    return [(trial, taken) for trial in trials if (taken := decision(trial, options)) is not None]


def _unbiased(trials: list[Trial], selections: Selections) -> tuple[list[Trial], list[str]]:
    """The trials for what sigma^2 decides: nobody is in them who trained the head that gave it. And notes on that.

    Where nothing is left without these people, a system takes no part.
    """
    found, notes = [], []
    for trial in trials:
        one = trial.candidate
        genuine, impostor = selections.counts(one.trained | one.taught)
        if not (genuine and impostor):
            notes.append(
                f"{trial.label}: without people who trained the head {genuine:,} genuine and {impostor:,} impostor "
                "comparisons are left, so nothing is set aside by its sigma^2."
            )
            continue
        selection = selections.without(one.trained | one.taught, trial.label)
        if selection is trial.selection:
            found.append(trial)
            continue
        found.append(Trial.of(one, selection))
        left_out = selection.left_out - trial.selection.left_out
        notes.append(
            f"{trial.label}: where comparisons are set aside by sigma^2, {left_out:,} with people who trained the head "
            "are left out, so that the rates before anything is set aside are of the others."
        )
    return found, notes


class _Steps:
    """Counts steps aloud."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._done = progress, 0

    def done(self, step: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(f"judging: {step}", self._done, STEPS)


def _people_notes(trials: list[Trial]) -> Iterator[str]:
    for trial in trials:
        if trial.selection.left_out:
            yield (
                f"{trial.label}: {trial.selection.left_out:,} comparisons with people who trained the uncertainty head "
                f"are left out; it is judged by {trial.genuine:,} genuine and {trial.impostor:,} impostor ones."
            )
        if not trial.tells_uncertainty:
            yield f"{trial.label}: sigma^2 is the same for every image, so nothing can be set aside by it."


def _threshold_notes(
    trials: list[Trial], decided: Decided, unbiased: list[Trial], apart: Decided, options: JudgeOptions
) -> Iterator[str]:
    """Where a part stands at another rate than was asked for, or is missing for want of impostors."""
    rates, rates_apart = ({trial.key: taken.fmr for trial, taken in some} for some in (decided, apart))
    others = {trial.key: trial for trial in unbiased}
    for trial in trials:
        other = others.get(trial.key)
        if other is trial:
            yield from _threshold_note(
                trial, rates.get(trial.key), "error versus discard, groups and worst errors", options
            )
            continue
        yield from _threshold_note(trial, rates.get(trial.key), "groups and worst errors", options)
        if other is not None:
            yield from _threshold_note(other, rates_apart.get(trial.key), "error versus discard", options)


def _threshold_note(trial: Trial, fmr: float | None, parts: str, options: JudgeOptions) -> Iterator[str]:
    if fmr is None:
        yield (
            f"{trial.label}: {INSUFFICIENT} for a threshold at FMR {options.fmr:g} or above, with "
            f"{trial.impostor:,} impostor comparisons: left out are {parts}."
        )
    elif fmr != options.fmr:
        yield (
            f"{trial.label}: {trial.impostor:,} impostor comparisons are too few for FMR {options.fmr:g}; "
            f"the threshold of {parts} is at FMR {fmr:g}."
        )


def _drawn(trial: Trial) -> str:
    if trial.draws.single:
        return "Intervals resample comparisons: no subject is known to be in two of them."
    return (
        "Intervals resample subjects, not comparisons; they are up to 1.7 times too wide where people have few "
        "comparisons each or errors are very rare."
    )
