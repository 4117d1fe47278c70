import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from photos import folder_of_photos, portrait, save
from probface.errors import DataError, InvalidValue, MissingExtra, NoFace, StorageError, UnreadableImage
from probface.face.image import encode_png
from probface.pipeline import embed as room
from probface.pipeline.embed import embed
from probface.pipeline.embedding_file import read_embeddings
from probface.pipeline.recogniser import Recogniser

COUNT = 9


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_photos(tmp_path_factory.mktemp("photos"), COUNT)


def test_every_photo_gets_the_row_that_it_gets_alone(photos: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    result = embed(photos, tmp_path / "e.npz", batch=4, progress=seen.append)
    assert (result.faces, result.failed, result.resumed) == (COUNT, 2, 0)
    assert sum(seen) == COUNT + 2
    file = read_embeddings(result.out)
    recogniser = Recogniser()
    assert file.contract == recogniser.contract
    assert [Path(name).name for name in file.rows.path] == [f"photo-{k:02d}.png" for k in range(COUNT)]
    for row, name in enumerate(file.rows.path):
        (alone,) = recogniser(name)
        np.testing.assert_allclose(file.rows.mu[row], alone.embedding.mu[0], atol=1e-5)
        np.testing.assert_allclose(file.rows.sigma_sq[row], alone.embedding.sigma_sq[0], rtol=1e-4)
        assert abs(int(file.rows.quality[row]) - alone.quality) <= 1
    assert len(file.embeddings) == COUNT


def test_failures_are_listed_with_their_reason(photos: Path, tmp_path: Path) -> None:
    result = embed(photos, tmp_path / "e.npz")
    assert result.errors == tmp_path / "e.errors.jsonl"
    lines = [json.loads(line) for line in result.errors.read_text().splitlines()]
    assert {Path(line["path"]).name: line["kind"] for line in lines} == {
        "text.jpg": "UnreadableImage",
        "wall.png": "NoFace",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.errors.jsonl", "e.npz"]
    embed(photos / "photo-00.png", tmp_path / "e.npz")  # a run without failures takes the old list away
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]


def test_parquet_holds_the_same(photos: Path, tmp_path: Path) -> None:
    rows = read_embeddings(embed(photos, tmp_path / "e.npz").out).rows
    table = pq.read_table(embed(photos, tmp_path / "e.parquet").out)
    assert table.column("path").to_pylist() == list(rows.path)
    np.testing.assert_array_equal(np.array(table.column("mu").to_pylist(), np.float32), rows.mu)
    np.testing.assert_array_equal(np.array(table.column("sigma_sq").to_pylist(), np.float32), rows.sigma_sq)
    assert table.column("quality").to_pylist() == rows.quality.tolist()
    assert b"probface" in table.schema.metadata


def test_strict_ends_at_the_first_failure_and_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    with pytest.raises((UnreadableImage, NoFace)):
        embed(photos, tmp_path / "e.npz", strict=True)
    assert list(tmp_path.iterdir()) == []


def test_no_face_anywhere(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no face in 2 images: nothing to write"):
        embed([photos / "wall.png", photos / "text.jpg"], tmp_path / "e.npz")
    assert list(tmp_path.iterdir()) == []


def test_several_faces_give_several_rows_when_asked(tmp_path: Path) -> None:
    both = np.concatenate([portrait(400), portrait(400)[:, ::-1]], axis=1)
    path = save(tmp_path / "two.png", both)
    assert embed(path, tmp_path / "one.npz").faces == 1
    assert embed(path, tmp_path / "all.npz", policy="all").faces == 2


def test_aligned_faces_are_taken_as_they_are(photos: Path, tmp_path: Path) -> None:
    recogniser = Recogniser()
    (found,) = recogniser.find(photos / "photo-00.png")
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "äö 家.png").write_bytes(encode_png(found.crop))
    file = read_embeddings(embed(tmp_path / "crops", tmp_path / "e.npz", aligned=True).out)
    assert file.rows.path[0].endswith("äö 家.png")
    np.testing.assert_allclose(file.rows.mu[0], recogniser.embed((found,))[0].embedding.mu[0], atol=1e-5)
    with pytest.raises(DataError, match=r"300 x 300 pixels \(height x width\), the model takes 112 x 112"):
        embed(photos / "photo-00.png", tmp_path / "f.npz", aligned=True)


KILLED = """
import os, sys
from probface.pipeline import embed as room
room.PART_IMAGES = 3
total = 0
def die(count):
    global total
    total += count
    if total >= 8:
        os.kill(os.getpid(), 9)
room.embed(sys.argv[1], sys.argv[2], progress=die)
"""


def test_a_killed_run_goes_on_and_ends_alike(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PART_IMAGES", 3)
    whole = read_embeddings(embed(photos, tmp_path / "whole.npz").out).rows
    out = tmp_path / "cut.npz"
    assert subprocess.run([sys.executable, "-c", KILLED, str(photos), str(out)], check=False).returncode == -9
    assert not out.exists()
    with pytest.raises(DataError, match="parts of an interrupted run; go on with --resume, or delete the folder"):
        embed(photos, out)
    with pytest.raises(DataError, match="another model, inputs or options"):
        embed(photos, out, resume=True, policy="all")
    result = embed(photos, out, resume=True)
    assert result.resumed == 6
    rows = read_embeddings(out).rows
    assert rows.path == whole.path
    np.testing.assert_allclose(rows.mu, whole.mu, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cut.errors.jsonl",
        "cut.npz",
        "whole.errors.jsonl",
        "whole.npz",
    ]


FULL = """
import resource, signal, sys
from probface.errors import StorageError
from probface.pipeline.embed import embed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    embed(sys.argv[1], sys.argv[2])
except StorageError as error:
    print(error)
"""


def test_a_full_disk_leaves_whole_parts_to_go_on_from(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"

    def run_with_room_for(size: int) -> str:
        command = [sys.executable, "-c", FULL, str(photos), str(out), str(size)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "manifest.json: cannot be written (File too large); free space" in run_with_room_for(5000)
    assert list(tmp_path.iterdir()) == []
    manifest = (
        len(Recogniser().contract.to_json()) + 500
    )  # room for it and for a part, not for the contract and all rows
    assert "e.npz: cannot be written (File too large); free space" in run_with_room_for(manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz.parts"]
    assert embed(photos, out, resume=True).resumed == COUNT + 2
    assert len(read_embeddings(out).rows) == COUNT


def test_places_and_names_that_will_not_do(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValue, match=r"output .*e.csv: must end in .npz or .parquet"):
        embed(photos, tmp_path / "e.csv")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        embed(photos, tmp_path / "file" / "e.npz")
    with pytest.raises(DataError, match="missing"):
        embed(tmp_path / "missing", tmp_path / "e.npz")
    with pytest.raises(InvalidValue, match="batch 0"):
        embed(photos, tmp_path / "e.npz", batch=0)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'probface\[parquet\]'"):
        embed(photos, tmp_path / "e.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_files_that_hold_no_embeddings(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("nothing")
    (tmp_path / "empty.npz").write_bytes(b"")
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", path=np.array([{}], dtype=object))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:-30])
    for name in ("text.npz", "empty.npz", "array.npz", "other.npz", "pickle.npz", "cut.npz", "missing.npz"):
        with pytest.raises(DataError, match=f"{name}: not readable"):
            read_embeddings(tmp_path / name)


MEMORY = """
import resource, sys
from probface.pipeline import embed as room
room.PART_IMAGES = 64
room.embed(sys.argv[1], sys.argv[2], aligned=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    (crop,) = Recogniser().find(portrait())
    peaks = []
    for count in (128, 1024):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.png").write_bytes(encode_png(crop.crop))
        command = [sys.executable, "-c", MEMORY, str(folder), str(tmp_path / f"{count}.npz")]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < 1.1 * peaks[0]
