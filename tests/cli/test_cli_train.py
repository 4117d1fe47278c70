import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from people_folder import write_people

from photos import portrait, save
from probface.cli.app import run
from probface.pipeline.recogniser import Recogniser

RECIPE = """
data = { aligned = true }
variants = [{ state = "clean" }, { state = "moderate" }]
optimiser = { steps = 20, people = 8, images = 3 }
"""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"), 60)


@pytest.fixture
def command(people: Path, network_files: dict[str, Path], tmp_path: Path) -> list[str]:
    recipe = tmp_path / "quick.toml"
    recipe.write_text(RECIPE)
    given = {"backbone": network_files["resnet"], "data": people, "out": tmp_path / "out", "recipe": recipe}
    return ["train", "head", *(text for name, value in given.items() for text in (f"--{name}", str(value)))]


def test_a_trained_folder_is_a_model_for_the_other_verbs(
    command: list[str],
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PROBFACE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    damaged = people / "person-00" / "damaged.png"
    damaged.write_bytes(b"no image")
    code = run([*command, "--json"])
    damaged.unlink()
    made = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (made["model"], made["weights"]) == (str(out / "model.onnx"), str(out / "head.safetensors"))
    assert made["failed"] in (0, 1)  # whether that person trains or calibrates
    assert any((tmp_path / "cache" / "train").iterdir())

    assert run(["models", "show", str(out), "--json"]) == 0
    contract = json.loads(capsys.readouterr().out)
    assert (contract["name"], contract["dim"]) == ("quick", 64)
    a, b = people / "person-01" / "0.png", save(tmp_path / "other.png", portrait(112))
    code = run(["verify", str(a), str(b), "--model", str(out), "--aligned", "--fmr", "1e-2", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == (0 if answer["match"] else 1)
    assert answer["threshold"] in {entry["threshold"] for entry in contract["thresholds"]}
    assert run(["embed", str(a), str(b), "--model", str(out), "--aligned", "--out", str(tmp_path / "e.npz")]) == 0
    with np.load(tmp_path / "e.npz") as arrays:
        (alone,) = Recogniser(out, aligned=True)(a)
        np.testing.assert_allclose(arrays["mu"][0], alone.embedding.mu[0], atol=1e-5)


def test_training_again_needs_resume_and_the_same_recipe(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ["--cache", str(tmp_path / "cache")]
    assert run([*command, *cache]) == 0
    assert "images trained" in capsys.readouterr().out
    first = (tmp_path / "out" / "model.onnx").read_bytes()
    assert run([*command, *cache, "--resume"]) == 0
    assert (tmp_path / "out" / "model.onnx").read_bytes() == first
    capsys.readouterr()
    (tmp_path / "quick.toml").write_text(RECIPE.replace("steps = 20", "steps = 21"))
    assert run([*command, *cache, "--resume"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "steps" in captured.err


FULL = """
import resource, signal, sys
from probface.cli.app import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_full_disk_leaves_no_model(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = ["--cache", str(tmp_path / "cache")]

    def trained_with_room_for(size: int) -> str:
        full = [sys.executable, "-c", FULL, str(size), *command, *cache]
        ended = subprocess.run(full, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended.stderr
        return ended.stderr

    assert (
        "crops.npy: cannot be written (File too large); free space, or choose another cache"
        in trained_with_room_for(100_000)
    )
    assert list((tmp_path / "cache").rglob("*.npy")) == []
    assert run([*command, *cache]) == 0
    capsys.readouterr()
    out = tmp_path / "out"
    sizes = {path.name: path.stat().st_size for path in out.iterdir() if path.is_file()}
    shutil.rmtree(out)
    told = trained_with_room_for(0)
    assert f"{out}/" in told
    assert "cannot be written (File too large); free space" in told
    assert {path.name for path in out.iterdir()} <= {"log.jsonl", "tensorboard"}
    assert sizes.pop("model.onnx") > max(sizes.values())
    assert "model.onnx: cannot be written (File too large)" in trained_with_room_for(max(sizes.values()))
    assert {path.name for path in out.iterdir() if path.is_file()} == set(sizes)


def test_an_output_folder_that_cannot_be_written(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("in the way")
    assert run([*command, "--cache", str(tmp_path / "cache")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "cannot be written" in captured.err
    assert not (tmp_path / "cache").exists()  # told before the work
    assert (tmp_path / "out").read_text() == "in the way"
