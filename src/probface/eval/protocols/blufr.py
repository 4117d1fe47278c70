"""BLUFR: LFW at low false-match rates, and as open-set identification, over ten random halvings of its people.

Liao, Lei, Yi, Li, "A Benchmark Study of Large-scale Unconstrained Face Recognition", IJCB 2014. In each trial all pairs
of the test images are compared, 47 million; and the probes are searched in a gallery of 1,000 people with one image
each, about half of the probes showing people who are not enrolled. What the paper calls the verification rate at a FAR
is TMR at FMR here; its detection and identification rate (DIR) at a FAR is 1 - FNIR at FPIR. The paper reports mean
minus standard deviation.

The benchmark's MATLAB code takes the round(FAR x N)-th highest of N impostor scores as its threshold, and accepts what
is as high or higher. Here floor(FMR x N) impostors at most are above the threshold, and a match is above it: the same
number of impostors where FMR x N is whole and no score is tied, one fewer where MATLAB rounds up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.metrics.identification import Searches, fnir, threshold_at_fpir
from probface.eval.protocols.all_pairs import PairRates, all_pair_rates
from probface.match.matrix import score_blocks
from probface.readers.blufr import BlufrLists, BlufrTrial, Rows
from probface.types import Metric

FacesOfTrial: TypeAlias = Callable[[int], FaceTable]
"""Trial, from 0 -> the faces to judge it with, for a head that is trained anew on each trial's people."""


@dataclass(frozen=True, slots=True)
class BlufrOptions:
    """What is measured.

    Attributes:
        fmrs: for the verification rates.
        fpirs: for the identification rates.
        ranks: for the identification rates.
        allow_missing: leave out images that have no embedding, and count them. A person whose gallery image is
            missing leaves the identification, with all probes.
        threads: of the compiled code; 0 for all cores.
    """

    fmrs: tuple[float, ...] = (1e-3,)
    fpirs: tuple[float, ...] = (1e-2,)
    ranks: tuple[int, ...] = (1, 10)
    allow_missing: bool = False
    threads: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class OverTrials:
    """Figures over the trials.

    Attributes:
        mean: of each figure.
        standard_deviation: of the trials (divided by T - 1).
    """

    mean: NDArray[np.float64]
    standard_deviation: NDArray[np.float64]

    @property
    def reported(self) -> NDArray[np.float64]:
        """Mean minus standard deviation: what the paper compares by."""
        return self.mean - self.standard_deviation


@dataclass(frozen=True, slots=True, eq=False)
class BlufrResult:
    """Figures of T trials at K false-match rates, F false-positive rates and R ranks.

    Attributes:
        options: what was asked.
        tmr: (T, K) verification rates.
        thresholds: (T, K) at which they were measured.
        genuine, impostors: (T,) pairs compared.
        identified: (T, F, R) share of the mated probes whose mate is within the rank and above the threshold, DIR.
        search_thresholds: (T, F).
        mated, non_mated: (T,) probes searched.
        missing: (T,) images left out.
    """

    options: BlufrOptions
    tmr: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    genuine: NDArray[np.int64]
    impostors: NDArray[np.int64]
    identified: NDArray[np.float64]
    search_thresholds: NDArray[np.float64]
    mated: NDArray[np.int64]
    non_mated: NDArray[np.int64]
    missing: NDArray[np.int64]

    def verification(self) -> OverTrials:
        """(K,) verification rates over the trials.

        Raises:
            InvalidValue: fewer than two trials.
        """
        return over_trials(self.tmr)

    def identification(self) -> OverTrials:
        """(F, R) identification rates over the trials; raises as :meth:`verification`."""
        return over_trials(self.identified)


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    pairs: PairRates
    thresholds: list[float]
    identified: list[list[float]]
    searches: Searches
    missing: int


def over_trials(figures: NDArray[np.float64]) -> OverTrials:
    """Mean and standard deviation of (T, ...) figures.

    Raises:
        InvalidValue: fewer than two trials.
    """
    if len(figures) < 2:
        raise InvalidValue(f"{len(figures)} trials: need two or more for a standard deviation")
    return OverTrials(figures.mean(axis=0), figures.std(axis=0, ddof=1))


