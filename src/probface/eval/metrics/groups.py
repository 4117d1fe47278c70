"""Error rates of groups of subjects, at one threshold for all.

FMR of a group: of the comparisons of two different subjects who are both in it, the share that matches. FNMR of a
group: of its subjects' genuine comparisons, the share that does not. How far groups are apart, and what chance does to
such a figure: :mod:`probface.eval.metrics.differential`.

- A group has "insufficient data" instead of a rate where fewer than 10 errors would be expected at the rate of all
  comparisons together, or fewer than 10 of its subjects are compared. What is expected decides, not what is seen: a
  group with few errors because it is well recognised stays.
- Intervals resample subjects (:mod:`probface.eval.metrics.bootstrap`); the threshold stays.
- A label is what the data set says. A difference between groups may come from their pictures (light, age, camera) and
  from who was compared (families, one session), not from the people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from probface.errors import InvalidValue
from probface.eval.metrics.bootstrap import Interval, Resampled, Weights, ratio, resample
from probface.eval.metrics.differential import Differential, differential
from probface.eval.metrics.verification import Scores
from probface.score.calibration import EXPECTED_FALSE_MATCHES, finite_scores

Numbers = NDArray[np.integer]

FEWEST_SUBJECTS = 10
"""A resample of fewer subjects often leaves hardly anybody of a group."""


@dataclass(frozen=True, slots=True)
class GroupRate:
    """FMR or FNMR of one group.

    Attributes:
        group: its label.
        subjects: how many of it are in the comparisons.
        comparisons, errors: counted.
        rate: errors over comparisons; None where there are too few.
        note: why there is no rate, empty where there is one.
    """

    group: str
    subjects: int
    comparisons: int
    errors: int
    rate: Interval | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class GroupRates:
    """FMR or FNMR of all groups.

    Attributes:
        threshold: match when score > threshold.
        overall: the rate of all comparisons given, labelled or not, within groups or between.
        groups: in the order of their labels.
        differential: None where fewer than two groups have a rate.
        unlabelled: subjects without a label.
        left_out: comparisons with such a subject; they count in ``overall`` only.
    """

    threshold: float
    overall: float
    groups: tuple[GroupRate, ...]
    differential: Differential | None
    unlabelled: int
    left_out: int


@dataclass(frozen=True, slots=True, eq=False)
class CrossFmr:
    """False matches between K groups; all arrays are symmetric, within a group on the diagonal.

    Attributes:
        groups: (K,) labels, in order.
        comparisons, false_matches: (K, K) int64, a comparison of two groups counted in both places.
        fmr: (K, K) float64, NaN where fewer than 10 false matches would be expected at the rate of all comparisons.
    """

    groups: tuple[str, ...]
    comparisons: NDArray[np.int64]
    false_matches: NDArray[np.int64]
    fmr: NDArray[np.float64]


def group_fmr(
    impostor: Scores,
    first: Numbers,
    second: Numbers,
    labels: Sequence[str | None],
    threshold: float,
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> GroupRates:
    """FMR within each group.

    Args:
        impostor: (M,) finite scores of comparisons of different subjects.
        first: (M,) number of the one subject, 0 .. S - 1.
        second: (M,) number of the other.
        labels: (S,) group of each subject; empty or None: not known.
        threshold: match when score > threshold, for example :func:`threshold_at` of all the scores.
        resamples: how many; each takes time in the number of pairs of subjects who were compared.
        seed: of the resamples.
        confidence: of the intervals.

    Raises:
        InvalidValue: shapes differ, a score is not finite, a number without a label, a subject compared with itself,
            or fewer than two subjects.
    """
    people = len(labels)
    i, j, matched = _impostors(impostor, first, second, people, threshold)
    names, group = _groups(labels)
    within = (group[i] == group[j]) & (group[i] >= 0)
    # Between each two subjects; a comparison counts for its first subject's group, which is the second's, too.
    ones = np.ones(int(within.sum()), np.int64)
    compared = coo_array((ones, (i[within], j[within])), shape=(people, people)).tocsr()
    rows = within & matched
    wrong = coo_array((np.ones(int(rows.sum()), np.int64), (i[rows], j[rows])), shape=(people, people)).tocsr()

    def counts(weights: Weights) -> NDArray[np.float64]:
        return _by_group(group, len(names), weights * (wrong @ weights), weights * (compared @ weights))

    present = np.zeros(people, np.bool_)
    present[i[within]] = present[j[within]] = True
    counted = resample(counts, people, resamples=resamples, seed=seed)
    groups, between = _rates(names, _members(group, present, len(names)), counted, float(matched.mean()), confidence)
    left_out = int(((group[i] < 0) | (group[j] < 0)).sum())
    return GroupRates(threshold, float(matched.mean()), groups, between, int((group < 0).sum()), left_out)


def group_fnmr(
    genuine: Scores,
    subject: Numbers,
    labels: Sequence[str | None],
    threshold: float,
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> GroupRates:
    """FNMR of each group.

    Args:
        genuine: (G,) finite scores of comparisons of a subject with itself.
        subject: (G,) number of the subject, 0 .. S - 1.
        labels: (S,) group of each subject; empty or None: not known.
        threshold: match when score > threshold.
        resamples: how many.
        seed: of the resamples.
        confidence: of the intervals.

    Raises:
        InvalidValue: shapes differ, a score is not finite, a number without a label, or fewer than two subjects.
    """
    people = len(labels)
    rows = _numbers(subject, finite_scores(genuine, "genuine"), people)
    names, group = _groups(labels)
    missed = genuine <= threshold
    compared, wrong = np.bincount(rows, minlength=people), np.bincount(rows[missed], minlength=people)

    def counts(weights: Weights) -> NDArray[np.float64]:
        return _by_group(group, len(names), weights * wrong, weights * compared)

    counted = resample(counts, people, resamples=resamples, seed=seed)
    groups, between = _rates(
        names, _members(group, compared > 0, len(names)), counted, float(missed.mean()), confidence
    )
    left_out = int((group[rows] < 0).sum())
    return GroupRates(threshold, float(missed.mean()), groups, between, int((group < 0).sum()), left_out)


def cross_fmr(
    impostor: Scores, first: Numbers, second: Numbers, labels: Sequence[str | None], threshold: float
) -> CrossFmr:
    """FMR within and between groups; arguments and errors as of :func:`group_fmr`."""
    i, j, matched = _impostors(impostor, first, second, len(labels), threshold)
    names, group = _groups(labels)
    known = (group[i] >= 0) & (group[j] >= 0)
    size = len(names)
    cell = group[i[known]] * size + group[j[known]]

    def table(of: NDArray[np.int64]) -> NDArray[np.int64]:
        counts = np.bincount(of, minlength=size * size).reshape(size, size)
        return counts + counts.T - np.diag(np.diag(counts))

    compared, wrong = table(cell), table(cell[matched[known]])
    enough = _enough(compared, float(matched.mean()))
    rate = np.divide(wrong, compared, out=np.full(wrong.shape, np.nan), where=enough)
    return CrossFmr(names, compared, wrong, rate)


def _rates(
    names: tuple[str, ...], subjects: NDArray[np.int64], counted: Resampled, overall: float, confidence: float
) -> tuple[tuple[GroupRate, ...], Differential | None]:
    """Rates from K counts of errors and K of comparisons."""
    errors, compared = _columns(counted, np.arange(len(names))), _columns(counted, len(names) + np.arange(len(names)))
    rates = ratio(errors, compared)
    absent = [bool(np.isnan(values).any()) for values in rates.values.T]
    notes = [
        _shortage(float(c), overall, int(n), empty)
        for c, n, empty in zip(compared.estimate, subjects, absent, strict=True)
    ]
    kept = np.array([k for k, note in enumerate(notes) if not note], np.int64)
    intervals = dict(zip(kept.tolist(), _columns(rates, kept).intervals(confidence), strict=True))
    groups = tuple(
        GroupRate(
            name, int(subjects[k]), int(compared.estimate[k]), int(errors.estimate[k]), intervals.get(k), notes[k]
        )
        for k, name in enumerate(names)
    )
    if len(kept) < 2:
        return groups, None
    return groups, differential([names[k] for k in kept], _columns(rates, kept), confidence)


def _shortage(comparisons: float, overall: float, subjects: int, empty: bool) -> str:
    """Why a group has no rate; empty if it has one."""
    if not _enough(comparisons, overall):
        expected = comparisons * overall
        return f"insufficient data: {expected:.3g} errors expected, {EXPECTED_FALSE_MATCHES} are needed"
    if subjects < FEWEST_SUBJECTS:
        return f"insufficient data: {subjects} subjects, {FEWEST_SUBJECTS} are needed"
    return "insufficient data: resamples without a comparison; more subjects are needed" if empty else ""


def _enough(comparisons: float | NDArray[np.int64], overall: float) -> NDArray[np.bool_]:
    return np.asarray(comparisons) * overall >= EXPECTED_FALSE_MATCHES * (1 - 1e-9)


def _columns(of: Resampled, columns: NDArray[np.int64]) -> Resampled:
    return Resampled(of.estimate[columns], of.values[:, columns], of.draws)


def _by_group(
    group: NDArray[np.int64], size: int, errors: NDArray[np.int64], comparisons: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(2K,) sums over the subjects of each group: of errors, then of comparisons."""
    known = group >= 0
    return np.concatenate([np.bincount(group[known], of[known], minlength=size) for of in (errors, comparisons)])


