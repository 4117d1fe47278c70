from __future__ import annotations

import json
from pathlib import Path

import pytest
from people_folder import write_people

from probface.cli.app import run
from probface.models.registry import resolve_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_people(tmp_path_factory.mktemp("data") / "people", 12, images=2)
    (folder / "person-01" / "0.png").write_bytes(b"no image")
    return folder


def test_calibrate_writes_a_model_and_says_what_it_measured(people: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "mine.onnx"
    line = ["calibrate", "--data", str(people), "--out", str(out), "--aligned", "--no-degrade", "--name", "the door"]
    rates = ["--fmr", "0.1", "--fmr", "1e-3"]
    assert run([*line, *rates, "--json"]) == 0
    answer, warnings = capsys.readouterr()
    document = json.loads(answer)
    assert warnings.count("\n") == 1
    assert "person-01/0.png" in warnings
    assert (document["people"], document["images"], document["failed"]) == (12, 23, 1)
    assert (document["trained_the_head"], document["insufficient_data"]) == (0, [1e-3])
    assert {(entry["metric"], entry["fmr"]) for entry in document["thresholds"]} == {
        (metric, 0.1) for metric in ("fastmls", "mls", "cosine")
    }
    assert document["data"] == "the door"
    contract = resolve_model(out).contract
    assert contract.threshold("fastmls", 0.1).threshold == document["thresholds"][0]["threshold"]

    assert run([*line, *rates]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{out}: ")
    assert "thresholds measured on the door" in text
    assert "FMR 0.001: insufficient data; it takes 10,000 impostor pairs" in text

    assert run(["models", "show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "training people named by digest: 1163" in shown
    assert contract.training_people[0] not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "m.pt"], "must end in .onnx"),
        (["--out", "m.onnx", "--fmr", "2"], "between 0 and 1"),
        (["--out", "m.onnx", "--fmr", "1e-6"], "needs at least 10,000,000 impostor comparisons"),
        (["--out", "m.onnx", "--faces", "all"], "Invalid value for '--faces'"),
        ([], "Missing option '--out'"),
    ],
)
def test_trouble_is_one_line(
    people: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["calibrate", "--data", str(people), "--aligned", "--no-degrade", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
