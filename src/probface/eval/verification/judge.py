"""Judge systems by comparisons: everything that a report of one-to-one comparison holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from probface.errors import DataError, InvalidValue
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
    sections = _sections(trials, unbiased, selections, options, steps)
    groups, left_out = group_section(decided, options.groups, options) if options.groups is not None else (None, ())
    steps.done("groups")
    ladders = (quality_ladder(trial, options) for trial in unbiased if trial.tells_uncertainty)
    return Judgement(
        systems=tuple(trial.system for trial in trials),
        sections=tuple(section for section in (*sections, groups) if section is not None and section.figures),
        thresholds=thresholds,
        ladder=next(ladders, ()),
        errors=tuple(error for trial, taken in decided for error in worst_errors(trial, taken, options.worst)),
        notes=(*_notes(trials, decided, options), *biased, *left_out),
    )


def _sections(
    trials: list[Trial],
    unbiased: list[Trial],
    selections: Selections,
    options: JudgeOptions,
    steps: _Steps,
) -> list[Section]:
    """All but groups; ``unbiased`` are the trials for what sigma^2 decides."""
    rated = [Rated.of(trial, options) for trial in trials]
    sections = [verification_section(trials, [one.rates for one in rated], options)]
    steps.done("error rates")
    sections.append(compared_section(rated, selections, options))
    steps.done("differences")
    sections.append(discard_section(_decided(unbiased, options), options))
    steps.done("error versus discard")
    sections.append(risk_section(unbiased, options))
    steps.done("risk control")
    sections.append(calibration_section(trials, options))
    steps.done("likelihood ratios")
    return sections


def _decided(trials: list[Trial], options: JudgeOptions) -> list[tuple[Trial, Decision]]:
    return [(trial, taken) for trial in trials if (taken := decision(trial, options)) is not None]


def _unbiased(trials: list[Trial], selections: Selections) -> tuple[list[Trial], list[str]]:
    """The trials for what sigma^2 decides: nobody is in them who trained the head that gave it. And notes on that.

    Where nothing is left without these people, a system takes no part.
    """
    found, notes = [], []
    for trial in trials:
        one = trial.candidate
        try:
            selection = selections.without(one.trained | one.taught, trial.label)
        except DataError:
            notes.append(f"{trial.label}: all these people trained the head, so nothing is set aside by its sigma^2.")
            continue
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


def _notes(trials: list[Trial], decided: list[tuple[Trial, Decision]], options: JudgeOptions) -> Iterator[str]:
    for trial in trials:
        if trial.selection.left_out:
            yield (
                f"{trial.label}: {trial.selection.left_out:,} comparisons with people who trained the uncertainty head "
                f"are left out; it is judged by {trial.genuine:,} genuine and {trial.impostor:,} impostor ones."
            )
        if not trial.tells_uncertainty:
            yield f"{trial.label}: sigma^2 is the same for every image, so nothing can be set aside by it."
    by_key = {trial.key: taken.fmr for trial, taken in decided}
    for trial in trials:
        fmr = by_key.get(trial.key)
        if fmr is None:
            yield (
                f"{trial.label}: {INSUFFICIENT} for a threshold at FMR {options.fmr:g} or above, with "
                f"{trial.impostor:,} impostor comparisons: no error versus discard, groups or worst errors."
            )
        elif fmr != options.fmr:
            yield (
                f"{trial.label}: {trial.impostor:,} impostor comparisons are too few for FMR {options.fmr:g}; error "
                f"versus discard, groups and the worst errors use the threshold at FMR {fmr:g}."
            )
    yield from dict.fromkeys(map(_drawn, trials))


def _drawn(trial: Trial) -> str:
    if trial.draws.single:
        return "Intervals resample comparisons: no subject is known to be in two of them."
    return "Intervals resample subjects, not comparisons."