def judge_blufr(
    lists: BlufrLists,
    faces: FaceTable | FacesOfTrial,
    metric: Metric = "fastmls",
    options: BlufrOptions | None = None,
    *,
    trials: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> BlufrResult:
    """Run the protocol.

    Args:
        lists: of :func:`probface.readers.blufr.read_blufr`.
        faces: of all images; or a function that gives those of each trial.
        metric: the score.
        options: what to measure; the paper's figures, if not given.
        trials: which, from 0; all if not given.
        progress: called after each trial with the number of trials done since its last call.

    Raises:
        DataError: an image of a trial has no embedding, and missing ones were not allowed; or none is left.
        InsufficientData: fewer than 10 / FMR impostor pairs, or 10 / FPIR non-mated probes.
        InvalidValue: no such trial, a rate or rank out of range, or a metric that does not go with the faces.
    """
    options = options or BlufrOptions()
    chosen = range(len(lists.trials)) if trials is None else trials
    if not chosen or not all(0 <= number < len(lists.trials) for number in chosen):
        raise InvalidValue(f"trials {tuple(chosen)}: must be one or more of 0..{len(lists.trials) - 1}")
    results = []
    for number in chosen:
        table = faces if isinstance(faces, FaceTable) else faces(number)
        results.append(_judge_trial(lists, number, table, metric, options))
        if progress is not None:
            progress(1)
    shape = len(results), len(options.fpirs), len(options.ranks)  # also where no rate or rank was asked
    return BlufrResult(
        options,
        tmr=np.array([[point.tmr for point in result.pairs.points] for result in results]),
        thresholds=np.array([[point.threshold for point in result.pairs.points] for result in results]),
        genuine=np.array([result.pairs.genuine for result in results], np.int64),
        impostors=np.array([result.pairs.impostors for result in results], np.int64),
        identified=np.array([result.identified for result in results]).reshape(shape),
        search_thresholds=np.array([result.thresholds for result in results]),
        mated=np.array([len(result.searches.mate_score) for result in results], np.int64),
        non_mated=np.array([len(result.searches.top_score) for result in results], np.int64),
        missing=np.array([result.missing for result in results], np.int64),
    )


def without_images(trial: BlufrTrial, gone: NDArray[np.bool_], labels: NDArray[np.int64]) -> BlufrTrial:
    """A trial without some of the test images.

    People whose gallery image is gone leave the identification, with all their probes: they must not pass for
    strangers.

    Args:
        trial: the trial.
        gone: (N,) of all images of the lists.
        labels: (N,) the number of the person in each.
    """
    away = labels[trial.gallery[gone[trial.gallery]]]
    return replace(
        trial,
        test=trial.test[~gone[trial.test]],
        gallery=trial.gallery[~gone[trial.gallery]],
        probes=trial.probes[~gone[trial.probes] & ~np.isin(labels[trial.probes], away)],
    )


def _judge_trial(lists: BlufrLists, number: int, table: FaceTable, metric: Metric, options: BlufrOptions) -> _Trial:
    whole = trial = lists.trials[number]
    if options.allow_missing:  # else the table itself names what it lacks
        lost = set(table.missing([lists.names[row] for row in whole.test]))
        trial = without_images(whole, np.array([name in lost for name in lists.names]), lists.labels)
    if not len(trial.test):
        raise DataError(f"{len(whole.test)} test images: none has an embedding; embed LFW's images")
    rows = table.rows([lists.names[row] for row in trial.test])
    labels = lists.labels[trial.test]
    pairs = all_pair_rates(table.embeddings[rows], labels, options.fmrs, metric, threads=options.threads)
    if not (len(trial.gallery) and len(trial.probes)):
        raise DataError(f"trial {number + 1}: no gallery image or no probe has an embedding; embed LFW's images")
    searches = _search(lists, trial.gallery, trial.probes, table, metric, options.threads)
    thresholds = [threshold_at_fpir(searches, fpir) for fpir in options.fpirs]
    identified = [
        [1 - fnir(searches, rank=rank, threshold=threshold) for rank in options.ranks] for threshold in thresholds
    ]
    return _Trial(pairs, thresholds, identified, searches, len(whole.test) - len(trial.test))


def _search(lists: BlufrLists, gallery: Rows, probes: Rows, table: FaceTable, metric: Metric, threads: int) -> Searches:
    enrolled, searched = (
        table.embeddings[table.rows([lists.names[row] for row in rows])] for rows in (gallery, probes)
    )
    blocks = score_blocks(searched, enrolled, metric, threads=threads)
    return Searches.of((block for _, block in blocks), lists.labels[gallery], lists.labels[probes])
