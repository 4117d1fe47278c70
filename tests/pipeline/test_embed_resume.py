"""What a killed or refused run leaves, and what the next one makes of it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from photos import portrait
from probface.errors import DataError, StorageError
from probface.face.image import encode_png
from probface.pipeline import embed as room
from probface.pipeline.embed import embed
from probface.pipeline.embedding_file import read_embeddings
from probface.pipeline.embedding_parts import PartsFolder
from probface.pipeline.recogniser import Recogniser

COUNT = 12

KILLED = """
import os, sys
from probface.pipeline import embed as room
room.PART_IMAGES = 4
seen = 0
def die(count):
    global seen
    seen += count
    if seen > int(sys.argv[3]):
        os.kill(os.getpid(), 9)
room.embed(sys.argv[1], sys.argv[2], aligned=True, progress=die)
"""


@pytest.fixture(scope="module")
def portrait_crop() -> np.ndarray:
    return Recogniser().find(portrait())[0].crop


@pytest.fixture
def crops(portrait_crop: np.ndarray, tmp_path: Path) -> Path:
    """Aligned faces that differ: ``00.png`` and so on."""
    return write_crops(tmp_path / "crops", portrait_crop, COUNT)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PART_IMAGES", 4)


def write_crops(folder: Path, crop: np.ndarray, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02d}.png").write_bytes(encode_png(np.roll(crop, number, axis=1)))
    return folder


def killed_after(crops: Path, out: Path, images: int) -> None:
    command = [sys.executable, "-c", KILLED, str(crops), str(out), str(images)]
    assert subprocess.run(command, check=False).returncode == -9


def test_parts_of_a_folder_that_has_changed_are_refused(crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    killed_after(crops, out, 9)  # two parts of four images each are whole
    first = crops / "00.png"
    content = first.read_bytes()
    first.unlink()
    with pytest.raises(DataError, match=r"part-000000.npz: made of other images than are there now; bring those back"):
        embed(crops, out, aligned=True, resume=True)
    assert not out.exists()
    first.write_bytes(content)
    assert embed(crops, out, aligned=True, resume=True).resumed == 8
    assert len(read_embeddings(out).rows) == COUNT


def test_parts_of_images_that_are_gone_are_left_out(crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    killed_after(crops, out, 9)
    for number in range(4, COUNT):
        (crops / f"{number:02d}.png").unlink()
    assert embed(crops, out, aligned=True, resume=True).faces == 4
    assert [Path(name).stem for name in read_embeddings(out).rows.path] == ["00", "01", "02", "03"]


def test_a_damaged_part_is_made_again(crops: Path, tmp_path: Path) -> None:
    whole = read_embeddings(embed(crops, tmp_path / "whole.npz", aligned=True).out).rows
    out = tmp_path / "e.npz"
    killed_after(crops, out, 9)
    part = tmp_path / "e.npz.parts" / "part-000000.npz"
    part.write_bytes(part.read_bytes()[:200])
    assert embed(crops, out, aligned=True, resume=True).resumed == 4
    np.testing.assert_allclose(read_embeddings(out).rows.mu, whole.mu, atol=1e-6)


def test_a_part_with_a_damaged_array_is_made_again(crops: Path, tmp_path: Path) -> None:
    whole = read_embeddings(embed(crops, tmp_path / "whole.npz", aligned=True).out).rows
    out = tmp_path / "e.npz"
    killed_after(crops, out, 9)
    part = tmp_path / "e.npz.parts" / "part-000001.npz"
    with zipfile.ZipFile(part) as archive:
        at = archive.getinfo("mu.npy").header_offset + 400
    content = bytearray(part.read_bytes())
    content[at] ^= 255
    part.write_bytes(content)
    assert embed(crops, out, aligned=True, resume=True).resumed == 4
    np.testing.assert_allclose(read_embeddings(out).rows.mu, whole.mu, atol=1e-6)


def test_parts_without_their_manifest_are_nobodys(crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    killed_after(crops, out, 9)
    (tmp_path / "e.npz.parts" / "manifest.json").unlink()
    result = embed(crops, out, aligned=True, max_pixels=10**6)
    assert (result.resumed, result.faces) == (0, COUNT)


def test_a_part_of_another_run_is_made_again(crops: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "e.npz", tmp_path / "other.npz"
    killed_after(crops, out, 9)
    command = [sys.executable, "-c", KILLED.replace("aligned=True", "aligned=True, max_pixels=10**6")]
    assert subprocess.run([*command, str(crops), str(other), "9"], check=False).returncode == -9
    (tmp_path / "other.npz.parts" / "part-000000.npz").replace(tmp_path / "e.npz.parts" / "part-000000.npz")
    assert embed(crops, out, aligned=True, resume=True).resumed == 4


def test_parts_go_before_their_manifest(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path) -> None:
        assert sorted(path.name for path in folder.iterdir()) == ["manifest.json"]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            embed(crops, tmp_path / "e.npz", aligned=True)


def test_one_run_at_a_time(crops: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no lock for folders")
    out = tmp_path / "e.npz"
    refused: list[str] = []

    def another(_: int) -> None:
        if refused:
            return
        command = [sys.executable, "-m", "probface", "embed", str(crops), "--aligned", "--resume", "--out", str(out)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        refused.append(ended.stderr)
        assert ended.returncode == 2

    assert embed(crops, out, aligned=True, progress=another).faces == COUNT
    assert f"{out}.parts: another run is at work there; wait for its end, or choose another output" in refused[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crops", "e.npz"]


def test_what_stands_where_discarded_parts_were_is_left(crops: Path, tmp_path: Path) -> None:
    contract = Recogniser().contract
    with PartsFolder.open(tmp_path / "e.npz", contract, {}, resume=False) as first:
        first.discard()
        second = PartsFolder.open(tmp_path / "e.npz", contract, {}, resume=False)
    assert (tmp_path / "e.npz.parts" / "manifest.json").exists()
    with second:
        pass
    assert not (tmp_path / "e.npz.parts").exists()


def test_an_input_that_is_not_there_is_told_before_any_work(crops: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(DataError, match=r"gone.png: no such file or folder"):
        embed([crops, tmp_path / "gone.png"], tmp_path / "e.npz", aligned=True, progress=seen.append)
    assert seen == []
    assert [path.name for path in tmp_path.iterdir()] == ["crops"]


def test_a_file_name_that_is_no_text(portrait_crop: np.ndarray, tmp_path: Path) -> None:
    path = os.fsdecode(bytes(tmp_path) + b"/k\xff.png")
    try:
        Path(path).write_bytes(encode_png(portrait_crop))
    except OSError:
        pytest.skip("this file system has no such names")
    assert read_embeddings(embed(path, tmp_path / "e.npz", aligned=True).out).rows.path == (path,)
    table = pq.read_table(embed(path, tmp_path / "e.parquet", aligned=True).out)
    assert table.column("path").to_pylist() == [f"{tmp_path}/k\\udcff.png"]


FULL = """
import resource, signal, sys
from probface.cli.app import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
sys.exit(run(["embed", sys.argv[1], "--aligned", "--out", sys.argv[2]]))
"""


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_disk_too_full_for_a_part_is_left_as_it_was(portrait_crop: np.ndarray, tmp_path: Path, suffix: str) -> None:
    crops = write_crops(tmp_path / "crops", portrait_crop, 90)
    size = len(Recogniser().contract.to_json()) + 1000  # room for the manifest, but not for 90 rows
    command = [sys.executable, "-c", FULL, str(crops), str(tmp_path / f"e.{suffix}"), str(size)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "part-000000.npz: cannot be written (File too large); free space" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["crops"]


def test_an_output_that_cannot_be_moved_into_place(crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    out.mkdir()
    with pytest.raises(StorageError, match=r"e.npz: cannot be written \(Is a directory\)"):
        embed(crops, out, aligned=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crops", "e.npz", "e.npz.parts"]
    out.rmdir()
    assert embed(crops, out, aligned=True, resume=True).resumed == COUNT