def _members(group: NDArray[np.int64], present: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """(K,) how many of each group's subjects are present."""
    return np.bincount(group[present & (group >= 0)], minlength=size)


def _groups(labels: Sequence[str | None]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The K labels, in order, and the (S,) number of each subject's; -1 without a label."""
    names = sorted({label for label in labels if label})
    numbers = {name: number for number, name in enumerate(names)}
    return tuple(names), np.array([numbers[label] if label else -1 for label in labels], np.int64)


def _impostors(
    scores: Scores, first: Numbers, second: Numbers, people: int, threshold: float
) -> tuple[Numbers, Numbers, NDArray[np.bool_]]:
    """The two subjects of each comparison, and whether it matches."""
    finite_scores(scores, "impostor")
    i, j = _numbers(first, scores, people), _numbers(second, scores, people)
    if (i == j).any():
        raise InvalidValue("impostor comparisons: one subject with itself is among them; leave it out")
    return i, j, scores > threshold


def _numbers(numbers: Numbers, scores: Scores, people: int) -> Numbers:
    if numbers.shape != scores.shape or numbers.min() < 0 or numbers.max() >= people:
        raise InvalidValue(
            f"subjects of shape {numbers.shape}: must be numbers 0..{people - 1}, as there are labels, one for each of "
            f"the scores {scores.shape}"
        )
    return numbers
