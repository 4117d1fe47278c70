import json
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from probface.errors import StorageError
from probface.train import log
from probface.train.backbone_config import BackboneRecipe
from probface.train.log import TrainingLog, git_revision, write_provenance


def lines_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def write(folder: Path, step: int, *steps: int, loss: float = 1.0) -> None:
    opened = TrainingLog(folder, step)
    for each in steps:
        opened.write({"step": each, "steps": 99, "loss": loss + each, "lr": 0.5})
    opened.close()


def test_a_new_run_begins_an_empty_log(tmp_path: Path) -> None:
    write(tmp_path, 0, 10, 20)
    write(tmp_path, 0, 10)
    assert [line["step"] for line in lines_of(tmp_path)] == [10]


def test_lines_after_the_resumed_step_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, 0, 10, 20, 30, 40)
    write(tmp_path, 20, 30, loss=7)
    assert lines_of(tmp_path) == [
        {"step": step, "steps": 99, "loss": loss, "lr": 0.5} for step, loss in ((10, 11), (20, 21), (30, 37))
    ]


CUT = [b'{"step": 2', b'{"step": 20, "loss": 1', b"\xff\xfe\n", b"\0" * 40, b"[]\n", b'{"a": 1}\n']


@pytest.mark.parametrize("cut", CUT)
def test_a_line_cut_by_a_kill_survives_nothing(tmp_path: Path, cut: bytes) -> None:
    write(tmp_path, 0, 10)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(cut)
    write(tmp_path, 20, 30)
    assert [line["step"] for line in lines_of(tmp_path)] == [10, 30]


def test_a_last_line_that_lacks_only_its_end_is_ended(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 10}\n{"step": 20}')
    write(tmp_path, 20, 30)
    assert [line["step"] for line in lines_of(tmp_path)] == [10, 20, 30]


def test_every_line_is_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    opened = TrainingLog(tmp_path, 0)
    opened.write({"step": 10, "loss": 2.5})
    assert lines_of(tmp_path) == [{"step": 10, "loss": 2.5}]
    opened.close()


READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
board = EventAccumulator(sys.argv[1])
board.Reload()
print(json.dumps({tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}))
"""


def test_tensorboard_shows_the_same_numbers(tmp_path: Path) -> None:
    write(tmp_path, 0, 10, 20, 30)
    write(tmp_path, 20, 30, 40, loss=5)
    # In a process of its own: the reader imports TensorFlow's stand-in, which warns of much.
    read = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ, str(tmp_path / "tensorboard")],
        capture_output=True,
        text=True,
        check=True,
    )
    shown = json.loads(read.stdout)
    assert shown == {
        "loss": [[10, 11], [20, 21], [30, 35], [40, 45]],
        "lr": [[step, 0.5] for step in (10, 20, 30, 40)],
    }


def test_without_tensorboard_the_log_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)  # as where it is not installed
    write(tmp_path, 0, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.raises(StorageError, match="tensorboard: cannot be written"):
        TrainingLog(tmp_path, 0)
    with pytest.raises(StorageError, match=r"log.jsonl: cannot be written"):
        TrainingLog(tmp_path / "tensorboard", 0)


FULL = """
import resource, signal, sys
from pathlib import Path
from probface.errors import StorageError
from probface.train.log import TrainingLog
folder = Path(sys.argv[1])
opened = TrainingLog(folder, 0)
opened.write({"step": 1, "loss": 1.0})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for step in range(2, 10000):
        (folder / "log.jsonl").unlink()  # so that the other file is the first to be full
        opened.write({"step": step, "loss": 1.0})
except StorageError as error:
    print(error)
try:
    opened.close()
except StorageError as error:
    print(error)
"""


def test_a_full_disk_under_tensorboard_is_told(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    message = f"{tmp_path / 'tensorboard'}: cannot be written (File too large); free space or choose another place"
    assert ended.stdout.splitlines() == [message, message]


def test_provenance_holds_recipe_versions_and_revision(tmp_path: Path) -> None:
    recipe = BackboneRecipe("mine", seed=5)
    write_provenance(tmp_path, recipe)
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert record["recipe"] == json.loads(recipe.to_json()) == json.loads((tmp_path / "recipe.json").read_text())
    assert record["recipe"]["seed"] == 5
    assert record["versions"]["python"] == platform.python_version()
    for package in ("torch", "numpy", "safetensors", "lightning-fabric"):
        assert record["versions"][package] == metadata.version(package)
    assert record["git_revision"] == git_revision()


NOBODY = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
COMMIT = [*NOBODY, "commit", "--quiet", "--allow-empty", "-m", "x"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_revision_is_that_of_the_code_and_marks_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout made here takes the place of the package's own, which may be in any state."""

    def git(*arguments: str) -> str:
        found = subprocess.run(["git", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    code = tmp_path / "package" / "log.py"
    code.parent.mkdir()
    code.write_text("x = 1\n")
    monkeypatch.setattr(log, "__file__", str(code))
    git("init", "--quiet")
    git(*COMMIT)
    assert git_revision() is None  # a repository, but not this code's
    git("add", ".")
    git(*COMMIT)
    git("tag", "v1")  # a commit is what is named, whatever its tags
    head = git("rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", head)
    assert git_revision() == head
    code.write_text("x = 2\n")
    assert git_revision() == f"{head}+"
    monkeypatch.setenv("PATH", "")
    assert git_revision() is None


def test_code_outside_git_has_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "__file__", str(tmp_path / "log.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision() is None
