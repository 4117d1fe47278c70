"""TMR at false-match rates, EER and accuracy."""

from __future__ import annotations

import numpy as np

from probface.errors import InsufficientData
from probface.eval.metrics.weighted import EqualErrorRate, TmrAtFmr
from probface.eval.results import Section
from probface.eval.verification.accuracy import accuracy
from probface.eval.verification.curves import verification_charts
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import Rate, column, figure, insufficient
from probface.eval.verification.trial import Trial
from probface.score.calibration import require_impostors

TEXT = (
    "Match when the score is above the threshold. TMR at a false-match rate is the share of genuine comparisons that "
    "match at the threshold which at most that share of impostors passes; EER is where the two kinds of error are "
    "equally frequent."
)


def affordable(impostors: int, fmrs: tuple[float, ...]) -> tuple[float, ...]:
    """The rates that there are at least 10 / FMR impostors for."""
    return tuple(fmr for fmr in fmrs if not shortage(impostors, fmr))


def shortage(impostors: int, fmr: float) -> str:
    """Why a rate cannot be measured; empty where it can."""
    try:
        require_impostors(impostors, fmr)
    except InsufficientData as error:
        return insufficient(error)
    return ""


def rates(trial: Trial, options: JudgeOptions) -> list[Rate]:
    """TMR at each rate, EER and accuracy of a system."""
    genuine, person = trial.genuine_scores, trial.genuine_person
    fmrs = affordable(trial.impostor, options.fmrs)
    found = []
    if fmrs:
        tmr = trial.draws.resample(TmrAtFmr(genuine, person, trial.impostors, np.array(fmrs)), options)
        found = [column(tmr, place) for place in range(len(fmrs))]
    rows = [Rate("TMR", one, {"fmr": fmr}, better="higher") for fmr, one in zip(fmrs, found, strict=True)]
    rows += [
        Rate("TMR", None, {"fmr": fmr}, better="higher", note=shortage(trial.impostor, fmr))
        for fmr in options.fmrs
        if fmr not in fmrs
    ]
    eer = trial.draws.resample(EqualErrorRate(genuine, person, trial.impostors), options)
    return [*rows, Rate("EER", eer, better="lower"), accuracy(trial, options)]


def verification_section(trials: list[Trial], found: list[list[Rate]], options: JudgeOptions) -> Section:
    """Each system on all comparisons that are its to be judged by; ``found`` has the rates of each."""
    figures = [figure(trial, rate, options) for trial, rates in zip(trials, found, strict=True) for rate in rates]
    return Section("Verification", TEXT, tuple(figures), verification_charts(trials))
