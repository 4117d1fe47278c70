"""``probface convert tf1`` on checkpoints that TensorFlow wrote, and what other code does with the result."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from people_folder import write_people
from safetensors import safe_open

from photos import save
from probface.cli.app import run
from probface.encoder.onnx import Encoder
from probface.errors import InvalidValue
from probface.face.image import read_image
from probface.models.registry import resolve_backbone
from probface.nn.architecture import RESFACE_INPUT, Architecture
from probface.train.convert import convert_tf1

GOLDEN = Path(__file__).parents[1] / "golden" / "resface_tf1"
Capture = pytest.CaptureFixture[str]


def convert(*arguments: object) -> int:
    return run(["convert", "tf1", *(str(argument) for argument in arguments)])


def test_a_model_that_runs(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "resface"
    assert convert(GOLDEN / "fused-1", "--out", out, "--json") == 0
    document, err = capsys.readouterr()
    assert err == ""
    assert json.loads(document) == {
        "out": str(out),
        "architecture": "resface20",
        "width": 1 / 16,
        "dim": 16,
        "fusion": True,
        "outputs": 1,
        "unmapped": [],
    }
    files = ["backbone.onnx", "backbone.safetensors", "head.safetensors", "model.onnx"]
    assert sorted(path.name for path in out.iterdir()) == files

    with np.load(GOLDEN / "io.npz") as arrays:
        images, mu, sigma_sq = (arrays[name] for name in ("images", "fused-1/mu", "fused-1/sigma_sq"))
    for found in (Encoder(out).encode(images), Encoder(out / "model.onnx").encode(images, 1)):
        np.testing.assert_allclose(found.mu, mu, atol=1e-5)
        np.testing.assert_allclose(found.sigma_sq, sigma_sq, rtol=1e-4)

    assert run(["models", "show", str(out), "--json"]) == 0
    contract = json.loads(capsys.readouterr().out)
    assert (contract["name"], contract["dim"], contract["sigma_sq_width"]) == ("resface", 16, 1)
    assert contract["trained_on"] == (
        "converted from the TensorFlow 1 checkpoint fused-1; its training data are not known"
    )
    shown = ["flatten:stage_4", *(f"gap:stage_{i}" for i in range(1, 5)), "mu:embedding"]
    assert contract["features"] == shown


def _contents(folder: Path) -> dict[str, object]:
    """File -> what is in it: its bytes, but safetensors writes its metadata in another order each time."""
    return {
        path.name: _tensors(path) if path.suffix == ".safetensors" else path.read_bytes() for path in folder.iterdir()
    }


def _tensors(path: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    with safe_open(path, "numpy") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def test_the_function_makes_what_the_verb_makes(tmp_path: Path, capsys: Capture) -> None:
    verb, function = tmp_path / "verb", tmp_path / "function"
    assert convert(GOLDEN / "fused-1", "--out", verb, "--name", "teacher") == 0
    made = convert_tf1(str(GOLDEN / "fused-1"), str(function), name="teacher")
    assert _contents(function) == _contents(verb)
    assert (made.folder, made.fusion, made.outputs, made.unmapped) == (function, True, 1, ())
    assert made.architecture == Architecture("resface20", 1 / 16, 16)
    assert made.contract == Encoder(verb).contract
    assert made.contract.name == "teacher"


def test_data_for_a_checkpoint_without_head(tmp_path: Path, capsys: Capture) -> None:
    out, data = tmp_path / "out", tmp_path / "people"
    message = "measure an uncertainty head, and checkpoint"
    assert convert(GOLDEN / "base-1", "--out", out, "--data", data) == 2
    text, err = capsys.readouterr()
    assert text == ""
    assert err.startswith(f"probface: data {str(data)!r}: {message}")
    assert err.count("\n") == 1
    with pytest.raises(InvalidValue, match=message):
        convert_tf1(GOLDEN / "base-1", out, data=data)
    assert not out.exists()


@pytest.mark.slow
def test_what_found_no_place_is_listed(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in GOLDEN.glob("trained-7.*"):
        shutil.copy(path, folder)
    (folder / "checkpoint").write_text('model_checkpoint_path: "trained-7"\n')
    out = tmp_path / "out"
    assert convert(folder, "--out", out, "--name", "teacher") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}/model.onnx: resface64, width 0.03125, D = 12, head with 1 output(s), with layer fusion",
        "  not used: AMSoftmax/weights",
    ]
    assert Encoder(out).contract.name == "teacher"


@pytest.mark.slow
def test_a_base_without_head(tmp_path: Path, capsys: Capture) -> None:
    assert convert(GOLDEN / "base-1.index", "--out", tmp_path / "out") == 0
    (line,) = capsys.readouterr().out.splitlines()
    kind = "resface36, width 0.03125, D = 12, no uncertainty head"
    out = tmp_path / "out"
    assert line == f"{out}/backbone.onnx: {kind}; train one: probface train head --backbone {out}"
    made = convert_tf1(GOLDEN / "base-1.index", tmp_path / "function")
    assert (made.contract, made.fusion, made.outputs) == (None, False, 0)
    assert _contents(made.folder) == _contents(out)
    backbone = resolve_backbone(out)
    assert (backbone.face.dim, backbone.input) == (12, RESFACE_INPUT)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["backbone.onnx", "backbone.safetensors"]


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("none-1", "none-1.index: no such file; give"),
        ("io.npz", "is no checkpoint; give its folder, its .index file, or that without .index"),
        ("broken/head-1", "the head reads 302 features and gives 1"),
        ("broken", "may both be the newest"),
    ],
)
def test_trouble_is_one_line(checkpoint: str, message: str, tmp_path: Path, capsys: Capture) -> None:
    assert convert(GOLDEN / checkpoint, "--out", tmp_path / "out") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("probface: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_calibrated_on_people_it_decides_and_grades(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBFACE_CACHE", str(tmp_path / "cache"))
    people, out = write_people(tmp_path / "people", 30), tmp_path / "out"
    assert convert(GOLDEN / "fused-1", "--out", out, "--data", people, "--aligned") == 0
    made = convert_tf1(GOLDEN / "fused-1", tmp_path / "again" / "out", data=people, aligned=True)
    assert _contents(made.folder) == _contents(out)
    assert made.contract == Encoder(out).contract
    before = (out / "backbone.onnx").read_bytes()
    contract = Encoder(out).contract
    assert contract.quality is not None
    assert {(entry.metric, entry.fmr) for entry in contract.thresholds} >= {("fastmls", 1e-2), ("cosine", 1e-2)}
    assert "90 images of 30 people of user images" in next(iter(contract.data.values()))
    (first, *_) = sorted((people / "person-00").iterdir())
    capsys.readouterr()
    same = save(tmp_path / "same.png", read_image(first)[8:104, 8:104])  # 96 x 96, as the model takes it
    arguments = ["verify", str(same), str(same), "--model", str(out), "--aligned", "--fmr", "1e-2", "--json"]
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["match"] is True
    assert (out / "backbone.onnx").read_bytes() == before
