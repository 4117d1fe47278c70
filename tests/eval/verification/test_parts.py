"""Error versus discard, risk control, likelihood ratios, groups, ladder and worst errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from probface.contract import QualityScale
from probface.errors import InsufficientData
from probface.eval.candidate import Candidate
from probface.eval.comparisons import Comparisons
from probface.eval.face_table import UNCERTAINTY, FaceTable
from probface.eval.metrics.bootstrap import ratio, resample
from probface.eval.metrics.likelihood_ratio import cllr, fit_calibration, min_cllr
from probface.eval.metrics.risk import error_versus_discard, partial_auc, risk_controlled_accuracy
from probface.eval.metrics.verification import threshold_at
from probface.eval.metrics.weighted import DiscardAuc, DiscardCurve
from probface.eval.results import Figure, System
from probface.eval.verification.calibration import WeightedCllr, calibration_section, cross_fitted
from probface.eval.verification.discard import GRID, discard_section
from probface.eval.verification.errors import worst_errors
from probface.eval.verification.groups import group_section
from probface.eval.verification.ladder import quality_ladder
from probface.eval.verification.options import JudgeOptions
from probface.eval.verification.risk_control import risk_section
from probface.eval.verification.thresholds import Decision, decision
from probface.eval.verification.trial import Selections, Trial
from probface.types import Embeddings

Listed = tuple[FaceTable, Comparisons]
Make = Callable[..., Listed]
MakeCandidate = Callable[..., Candidate]
FEW = JudgeOptions(fmrs=(1e-1, 1e-2), fmr=1e-2, resamples=20)


def trial_of(one: Candidate, comparisons: Comparisons) -> Trial:
    return Trial.of(one, Selections(comparisons).without(one.trained, one.system.label))


def decided(trial: Trial) -> list[tuple[Trial, Decision]]:
    taken = decision(trial, FEW)
    assert taken is not None
    return [(trial, taken)]


def pick(figures: tuple[Figure, ...], name: str, by: str) -> list[Figure]:
    return [figure for figure in figures if (figure.name, figure.by) == (name, by)]


def test_discard_against_the_plain_curve(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    trial = trial_of(candidate(table, "fastmls"), comparisons)
    section = discard_section(decided(trial), FEW)
    genuine = comparisons.genuine
    threshold = threshold_at(trial.scores[~genuine], 1e-2)
    qualities = {
        UNCERTAINTY: -np.log(table.embeddings.sigma_sq[:, 0].astype(np.float64)),
        "chance": table.measures["chance"],
        "steps": table.measures["steps"],
    }
    areas = {}
    for measure, quality in qualities.items():
        worse = np.minimum(quality[comparisons.first], quality[comparisons.second])[genuine]
        expected = error_versus_discard(trial.scores[genuine], worse, threshold, np.array(FEW.rejected))
        rows = pick(section.figures, "FNMR", measure)
        assert [row.at for row in rows] == [{"fmr": 1e-2, "rejected": share} for share in FEW.rejected]
        count = int(genuine.sum())
        assert [row.genuine for row in rows] == [count - int(share * count + 1e-9) for share in FEW.rejected]
        assert {row.impostor for row in rows} == {int((~genuine).sum())}  # they set the threshold, all of them
        np.testing.assert_allclose([row.value for row in rows], expected, atol=1e-12)
        areas[measure] = partial_auc(GRID, error_versus_discard(trial.scores[genuine], worse, threshold, GRID))
        (area,) = pick(section.figures, "partial AUC", measure)
        assert area.value == pytest.approx(areas[measure])
    (chart,) = section.charts
    assert [series.label for series in chart.series] == list(qualities)
    assert areas[UNCERTAINTY] < areas["chance"]  # the direction: small variance is good
    (row,) = pick(section.figures, "partial AUC, sigma^2's over this measure's", "chance")
    assert (row.relation, row.against, row.unit) == ("value", None, "ratio")
    assert row.value == pytest.approx(areas[UNCERTAINTY] / areas["chance"])


def test_the_interval_of_the_ratio_is_paired(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    trial = trial_of(candidate(table), comparisons)
    (row,) = pick(discard_section(decided(trial), FEW).figures, "partial AUC, sigma^2's over this measure's", "chance")
    genuine = comparisons.genuine

    def area(measure: str) -> DiscardAuc:
        quality = trial.pair_quality(measure)[genuine]
        person = trial.genuine_person
        return DiscardAuc(DiscardCurve(trial.scores[genuine], quality, person, trial.impostors, 1e-2, GRID))

    both = [resample(area(measure), 40, resamples=20, seed=0) for measure in (UNCERTAINTY, "chance")]
    (expected,) = ratio(*both).intervals()
    assert (row.value, row.low, row.high) == pytest.approx((expected.estimate, expected.low, expected.high))


def test_risk_control_against_the_plain_table(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    trial = trial_of(candidate(table, "mls"), comparisons)
    section = risk_section([trial], FEW)
    variance = table.embeddings.sigma_sq[:, 0].astype(np.float64)
    risk = np.maximum(variance[comparisons.first], variance[comparisons.second])
    expected = risk_controlled_accuracy(trial.scores, comparisons.genuine, risk, np.array(FEW.rejected))
    np.testing.assert_allclose([row.value for row in section.figures], expected, atol=1e-12)
    for row in section.figures:  # the counts are those of the comparisons that stay
        kept = np.argsort(risk, kind="stable")[: len(risk) - int(row.at["rejected"] * len(risk) + 1e-9)]
        assert row.genuine == comparisons.genuine[kept].sum()
        assert row.genuine + row.impostor == len(kept)
    (chart,) = section.charts
    assert chart.series[0].x == FEW.rejected
    assert all(row.low <= row.value <= row.high for row in section.figures)


def test_risk_control_where_a_kind_is_all_rejected(listed: Make, candidate: MakeCandidate) -> None:
    table, comparisons = listed(
        [0.9, 0.8, 0.1, 0.2], [True, True, False, False], sigma_sq=[(0.1, 0.2), (0.2, 0.1), (0.1, 0.9), (0.8, 0.1)]
    )
    section = risk_section([trial_of(candidate(table), comparisons)], replace(FEW, rejected=(0.0, 0.25, 0.5)))
    assert [row.value for row in section.figures] == [1.0, 1.0, None]
    assert section.figures[2].note == "insufficient data: only one kind of comparison is left"
    assert [(row.genuine, row.impostor) for row in section.figures] == [(2, 2), (2, 1), (2, 0)]
    assert section.charts[0].series[0].x == (0.0, 0.25)


def test_likelihood_ratios_are_judged_on_people_who_did_not_fit_them(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    trial = trial_of(candidate(table), comparisons)
    people = comparisons.subject_numbers
    halves = trial.draws.halves(FEW.seed)
    sides = [
        {int(person) for rows in (comparisons.first, comparisons.second) for person in people[rows[halves == half]]}
        for half in (0, 1)
    ]
    assert [len(side) for side in sides] == [20, 20]
    assert not sides[0] & sides[1]
    across = np.array([(people[i] in sides[0]) != (people[j] in sides[0]) for i, j in _pairs(comparisons)])
    assert (across == (halves == -1)).all()

    genuine, impostor = [], []
    for half in (0, 1):
        fitted, judged = halves == 1 - half, halves == half
        found = fit_calibration(trial.scores[fitted & comparisons.genuine], trial.scores[fitted & ~comparisons.genuine])
        genuine.append(found.llr(trial.scores[judged & comparisons.genuine]))
        impostor.append(found.llr(trial.scores[judged & ~comparisons.genuine]))
    section = calibration_section([trial], FEW)
    cost, least = section.figures
    ratios = np.concatenate(genuine), np.concatenate(impostor)
    assert (cost.name, cost.value) == ("Cllr", pytest.approx(cllr(*ratios)))
    assert (least.name, least.value) == ("min Cllr", pytest.approx(min_cllr(*ratios)))
    assert (cost.genuine, cost.impostor) == (len(ratios[0]), len(ratios[1]))
    assert cost.low is not None
    assert cost.high is not None
    assert cost.low < cost.value < cost.high
    perfect, ours = section.charts[0].series
    assert (perfect.key, ours.key) == ("", "cosine")
    np.testing.assert_allclose(ours.y, ours.x, atol=0.15)  # calibrated by others, on the whole it holds


def _pairs(comparisons: Comparisons) -> list[tuple[int, int]]:
    return list(zip(comparisons.first.tolist(), comparisons.second.tolist(), strict=True))


def test_weights_of_cllr_are_copies(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd(8, 30)
    trial = trial_of(candidate(table), comparisons)
    held_out = cross_fitted(trial, 0)
    first, second = trial.draws.first[held_out.rows], trial.draws.second[held_out.rows]
    statistic = WeightedCllr(held_out.genuine, held_out.impostor, first, second)
    count = len(held_out.genuine)
    rng = np.random.default_rng(0)
    for weights in (np.ones(8, np.int64), *rng.multinomial(8, np.full(8, 1 / 8), 5)):
        times = np.where(first == second, weights[first], weights[first] * weights[second])
        expected = cllr(np.repeat(held_out.genuine, times[:count]), np.repeat(held_out.impostor, times[count:]))
        assert statistic(weights)[0] == pytest.approx(expected)
    with pytest.raises(InsufficientData, match="a resample without a comparison to count"):
        statistic(np.eye(8, dtype=np.int64)[0])


def test_likelihood_ratios_of_perfect_or_few_comparisons_are_refused(listed: Make, candidate: MakeCandidate) -> None:
    for cosines, labels, reason in (
        ([0.9, 0.8, 0.7, 0.1, 0.2, 0.3], [True] * 3 + [False] * 3, "some impostor must be above a genuine one"),
        ([0.9, 0.1, 0.2], [True, False, False], "half of the people have no genuine comparison among them"),
    ):
        table, comparisons = listed(cosines, labels)
        # Three of each kind in two halves of pairs: some seed gives both halves both kinds.
        sections = [
            calibration_section([trial_of(candidate(table), comparisons)], replace(FEW, seed=seed)) for seed in range(9)
        ]
        assert all(figure.value is None for section in sections for figure in section.figures)
        assert any(reason in section.figures[0].note for section in sections)
        assert all(section.charts == () for section in sections)


def test_groups_against_counting(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    trial = trial_of(candidate(table), comparisons)
    groups = {f"person {number:02d}": "even" if number % 2 == 0 else "odd" for number in range(36)}
    ((_, taken),) = at = decided(trial)
    section, notes = group_section(at, groups, FEW)
    of = np.array([groups.get(subject, "") for subject in comparisons.subjects])
    matched = trial.scores > taken.threshold
    for group in ("even", "odd"):
        inside = (of[comparisons.first] == group) & (of[comparisons.second] == group)
        for name, rows, wrong in (
            ("FMR", inside & ~comparisons.genuine, matched),
            ("FNMR", inside & comparisons.genuine, ~matched),
        ):
            (row,) = pick(section.figures, name, group)
            assert (row.impostor if name == "FMR" else row.genuine) == rows.sum()
            if row.value is None:
                assert "are needed" in row.note
            else:
                assert row.value == pytest.approx(wrong[rows].mean())
    assert notes == ("Groups: 4 subjects are in none and take no part.",)
    (largest,) = [row for row in section.figures if row.name == "largest FNMR ratio"]
    rates = {group: pick(section.figures, "FNMR", group)[0].value for group in ("even", "odd")}
    assert None not in rates.values()
    assert largest.value == pytest.approx(max(rates.values()) / min(rates.values()))
    assert largest.unit == "ratio"


def test_the_ladder_has_even_ranks_and_both_ends(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    trial = trial_of(candidate(table), comparisons)
    graded = trial_of(replace(candidate(table), quality=QualityScale(-5.0, 1.0)), comparisons)
    rungs = quality_ladder(graded, replace(FEW, ladder=8))
    rising = np.sort(table.embeddings.sigma_sq[:, 0])
    assert [rung.sigma_sq for rung in rungs] == rising[[0, 17, 34, 51, 68, 85, 102, 119]].tolist()
    assert [rung.quality for rung in rungs] == sorted((rung.quality for rung in rungs), reverse=True)
    for rung in rungs:
        assert rung.sigma_sq == table.embeddings.sigma_sq[table.names.index(rung.name), 0]
    assert {rung.quality for rung in quality_ladder(trial, FEW)} == {None}
    assert quality_ladder(trial, replace(FEW, ladder=0)) == ()
    # Only images in the comparisons, and no more rungs than there are of them.
    few = comparisons.select((comparisons.first == 0) & (comparisons.second < 5) | (comparisons.first == 7))
    names = {rung.name for rung in quality_ladder(trial_of(candidate(table), few), replace(FEW, ladder=500))}
    used = np.unique(np.concatenate([few.first, few.second]))
    assert names == {few.names[row] for row in used}


def test_worst_errors_by_hand() -> None:
    # Images at angles in the plane; x is a bad photo that resembles everybody.
    angles = {"ann1": 0, "ann2": 80, "bob1": 5, "cyd1": 40, "dan1": 41, "x1": 20, "x2": 100}
    subjects = {name: name[:-1] for name in angles}
    names = tuple(angles)
    turned = np.radians(list(angles.values()))
    mu = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    table = FaceTable(names, Embeddings(mu, np.arange(1, 8, dtype=np.float32)[:, None]))
    first, second = np.triu_indices(7, 1)
    genuine = np.array([subjects[names[i]] == subjects[names[j]] for i, j in zip(first, second, strict=True)])
    comparisons = Comparisons(names, tuple(subjects.values()), first, second, genuine)
    trial = trial_of(Candidate(System("s", "s", "m", "", "cosine"), table), comparisons)
    taken = Decision(0.1, float(np.cos(np.radians(30))))
    found = worst_errors(trial, taken, 12)
    # Within 30 degrees: cyd-dan 1, ann1-bob 5, bob-x1 15; ann1-x1, cyd-x1 and ann2-x2 20; dan-x1 21.
    # bob, ann1, cyd and dan are taken by the first two, so x1 finds nobody. ann1-ann2 and x1-x2 are 80 degrees apart.
    assert [(error.kind, error.a, error.b) for error in found] == [
        ("false match", "cyd1", "dan1"),
        ("false match", "ann1", "bob1"),
        ("false match", "ann2", "x2"),
    ]
    assert [error.score for error in found] == pytest.approx(np.cos(np.radians([1, 5, 20])).tolist())
    assert (found[0].sigma_sq_a, found[0].sigma_sq_b, found[0].fmr) == (4.0, 5.0, 0.1)
    one_each = worst_errors(trial, taken, 1)
    # With one false match alone, the others are free: of two false non-matches of 80 degrees the first in the list.
    assert [(error.kind, error.a, error.b) for error in one_each] == [
        ("false match", "cyd1", "dan1"),
        ("false non-match", "ann1", "ann2"),
    ]
    assert worst_errors(trial, taken, 0) == ()
