import json
from pathlib import Path

import numpy as np
import pytest

import probface
from photos import portrait, save
from probface.cli.app import run
from probface.pipeline import score_files as room
from probface.pipeline.embed import embed
from probface.score.by_metric import score_matrix

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three faces and five."""
    folder = tmp_path_factory.mktemp("score")
    made = []
    for name, count in (("a", 3), ("b", 5)):
        for number in range(count):
            save(folder / name / f"{number}.png", portrait(240 + 30 * number, noise=9.0 * number, seed=number + count))
        made.append(embed(folder / name, folder / f"{name}.npz").out)
    return made[0], made[1]


def expected(files: tuple[Path, Path], metric: str) -> np.ndarray:
    """The formulas in float64."""
    a, b = (probface.read_embeddings(file).embeddings for file in files)
    return np.asarray(score_matrix(a, b, metric), np.float64)  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("metric", ["fastmls", "mls", "cosine"])
def test_the_matrix(
    files: tuple[Path, Path], capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, rows: int
) -> None:
    monkeypatch.setattr(room, "BLOCK_SCORES", 5 * rows)
    out = tmp_path / "new" / "m.npz"
    assert run(["score", *map(str, files), "--metric", metric, "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"3 x 5 scores by {metric} -> {out}   (ran ")
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["scores"].dtype == np.float32
        np.testing.assert_allclose(arrays["scores"], expected(files, metric), rtol=1e-4, atol=1e-4)
        for name, file in zip("ab", files, strict=True):
            assert tuple(arrays[name].tolist()) == probface.read_embeddings(file).rows.path
        assert str(arrays["metric"]) == metric
    assert [path.name for path in out.parent.iterdir()] == ["m.npz"]


@pytest.mark.parametrize("metric", ["fastmls", "mls", "cosine"])
def test_the_best(
    files: tuple[Path, Path], capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    monkeypatch.setattr(room, "BLOCK_PROBES", 2)
    out = tmp_path / "m.npz"
    assert run(["score", *map(str, files), "--metric", metric, "--top", "2", "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    assert list(document) == ["out", "metric", "shape", "top", "path", "prefilter"]
    assert (document["shape"], document["top"]) == ([3, 2], 2)
    scores = expected(files, metric)
    with np.load(out, allow_pickle=False) as arrays:
        order = np.argsort(-scores, axis=1, kind="stable")[:, :2]
        np.testing.assert_array_equal(arrays["indices"], order)
        np.testing.assert_allclose(arrays["scores"], np.take_along_axis(scores, order, axis=1), rtol=1e-5, atol=1e-5)


def test_more_than_there_are_gives_all(files: tuple[Path, Path], capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "m.npz"
    assert run(["score", *map(str, files), "--top", "9", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert f"warning: --top 9: {files[1]} holds 5 faces, so each of {files[0]} has 5" in captured.err
    assert "3 x 5 best of" in captured.out
    with np.load(out) as arrays:
        assert sorted(arrays["indices"][0].tolist()) == [0, 1, 2, 3, 4]


def test_what_is_refused(files: tuple[Path, Path], capsys: Capture, tmp_path: Path) -> None:
    with np.load(files[0]) as arrays:
        other = dict(arrays)
    empty = {name: array[:0] for name, array in other.items() if array.ndim}
    np.savez(tmp_path / "none.npz", **{**other, **empty})
    other["contract"] = np.array(str(other["contract"]).replace("sface", "other"))
    np.savez(tmp_path / "other.npz", **other)
    (tmp_path / "text.npz").write_text("nothing")
    a = str(files[0])
    for arguments, message in (
        ([a, str(tmp_path / "other.npz")], "must be of one model; embed both with it"),
        ([a, str(tmp_path / "none.npz")], "none.npz: 0 faces; there must be one or more"),
        ([str(tmp_path / "text.npz"), a], "text.npz: not readable"),
        ([a, str(tmp_path / "gone.npz")], "gone.npz: not readable"),
        ([a, a, "--top", "0"], "Invalid value for '--top'"),
        ([a, a, "--metric", "l2"], "Invalid value for '--metric'"),
    ):
        assert run(["score", *arguments, "--out", str(tmp_path / "m.npz")]) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert message in captured.err
    assert run(["score", a, a, "--out", str(tmp_path / "m.csv")]) == 2
    assert "m.csv: must end in .npz" in capsys.readouterr().err
    assert run(["score", a, a, "--out", f"{a}/m.npz"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.npz", "other.npz", "text.npz"]
    with pytest.raises(probface.ProbFaceError, match="top 0"):
        probface.score_files(a, a, tmp_path / "m.npz", top=0)
    with pytest.raises(probface.ProbFaceError, match="metric 'l2'"):
        probface.score_files(a, a, tmp_path / "m.npz", metric="l2")  # type: ignore[arg-type]


def test_an_output_that_is_an_input(files: tuple[Path, Path], capsys: Capture) -> None:
    a, b = files
    before = a.read_bytes()
    assert run(["score", str(b), str(a), "--out", str(a)]) == 2
    assert f"output {a}: would destroy {a}" in capsys.readouterr().err
    assert a.read_bytes() == before
    with pytest.raises(probface.errors.InvalidValue, match="would destroy"):
        embed([b.with_suffix(""), a], a)
    assert a.read_bytes() == before
