"""Accuracy over folds by hand; operating points and thresholds against scikit-learn and brute force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from probface.eval.candidate import Candidate
from probface.eval.comparisons import Comparisons
from probface.eval.face_table import FaceTable
from probface.eval.verification.accuracy import BEST_THRESHOLD, accuracy
from probface.eval.verification.curves import operating_curve, score_histogram
from probface.eval.verification.operating_points import rates
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.rate import Rate, figure
from probface.eval.verification.thresholds import decision, threshold_table
from probface.eval.verification.transfer import transferred_accuracy
from probface.eval.verification.trial import Selections, Trial

Listed = tuple[FaceTable, Comparisons]
Make = Callable[..., Listed]
MakeCandidate = Callable[..., Candidate]
FEW = JudgeOptions(fmrs=(1e-1, 1e-2), fmr=1e-2, resamples=20)


def trial_of(one: Candidate, comparisons: Comparisons) -> Trial:
    return Trial.of(one, Selections(comparisons).without(one.trained, one.system.label))


def value(rate: Rate) -> float:
    assert rate.found is not None
    return float(rate.found.estimate[0])


# Genuine and impostor cosines of three folds. The best thresholds, by hand (of equally good gaps the upper one):
# for fold 1, on .8 .7 .35 .9 and .4 .1 .2 .3: .55 loses .35, an error; so does .325, which lets .4 in
# for fold 2, on .6 .5 .35 .9 and .56 .2 .2 .3: .325 lets .56 in, an error; all others make more
# for fold 3, on .6 .5 .8 .7 and .56 .2 .4 .1: .58 loses .5, an error; so does .45, which lets .56 in
FOLD_GENUINE = {1: [0.6, 0.5], 2: [0.8, 0.7], 3: [0.35, 0.9]}
FOLD_IMPOSTOR = {1: [0.56, 0.2], 2: [0.4, 0.1], 3: [0.2, 0.3]}


def three_folds(listed: Make, **change: dict[int, list[float]]) -> Listed:
    genuine, impostor = change.get("genuine", FOLD_GENUINE), change.get("impostor", FOLD_IMPOSTOR)
    rows = [(c, True, fold) for fold, values in genuine.items() for c in values]
    rows += [(c, False, fold) for fold, values in impostor.items() for c in values]
    cosines, labels, folds = zip(*rows, strict=True)
    return listed(cosines, labels, folds=folds)


def test_accuracy_over_folds_by_hand(listed: Make, candidate: MakeCandidate) -> None:
    table, comparisons = three_folds(listed)
    rate = accuracy(trial_of(candidate(table), comparisons), FEW)
    # Fold 1 at .55 loses .5 and lets .56 in; fold 2 at .325 lets .4 in; fold 3 at .58 loses .35.
    assert value(rate) == pytest.approx((2 / 4 + 3 / 4 + 3 / 4) / 3)
    assert rate.by == "mean of 3 folds"
    error = np.std([0.5, 0.75, 0.75], ddof=1) / np.sqrt(3)
    assert rate.note == f"standard error over folds {100 * error:.2g} points"


def test_a_fold_without_a_kind_takes_no_part(listed: Make, candidate: MakeCandidate) -> None:
    # Fold 3 has no impostor; its genuine pair of .1 would spoil the threshold of fold 1 if it took part in it.
    table, comparisons = three_folds(listed, genuine={1: [0.6], 2: [0.8], 3: [0.1]}, impostor={1: [0.3], 2: [0.5]})
    rate = accuracy(trial_of(candidate(table), comparisons), FEW)
    # Fold 1 at .65 loses .6; fold 2 at .45 lets .5 in.
    assert value(rate) == 0.5
    assert rate.by == "mean of 2 folds"
    assert rate.note.endswith("; 1 of 3 folds lack a kind of pair and take no part")
    assert trial_of(candidate(table), comparisons).genuine == 3
    row = figure(trial_of(candidate(table), comparisons), rate, FEW)
    assert (row.genuine, row.impostor) == (2, 2)


def test_without_two_whole_folds_the_best_threshold_is_taken_and_named(listed: Make, candidate: MakeCandidate) -> None:
    table, comparisons = three_folds(listed, genuine={1: [0.6, 0.2], 2: [0.8]}, impostor={1: [0.3, 0.1]})
    rate = accuracy(trial_of(candidate(table), comparisons), FEW)
    assert (value(rate), rate.by) == (pytest.approx(4 / 5), BEST_THRESHOLD)
    assert rate.note == "fewer than two of the 2 folds have both kinds of pairs"
    plain = accuracy(trial_of(candidate(table), replace(comparisons, folds=None)), FEW)
    assert (value(plain), plain.by, plain.note) == (value(rate), BEST_THRESHOLD, "")


def test_operating_points_against_scikit_learn(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    for metric in ("cosine", "fastmls"):
        trial = trial_of(candidate(table, metric), comparisons)
        fpr, tpr, _ = roc_curve(comparisons.genuine, trial.scores, drop_intermediate=False)
        found = {(rate.name, *rate.at.values()): value(rate) for rate in rates(trial, FEW)}
        for fmr in FEW.fmrs:
            assert found["TMR", fmr] == pytest.approx(tpr[fpr <= fmr].max())
        # Where the joined points cross the diagonal FMR = FNMR.
        assert np.interp(0, fpr + tpr - 1, fpr) == pytest.approx(found["EER",])
        x, y = operating_curve(trial)
        assert (np.diff(x) > 0).all()
        assert 1 / 700 < x[0] < 10.5 / trial.impostor < 1 / 600
        assert (x[-1], y[-1]) == (1, 1)
        distance = np.abs(fpr[None] - x[:, None]) + np.abs(tpr[None] - y[:, None])
        assert distance.min(axis=1).max() < 1e-12
        start = np.interp(x[0], fpr, tpr) * x[0]
        area = np.trapezoid(y, x) + start / 2
        assert area == pytest.approx(roc_auc_score(comparisons.genuine, trial.scores), abs=2e-3)


def test_the_curve_begins_where_ten_false_matches_are(listed: Make, candidate: MakeCandidate) -> None:
    # Two impostors at the top, then fifty alike: no threshold lets between 3 and 51 of them through.
    cosines = [0.9] * 2 + [0.5] * 50 + np.linspace(0, 0.4, 48).tolist()
    table, comparisons = listed([*cosines, 0.95, 0.45], [False] * 100 + [True] * 2)
    fmr, tmr = operating_curve(trial_of(candidate(table), comparisons))
    assert (fmr[0], tmr[0]) == (0.52, 1)
    # Twelve alike at the top: the curve begins with them.
    table, comparisons = listed([0.5] * 12 + [0.1] * 88 + [0.45, 0.3], [False] * 100 + [True] * 2)
    fmr, tmr = operating_curve(trial_of(candidate(table), comparisons))
    assert (fmr.tolist(), tmr.tolist()) == ([0.12, 1], [1, 1])


def test_thresholds_against_counting(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    trial = trial_of(candidate(table), comparisons)
    rows = threshold_table(trial, replace(FEW, fmrs=(1e-1, 1e-2, 1e-6), resamples=200))
    impostor = np.sort(trial.scores[~comparisons.genuine])[::-1]
    for row in rows[:2]:
        allowed = int(row.fmr * len(impostor))
        assert (row.threshold, row.false_matches, row.impostor) == (impostor[allowed], allowed, len(impostor))
        assert row.tmr == pytest.approx(np.mean(trial.scores[comparisons.genuine] > row.threshold))
        assert row.fmr_low is not None
        assert row.fmr_high is not None
        # People, not comparisons, decide: the interval is wider than that of so many coins.
        coins = 1.96 * np.sqrt(row.fmr * (1 - row.fmr) / len(impostor))
        assert row.fmr_low < row.fmr - coins < row.fmr + coins < row.fmr_high
    assert (rows[2].threshold, rows[2].fmr_low, rows[2].tmr) == (None, None, None)
    assert rows[2].note.startswith("insufficient data: FMR 1e-06 needs at least 10,000,000")
    taken = decision(trial, replace(FEW, fmr=1e-2))
    assert taken is not None
    assert (taken.fmr, taken.threshold) == (1e-2, rows[1].threshold)


def test_every_score_is_in_the_histogram(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    trial = trial_of(candidate(table), comparisons)
    genuine, impostor = score_histogram(trial).series
    assert (genuine.label, impostor.label) == ("genuine", "impostor")
    for series, scores in ((genuine, trial.genuine_scores), (impostor, trial.impostor_scores)):
        assert sum(series.y) == pytest.approx(1)
        width = series.x[1] - series.x[0]
        assert np.dot(series.x, series.y) == pytest.approx(float(scores.mean()), abs=width)


def test_comparisons_are_drawn_where_nobody_is_in_two(listed: Make, candidate: MakeCandidate) -> None:
    labels = [True] * 200 + [False] * 400
    table, comparisons = listed(np.random.default_rng(0).uniform(0, 1, 600), labels)
    trial = trial_of(candidate(table), comparisons)
    assert trial.draws.single
    options = replace(FEW, fmrs=(0.25,), resamples=2000)
    (row,) = threshold_table(trial, options)
    coins = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert row.fmr_low == pytest.approx(0.25 - coins, abs=0.15 * coins)
    assert row.fmr_high == pytest.approx(0.25 + coins, abs=0.15 * coins)
    # One person in two comparisons, and people are drawn.
    subjects = (*comparisons.subjects[:-1], comparisons.subjects[0])
    assert not trial_of(candidate(table), replace(comparisons, subjects=subjects)).draws.single


def test_a_resample_that_leaves_nothing_takes_the_interval_and_not_the_figure(
    listed: Make, candidate: MakeCandidate
) -> None:
    table, comparisons = listed([0.9, 0.1, 0.2], [True, False, False])
    trial = trial_of(candidate(table), comparisons)
    for name, best in (("EER", 0.0), ("accuracy", 1.0)):
        (rate,) = [rate for rate in rates(trial, FEW) if rate.name == name]
        row = figure(trial, rate, FEW)
        assert (row.value, row.low, row.high) == (best, None, None)
        assert row.note.startswith("no interval: ")
        assert row.note.endswith(" of 20 resamples leave nothing to count")


def test_a_threshold_of_one_list_judges_another(listed: Make, candidate: MakeCandidate) -> None:
    # Chosen between .3 and .5, which is .4; then .35 is lost and .45 let in.
    table, development = listed([0.9, 0.5, 0.3, 0.1], [True, True, False, False])
    other, judged = listed([0.9, 0.35, 0.45, 0.1, 0.2], [True, True, False, False, False])
    both = FaceTable(
        (*(f"dev {name}" for name in table.names), *other.names),
        type(table.embeddings).concatenate([table.embeddings, other.embeddings]),
    )
    development = replace(development, names=tuple(f"dev {name}" for name in development.names))
    section = transferred_accuracy(
        [candidate(both), candidate(both, "fastmls", trained=["p0"])], development, judged, FEW, title="View 1"
    )
    plain, fewer = section.figures
    assert plain.value == pytest.approx(3 / 5)
    assert plain.note == "threshold 0.4 from 4 comparisons"
    assert (fewer.genuine, fewer.impostor, fewer.value) == (1, 3, pytest.approx(2 / 4))
    assert fewer.note.endswith("from 4 comparisons, 1 of them with people who trained the head")
