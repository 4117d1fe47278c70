"""The whole judgement: what it holds, whom it leaves out, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from probface.contract import QualityScale
from probface.errors import DataError, InvalidValue
from probface.eval.candidate import Candidate
from probface.eval.comparisons import Comparisons
from probface.eval.face_table import FaceTable
from probface.eval.results import INSUFFICIENT, Figure, Provenance, Results
from probface.eval.verification.judge import Judgement, judge
from probface.eval.verification.options import JudgeOptions

Listed = tuple[FaceTable, Comparisons]
Make = Callable[..., Listed]
MakeCandidate = Callable[..., Candidate]
FEW = JudgeOptions(fmrs=(1e-1, 1e-2), fmr=1e-2, resamples=20)


def figures(judgement: Judgement, section: str, name: str, **fields: object) -> list[Figure]:
    (found,) = [one for one in judgement.sections if one.title == section]
    return [
        figure
        for figure in found.figures
        if figure.name == name and all(getattr(figure, key) == value for key, value in fields.items())
    ]


def test_a_judgement_is_ready_for_results(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    found = judge([candidate(table), candidate(table, "fastmls")], comparisons, FEW)
    assert [section.title for section in found.sections] == [
        "Verification",
        "Compared with COSINE",
        "Error versus discard",
        "Risk control",
        "Likelihood ratios",
    ]
    kinds = [chart.kind for section in found.sections for chart in section.charts]
    assert kinds == ["roc", "det", "histogram", "histogram", "edc", "edc", "risk", "reliability"]
    provenance = Provenance("1", "", "", "", "", 0, 0, 0, 0, 0, 20, 0.95, 0)
    results = Results(
        "pairs", "t", (), found.systems, found.sections, provenance, found.thresholds, found.ladder, found.errors
    )
    assert Results.from_json(results.to_json()) == results
    (note,) = found.notes
    assert note.startswith("Intervals resample subjects, not comparisons; they are up to 1.7 times too wide where")


def test_the_same_arguments_give_the_same_judgement(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    one, again = (judge([candidate(table), candidate(table, "mls")], comparisons, FEW) for _ in range(2))
    assert one == again
    other = judge([candidate(table), candidate(table, "mls")], comparisons, replace(FEW, seed=1))
    assert figures(one, "Verification", "EER")[0].value == figures(other, "Verification", "EER")[0].value
    assert figures(one, "Verification", "EER")[0].low != figures(other, "Verification", "EER")[0].low


def test_people_who_trained_the_head_are_left_out_and_systems_compared_without_them(
    crowd: Make, candidate: MakeCandidate
) -> None:
    table, comparisons = crowd()
    trained = [f"person {number:02d}" for number in range(20)]
    found = judge([candidate(table), candidate(table, "fastmls", trained=[*trained, "a stranger"])], comparisons, FEW)
    keep = ~comparisons.of_subjects(trained)
    assert 0 < keep.sum() < len(comparisons)
    assert [system.left_out for system in found.systems] == [0, int((~keep).sum())]
    chosen = comparisons.select(keep)
    counts = (int(chosen.genuine.sum()), int((~chosen.genuine).sum()))
    (own,) = figures(found, "Verification", "EER", system="fastmls")
    assert (own.genuine, own.impostor) == counts
    assert f"left out; it is judged by {counts[0]:,} genuine and {counts[1]:,} impostor ones" in found.notes[0]

    rows = figures(found, "Compared with COSINE", "EER")
    assert [(row.system, row.relation, row.against) for row in rows] == [
        ("cosine", "value", None),
        ("fastmls", "value", None),
        ("fastmls", "difference", "cosine"),
    ]
    assert {row.by for row in rows} == {"comparisons common to COSINE and FASTMLS"}
    assert {(row.genuine, row.impostor) for row in rows} == {counts}
    cosine, fastmls, more = rows
    assert fastmls.value == own.value
    assert cosine.value is not None
    assert fastmls.value is not None
    assert more.value == fastmls.value - cosine.value
    # Cosine on the common comparisons is what it would be if nobody had asked for more.
    (alone,) = figures(judge([candidate(table)], chosen, FEW), "Verification", "EER")
    assert replace(cosine, by="") == alone
    assert figures(found, "Verification", "EER", system="cosine")[0].value != cosine.value


def test_systems_with_the_same_comparisons_have_no_further_rows(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    found = judge([candidate(table), candidate(table, "mls")], comparisons, FEW)
    rows = figures(found, "Compared with COSINE", "TMR")
    assert [(row.relation, row.at, row.by) for row in rows] == [
        ("difference", {"fmr": 1e-1}, ""),
        ("difference", {"fmr": 1e-2}, ""),
    ]


def test_people_who_trained_leave_too_little(listed: Make, candidate: MakeCandidate) -> None:
    table, comparisons = listed([0.9, 0.8, 0.1], [True, True, False])
    with pytest.raises(
        DataError, match="FASTMLS: 2 genuine and 0 impostor comparisons without those of people who trained"
    ):
        judge([candidate(table, "fastmls", trained=["q2"])], comparisons, FEW)


def test_systems_without_comparisons_in_common_are_judged_and_not_compared(
    crowd: Make, candidate: MakeCandidate
) -> None:
    table, comparisons = crowd()
    halves = [[f"person {number:02d}" for number in some] for some in (range(20), range(20, 40))]
    one, other = (
        candidate(table, "fastmls", key=key, trained=half) for key, half in zip(("one", "other"), halves, strict=True)
    )
    found = judge([one, other, candidate(table)], comparisons, FEW)
    for system, half in (("one", halves[0]), ("other", halves[1])):
        alone = judge([candidate(table, "fastmls", key=system, trained=half)], comparisons, FEW)
        assert figures(found, "Verification", "EER", system=system) == figures(alone, "Verification", "EER")
    rows = figures(found, "Compared with ONE", "TMR", system="other") + figures(
        found, "Compared with ONE", "EER", system="other"
    )
    assert [(row.value, row.relation, row.against, row.genuine, row.impostor) for row in rows] == [
        (None, "difference", "one", 0, 0)
    ] * 3
    note = f"{INSUFFICIENT}: the two systems have 0 genuine and 0 impostor comparisons in common"
    assert {row.note for row in rows} == {note}
    assert figures(found, "Compared with ONE", "EER", system="cosine", relation="difference")[0].value is not None


def test_systems_with_one_kind_of_comparison_in_common(listed: Make, candidate: MakeCandidate) -> None:
    table, comparisons = listed([0.9, 0.8, 0.1], [True, True, False])
    one, other = (
        candidate(table, "fastmls", key=key, trained=[person]) for key, person in (("one", "p0"), ("other", "p1"))
    )
    (row,) = figures(judge([one, other], comparisons, FEW), "Compared with ONE", "EER")
    assert (row.value, row.genuine, row.impostor) == (None, 0, 1)
    assert row.note == f"{INSUFFICIENT}: the two systems have 0 genuine and 1 impostor comparisons in common"


def test_too_few_impostors_give_no_number_but_a_reason(listed: Make, candidate: MakeCandidate) -> None:
    table, comparisons = listed([0.9] * 3 + [0.1] * 99, [True] * 3 + [False] * 99)
    found = judge([candidate(table)], comparisons, FEW)
    rows = figures(found, "Verification", "TMR")
    assert [(row.value, row.low) for row in rows] == [(None, None)] * 2
    assert rows[0].note == (
        f"{INSUFFICIENT}: FMR 0.1 needs at least 100 impostor comparisons, found 99; ask for 0.11 or above, or bring "
        "more people"
    )
    assert [(row.threshold, row.tmr, row.impostor) for row in found.thresholds] == [(None, None, 99)] * 2
    assert found.errors == ()
    assert "Error versus discard" not in [section.title for section in found.sections]
    assert any("for a threshold at FMR 0.01 or above, with 99 impostor comparisons" in note for note in found.notes)

    table, comparisons = listed([0.9] * 3 + [0.1] * 100, [True] * 3 + [False] * 100)
    rows = figures(judge([candidate(table)], comparisons, FEW), "Verification", "TMR")
    assert [row.value for row in rows] == [1.0, None]


def test_a_larger_rate_takes_the_place_of_one_that_cannot_be_measured(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    found = judge([candidate(table)], comparisons, replace(FEW, fmr=1e-4))
    assert {error.fmr for error in found.errors} == {1e-2}
    assert {figure.at["fmr"] for figure in figures(found, "Error versus discard", "FNMR")} == {1e-2}
    assert any("too few for FMR 0.0001" in note and "at FMR 0.01" in note for note in found.notes)


def test_scores_that_are_no_numbers_are_refused_by_name(listed: Make, candidate: MakeCandidate) -> None:
    tiny = float(np.finfo(np.float32).tiny)
    table, comparisons = listed([0.9, 0.8, -1.0], [True, True, False], sigma_sq=[(1, 1), (1, 1), (tiny / 4, tiny / 4)])
    message = r"FASTMLS: the score of 'a2' and 'b2' is -inf \(1 such pairs\): must be finite"
    with np.errstate(over="ignore"), pytest.raises(InvalidValue, match=message):
        judge([candidate(table, "fastmls")], comparisons, FEW)


def test_images_and_labels_that_do_not_go_together_are_refused(listed: Make, candidate: MakeCandidate) -> None:
    table, comparisons = listed([0.9, 0.1], [True, False])
    with pytest.raises(DataError, match="image 'c': is in the protocol's lists and not among the 4 embeddings"):
        judge([candidate(table)], replace(comparisons, names=("a0", "b0", "c", "b1")), FEW)
    wrong = replace(comparisons, subjects=("p", "q", "r", "s"))
    with pytest.raises(DataError, match="pair 'a0' and 'b0': labelled as of one subject, and its subjects are two"):
        judge([candidate(table)], wrong, FEW)
    wrong = replace(comparisons, subjects=("p", "p", "r", "r"))
    with pytest.raises(DataError, match="pair 'a1' and 'b1': labelled as of two subjects, and its subjects are one"):
        judge([candidate(table)], wrong, FEW)
    with pytest.raises(DataError, match="no comparisons: there is nothing to judge"):
        judge([candidate(table)], comparisons.select(np.zeros(2, np.bool_)), FEW)
    for candidates in ([], [candidate(table), candidate(table)]):
        with pytest.raises(InvalidValue, match="each with a key of its own"):
            judge(candidates, comparisons, FEW)


def test_one_variance_for_all_tells_nothing(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    flat = replace(table.embeddings, sigma_sq=np.full_like(table.embeddings.sigma_sq, 0.5))
    found = judge([candidate(replace(table, embeddings=flat))], comparisons, FEW)
    assert {figure.by for figure in figures(found, "Error versus discard", "FNMR")} == {"chance", "steps"}
    assert figures(found, "Error versus discard", "partial AUC, sigma^2's over this measure's") == []
    assert "Risk control" not in [section.title for section in found.sections]
    assert found.ladder == ()
    assert "COSINE: sigma^2 is the same for every image, so nothing can be set aside by it." in found.notes


def test_progress_comes_to_its_end(listed: Make, candidate: MakeCandidate) -> None:
    table, comparisons = listed([0.9, 0.8, 0.1, 0.3], [True, True, False, False])
    seen: list[tuple[str, int, int]] = []
    judge([candidate(table)], comparisons, FEW, progress=lambda *told: seen.append(told))
    assert [done for _, done, _ in seen] == list(range(1, seen[0][2] + 1))


def test_options_are_checked() -> None:
    for wrong, message in (
        ({"fmrs": ()}, "need one or more"),
        ({"fmr": 1.0}, "each between 0 and 1"),
        ({"fmrs": (1e-2, 1e-1)}, "must fall"),
        ({"rejected": (0.1, 0.2)}, "must rise from 0"),
        ({"rejected": (0.0, 1.0)}, "stay below 1"),
        ({"resamples": 0}, "0 resamples"),
        ({"confidence": 1.0}, "confidence 1"),
        ({"ladder": -1}, "must not be negative"),
    ):
        with pytest.raises(InvalidValue, match=message):
            JudgeOptions(**wrong)


def test_sigma_sq_sets_nothing_aside_of_people_who_trained_its_head(crowd: Make, candidate: MakeCandidate) -> None:
    """Cosine judges everybody; where comparisons are rejected by sigma^2, it does not."""
    table, comparisons = crowd()
    trained = frozenset(f"person {number:02d}" for number in range(20))
    keep = ~comparisons.of_subjects(trained)
    cosine = replace(candidate(table), taught=trained)
    found = judge([cosine], comparisons, FEW)
    alone = judge([candidate(table)], comparisons.select(keep), FEW)
    for title in ("Error versus discard", "Risk control"):
        assert [s for s in found.sections if s.title == title] == [s for s in alone.sections if s.title == title]
    assert found.systems[0].left_out == 0
    assert found.ladder == alone.ladder
    assert any(f"{int((~keep).sum()):,} with people who trained the head are left out" in note for note in found.notes)
    everyone = replace(cosine, taught=frozenset(comparisons.subjects))
    nothing = judge([everyone], comparisons, FEW)
    assert not [section for section in nothing.sections if section.title in ("Error versus discard", "Risk control")]
    assert any("nothing is set aside by its sigma^2" in note for note in nothing.notes)


def test_the_kind_of_comparison_that_is_missing_is_named(listed: Make, candidate: MakeCandidate) -> None:
    table, comparisons = listed([0.9, 0.8, 0.1], [True, True, False], sigma_sq=[(0.1, 0.2), (0.3, 0.4), (0.5, 0.6)])
    cosine = replace(candidate(table), taught=frozenset(["q2"]))
    assert (
        "COSINE: without people who trained the head 2 genuine and 0 impostor comparisons are left, so nothing is set "
        "aside by its sigma^2."
    ) in judge([cosine], comparisons, FEW).notes


def test_the_notes_tell_the_rate_of_each_threshold(crowd: Make, candidate: MakeCandidate) -> None:
    """Without people who trained the head there are fewer impostors, and another rate where sigma^2 sets aside."""
    table, comparisons = crowd()
    options = replace(FEW, fmr=2e-3)

    def found_with(taught: int) -> Judgement:
        names = frozenset(f"person {number:02d}" for number in range(taught))
        return judge([replace(candidate(table), taught=names)], comparisons, options)

    found = found_with(25)
    (rate,) = {row.at["fmr"] for row in figures(found, "Error versus discard", "FNMR", by="sigma^2")}
    assert rate > 2e-3
    assert {error.fmr for error in found.errors} == {2e-3}
    impostor = figures(found, "Error versus discard", "FNMR")[0].impostor
    told = [note for note in found.notes if "FMR" in note]
    assert told == [
        f"COSINE: {impostor:,} impostor comparisons are too few for FMR 0.002; the threshold of error versus "
        f"discard is at FMR {rate:g}."
    ]
    gone = found_with(36)
    assert "Error versus discard" not in [section.title for section in gone.sections]
    assert {error.fmr for error in gone.errors} == {2e-3}
    (note,) = (note for note in gone.notes if "FMR" in note)
    assert note.startswith(f"COSINE: {INSUFFICIENT} for a threshold at FMR 0.002 or above, with ")
    assert note.endswith("impostor comparisons: left out are error versus discard.")


def test_errors_show_no_variance_of_people_who_trained_the_head(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    taught = frozenset(f"person {number:02d}" for number in range(20))
    found = judge([replace(candidate(table), taught=taught)], comparisons, FEW)
    owner = dict(zip(comparisons.names, comparisons.subjects, strict=True))
    variance = dict(zip(table.names, table.embeddings.sigma_sq[:, 0].tolist(), strict=True))
    sides = [side for error in found.errors for side in ((error.a, error.sigma_sq_a), (error.b, error.sigma_sq_b))]
    assert {owner[name] in taught for name, _ in sides} == {True, False}
    for name, shown in sides:
        assert shown == (None if owner[name] in taught else variance[name])


def test_the_ladder_is_on_the_scale_of_its_own_model(crowd: Make, candidate: MakeCandidate) -> None:
    table, comparisons = crowd()
    flat = replace(table, embeddings=replace(table.embeddings, sigma_sq=np.full((len(table), 1), 0.5, np.float32)))
    first = replace(candidate(flat, key="first"), quality=QualityScale(-50.0, -40.0))
    second = replace(candidate(table, key="second"), quality=QualityScale(-6.0, 1.0))
    found = judge([first, second], comparisons, FEW)
    assert found.ladder == judge([second], comparisons, FEW).ladder
    assert found.ladder[0].quality is not None
    assert found.ladder[0].quality > 50
    assert {rung.quality for rung in judge([candidate(table)], comparisons, FEW).ladder} == {None}
