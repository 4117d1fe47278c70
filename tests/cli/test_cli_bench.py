import json

import pytest

from probface.cli.app import run

SMALL = ["bench", "match", "--references", "500", "--probes", "20", "--dim", "16", "--rounds", "1", "--top", "3"]


def test_the_table_names_processor_path_and_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(SMALL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "; path " in lines[0]
    assert "processor time" in lines[0]
    rows = [
        line for line in lines if line.startswith("| fastmls, int8: top 3 of 500, D = 16, 20 probes | faiss, cosine |")
    ]
    assert len(rows) == 1
    assert float(rows[0].split("|")[3]) > 0


def test_json_on_the_portable_path_against_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--against", "numpy", "--path", "numpy", "--threads", "2", "--no-matrices", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["machine"]["path"] == "numpy"
    assert [row["rival"] for row in document["measured"]] == ["numpy, cosine"] * 4


def test_a_path_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--path", "sse9"]) == 2
    assert "path 'sse9': this machine has" in capsys.readouterr().err
