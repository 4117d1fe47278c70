from pathlib import Path

import numpy as np
import pytest

from probface.contract import InputSpec, ModelContract
from probface.errors import DataError, InvalidValue
from probface.eval.face_table import NORM, UNCERTAINTY, FaceTable
from probface.pipeline.face_table_file import read_ready_faces, with_measures

PATHS = np.array(["lfw/Anna/Anna_0001.jpg", "lfw/Anna/Anna_0002.jpg", "lfw/Bob/Bob_0001.jpg"])
MU = np.array([[3, 4], [0, 2], [1, 0]], np.float32)


def table_of(path: Path, **options: object) -> FaceTable:
    return read_ready_faces(path, **options).table  # type: ignore[arg-type]


def written(path: Path, **arrays: object) -> Path:
    np.savez(path, **({"path": PATHS, "mu": MU} | arrays))  # type: ignore[arg-type]
    return path


def test_any_file_with_paths_and_vectors_becomes_a_table(tmp_path: Path) -> None:
    file = written(
        tmp_path / "e.npz",
        sigma_sq=np.array([0.1, 0.2, 0.3], np.float32),
        norm=np.array([5, 2, 1], np.float32),
        my_model=np.array([7, 8, 9]),
        quality=np.array([90, 50, 10]),
        age=np.array(["old", "old", "young"]),  # no number: no measure
        boxes=np.zeros((3, 4)),
    )
    table = table_of(file)
    assert table.names == tuple(PATHS)
    np.testing.assert_allclose(table.embeddings.mu, [[0.6, 0.8], [0, 1], [1, 0]], atol=1e-7)
    assert {name: values.tolist() for name, values in table.measures.items()} == {
        NORM: [5, 2, 1],
        "my_model": [7, 8, 9],
        "quality": [90, 50, 10],
    }
    np.testing.assert_allclose(table.quality(UNCERTAINTY), -np.log([0.1, 0.2, 0.3]), rtol=1e-6)


def test_the_protocols_names_choose_and_order_the_rows(tmp_path: Path) -> None:
    file = written(tmp_path / "e.npz", sharp=np.array([1.0, 2.0, 3.0]))
    names = ["Bob/Bob_0001", "Anna/Anna_0001"]
    table = table_of(file, names=names, sigma_sq=0.5)
    assert table.names == tuple(names)
    assert table.measures["sharp"].tolist() == [3, 1]
    assert table.embeddings.sigma_sq.tolist() == [[0.5], [0.5]]
    with pytest.raises(DataError, match=r"'Carl/Carl_0001': not in .*e.npz, where names look like 'lfw/Anna"):
        table_of(file, names=[*names, "Carl/Carl_0001"], sigma_sq=0.5)
    kept = table_of(file, names=["Carl/Carl_0001", *names], sigma_sq=0.5, allow_missing=True)
    assert kept.names == tuple(names)


def test_a_constant_variance_is_said_and_not_guessed(tmp_path: Path) -> None:
    bare = written(tmp_path / "bare.npz")
    assert not read_ready_faces(bare).uncertain
    assert read_ready_faces(bare, sigma_sq=0.5).uncertain
    for wrong in (-1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(InvalidValue, match="must be above 0 and finite"):
            table_of(bare, sigma_sq=wrong)
    full = written(tmp_path / "full.npz", sigma_sq=np.full((3, 2), 0.25, np.float32))
    assert read_ready_faces(full).uncertain
    np.testing.assert_array_equal(table_of(full, sigma_sq=0.5).embeddings.sigma_sq, 0.25)  # its own


def test_the_names_that_insightface_users_have_are_known(tmp_path: Path) -> None:
    mu = np.eye(3, dtype=np.float64) * 20
    np.savez(tmp_path / "i.npz", filenames=np.array(["a.jpg", "b.jpg", "c.jpg"]), embeddings=mu)
    table = table_of(tmp_path / "i.npz", names=["c", "a"])
    np.testing.assert_array_equal(table.embeddings.mu, np.eye(3, dtype=np.float32)[[2, 0]])


def test_the_quality_of_our_own_files_is_no_measure_beside_the_variance(tmp_path: Path) -> None:
    contract = ModelContract("m", 2, 1, InputSpec(), "ab")
    file = written(
        tmp_path / "e.npz",
        mu=np.eye(3, 2, dtype=np.float32) + np.array([[0, 0], [0, 0], [1, 0]], np.float32),
        sigma_sq=np.ones((3, 1), np.float32),
        quality=np.array([1, 2, 3]),
        contract=contract.to_json(),
        mirror_norm=np.ones(3),
    )
    ready = read_ready_faces(file)
    assert (ready.table.measures, ready.contract) == ({}, contract)
    assert read_ready_faces(written(tmp_path / "bare.npz"), sigma_sq=1).contract is None


def test_a_table_of_measures_is_joined_by_name(tmp_path: Path) -> None:
    table = table_of(written(tmp_path / "e.npz"), sigma_sq=1)
    lines = "path,fiqa, iso\nBob/Bob_0001.jpg,0.3,30\nlfw/Anna/Anna_0001.jpg,0.1,10\nAnna_0002,0.2,20\nCarl,9,9\n"
    (tmp_path / "q.csv").write_text(lines, encoding="utf-8")
    joined = with_measures(table, tmp_path / "q.csv")
    assert {name: values.tolist() for name, values in joined.measures.items()} == {
        "fiqa": [0.1, 0.2, 0.3],
        "iso": [10, 20, 30],
    }
    again = table_of(tmp_path / "e.npz", sigma_sq=1, measures=tmp_path / "q.csv")
    assert again.measures["iso"].tolist() == [10, 20, 30]
    with pytest.raises(DataError, match="measure 'fiqa' is in the embeddings' file, too"):
        with_measures(joined, tmp_path / "q.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,fiqa\na,1\n", "line 1: must name the column 'path'"),
        ("path\na\n", "must name the column 'path' and one or more measures"),
        ("path,a,a\nx,1,2\n", "each once"),
        ("", "must name the column 'path'"),
        ("path,a\nAnna_0001,1\nAnna_0002,2\nBob_0001,\n", "line 4: no a; fill it in"),
        ("path,a\nAnna_0001,1\nAnna_0002,2\nBob_0001,high\n", "line 4: 'high', expected a number"),
        ("path,a\nAnna_0001,1\nAnna_0002,2\n", "'lfw/Bob/Bob_0001.jpg': not in .*q.csv"),
        ("path,a\nAnna_0001,1\nAnna_0001,2\n", "rows 0 and 1 are both of image 'Anna_0001'"),
    ],
)
def test_a_table_of_measures_that_will_not_do(tmp_path: Path, text: str, message: str) -> None:
    table = table_of(written(tmp_path / "e.npz"), sigma_sq=1)
    (tmp_path / "q.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        with_measures(table, tmp_path / "q.csv")


def test_files_that_will_not_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "nameless.npz", mu=MU, sigma_sq=np.ones((3, 1), np.float32))
    with pytest.raises(DataError, match="no array 'path'"):
        table_of(tmp_path / "nameless.npz")
    with pytest.raises(DataError, match="no such file"):
        table_of(tmp_path / "none.npz")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        with_measures(table_of(written(tmp_path / "e.npz"), sigma_sq=1), tmp_path / "none.csv")
    odd = written(tmp_path / "odd.npz", blur=np.array([1, np.nan, 2]))
    with pytest.raises(InvalidValue, match=r"measure 'blur' of image 'lfw/Anna/Anna_0002.jpg' is nan"):
        table_of(odd, sigma_sq=1)
