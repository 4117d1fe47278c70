from __future__ import annotations

from dataclasses import replace

import pytest

from probface.errors import DataError, InvalidValue
from probface.eval.results import (
    Chart,
    ChartAxis,
    Figure,
    LadderFace,
    MeasuredThreshold,
    Provenance,
    Results,
    Section,
    Series,
    System,
    WorstError,
)

FIGURE = Figure("TMR", "s", 0.9, 0.8, 0.95, at={"fmr": 1e-3}, better="higher", genuine=10, impostor=10_000)
RESULTS = Results(
    protocol="lfw",
    title="LFW",
    summary=("It is so.",),
    systems=(System("s", "S", "model", "0" * 64, "fastmls"), System("c", "C", "model", "0" * 64, "cosine")),
    sections=(
        Section(
            "Verification",
            "How to read it.",
            (FIGURE, Figure("TMR", "s", None, at={"fmr": 1e-6}, note="insufficient data: 10,000 impostor pairs")),
            (Chart("roc", "ROC", "", ChartAxis("FMR", "log"), ChartAxis("TMR"), (Series("S", (0.1,), (0.9,), "s"),)),),
        ),
    ),
    provenance=Provenance("0.1", "", "2026-01-01", "LFW", "0" * 64, 9, 1, 4, 10, 10_000, 200, 0.95, 0),
    thresholds=(MeasuredThreshold("s", 1e-3, 0.5, 0.0005, 0.002, 0.9, 10_000, 10),),
    ladder=(LadderFace("a", 0.3, 90),),
    errors=(WorstError("false match", "s", "a", "b", 0.9, 0.5, 1e-3, 0.4, 0.3, 0.2),),
)


def test_results_come_back_as_they_were_written() -> None:
    assert Results.from_json(RESULTS.to_json()) == RESULTS


def test_a_number_is_finite_or_explained() -> None:
    with pytest.raises(InvalidValue, match="must be finite"):
        replace(FIGURE, value=float("nan"))
    with pytest.raises(InvalidValue, match="no value and no note"):
        replace(FIGURE, value=None)
    with pytest.raises(InvalidValue, match="relation 'difference' with against None"):
        replace(FIGURE, relation="difference")
    with pytest.raises(InvalidValue, match="all finite"):
        Series("S", (0.0, float("inf")), (0.0, 1.0))


def test_every_figure_has_a_system() -> None:
    with pytest.raises(InvalidValue, match="system 'x'"):
        replace(RESULTS, errors=(replace(RESULTS.errors[0], system="x"),))
    with pytest.raises(InvalidValue, match="key of its own"):
        replace(RESULTS, systems=(RESULTS.systems[0], RESULTS.systems[0]))


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", RESULTS.to_json().replace('"schema": 1', '"schema": 2'), "[" * 100_000]
)
def test_a_file_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="results"):
        Results.from_json(text)
