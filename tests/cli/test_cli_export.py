import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from people_folder import write_people

from probface.cli.app import run
from probface.models.registry import resolve_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training folder with a small network and a head of random weights."""
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx").parent


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"), 20, images=3)


def exported(capsys: Capture, *arguments: object) -> dict[str, object]:
    assert run(["export", *map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert isinstance(document, dict)
    return document


def refused(capsys: Capture, *arguments: object) -> str:
    assert run(["export", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("probface: ")
    assert err.count("\n") == 1
    return err


def test_float32_is_the_same_model_in_one_file(model: Path, capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model.onnx"
    document = exported(capsys, "--model", model, "--out", out)
    assert document["parity"]["difference"] == 0
    assert document["judged_on"] == "random patterns"
    assert document["accuracy"] is None
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    assert resolve_model(out).contract == resolve_model(model).contract
    images = np.random.default_rng(0).normal(size=(3, 3, 112, 112)).astype(np.float32)
    results = []
    for path in (model / "model.onnx", out):
        session = ort.InferenceSession(path)
        results.append(session.run(["mu", "sigma_sq"], {session.get_inputs()[0].name: images}))
    for given, written in zip(*results, strict=True):
        np.testing.assert_array_equal(given, written)


def test_the_default_model(capsys: Capture, tmp_path: Path) -> None:
    assert run(["export", "--out", str(tmp_path / "sface.onnx")]) == 0
    text = capsys.readouterr().out
    assert "sface in float32, 40.9 MB (float32: 40.9 MB)" in text
    assert "mu          moved by 0 degrees at most" in text
    assert resolve_model(tmp_path / "sface.onnx").contract == resolve_model("sface").contract


def test_float16_without_images(model: Path, capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "half.onnx"
    assert run(["export", "--model", str(model), "--out", str(out), "--precision", "float16"]) == 0
    text = capsys.readouterr().out
    assert "compared on 32 faces, random patterns" in text
    assert "no accuracy was measured: that takes --data" in text
    assert resolve_model(out).contract.name == "random (float16)"


def test_int8_on_people(model: Path, people: Path, capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    command = ("--model", model, "--out", out, "--precision", "int8", "--data", people, "--aligned")
    document = exported(capsys, *command)
    assert document["precision"] == "int8"
    assert document["bytes"] == out.stat().st_size < document["float32_bytes"]
    assert document["failed"] == 0
    assert document["parity"]["faces"] == 45  # a quarter of 60 calibrate
    assert document["parity"]["angle_max"] > 0
    accuracy = document["accuracy"]
    assert (accuracy["people"], accuracy["genuine_pairs"], accuracy["impostor_pairs"]) == (15, 45, 45 * 42 // 2)
    assert [(rate["metric"], rate["fmr"]) for rate in accuracy["rates"]] == [
        (metric, fmr) for metric in ("cosine", "fastmls") for fmr in (1e-2, 1e-3)
    ]
    assert {rate["tar_after"] for rate in accuracy["rates"]} == {"insufficient data"}  # 945 pairs, 1000 are needed
    assert resolve_model(out).contract.name == "random (int8)"


def test_int8_as_text_with_numbers(model: Path, people: Path, capsys: Capture, tmp_path: Path) -> None:
    more = write_people(tmp_path / "more", 24, images=3, seed=1)
    (more / "person-00" / "broken.png").write_bytes(b"no image")
    out = tmp_path / "small.onnx"
    assert run(["export", "--model", str(model), "--out", str(out), "--precision", "int8", "--data", str(more),
                "--aligned"]) == 0  # fmt: skip
    text, err = capsys.readouterr()
    assert "18 people, 54 genuine and 1377 impostor pairs:" in text
    assert "cosine   TAR at FMR 0.01: " in text
    assert "fastmls  TAR at FMR 0.001: insufficient data" in text
    assert "have no usable face and were left out" in err


def test_float16_judged_by_few_images(model: Path, people: Path, capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "half.onnx"
    command = ("--model", model, "--out", out, "--precision", "float16", "--data", people, "--aligned")
    document = exported(capsys, *command, "--images", 5)
    assert document["parity"]["faces"] == 5
    assert document["parity"]["angle_max"] < 0.5


def test_what_is_refused(model: Path, people: Path, capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    assert "must end in .onnx" in refused(capsys, "--model", model, "--out", tmp_path / "small.tflite")
    assert "give images of faces with --data" in refused(capsys, "--model", model, "--out", out, "--precision", "int8")
    assert "Invalid value for '--precision'" in refused(capsys, "--out", out, "--precision", "int4")
    assert "neither a name" in refused(capsys, "--model", "nobody", "--out", out)
    nothing = ("--precision", "int8", "--data", tmp_path / "nothing")
    assert "no such file or folder" in refused(capsys, "--model", model, "--out", out, *nothing)
    faceless = ("--precision", "int8", "--data", people)
    assert "no face in any of 45 images" in refused(capsys, "--model", model, "--out", out, *faceless)
    assert not out.exists()
    exported(capsys, "--model", model, "--out", out, "--precision", "float16")
    again = ("--precision", "float16", "--out", tmp_path / "again.onnx")
    assert "must be all float32" in refused(capsys, "--model", out, *again)


def test_outputs_that_are_not_finite_leave_the_old_file(model: Path, capsys: Capture, tmp_path: Path) -> None:
    wild = onnx.load(model / "model.onnx")
    image = wild.graph.input[0].name
    for node in wild.graph.node:
        node.input[:] = ["scaled back" if name == image else name for name in node.input]
    for name, value in {"up": 6e4, "down": 1 / 6e4}.items():
        wild.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    steps = [  # harmless in float32; float16 ends at 65504, and Concat is done in float16 even on a processor
        onnx.helper.make_node("Mul", [image, "up"], ["once"]),
        onnx.helper.make_node("Mul", ["once", "up"], ["twice"]),
        onnx.helper.make_node("Concat", ["twice", "once"], ["both"], axis=0),
        onnx.helper.make_node("Split", ["both"], ["first", "second"], axis=0, num_outputs=2),
        onnx.helper.make_node("Mul", ["first", "down"], ["back"]),
        onnx.helper.make_node("Mul", ["back", "down"], ["scaled back"]),
    ]
    for place, node in enumerate(steps):
        wild.graph.node.insert(place, node)
    onnx.save(wild, tmp_path / "wild.onnx")
    out = tmp_path / "half.onnx"
    out.write_text("old")
    line = refused(capsys, "--model", tmp_path / "wild.onnx", "--out", out, "--precision", "float16")
    assert "precision float16: the converted model fails" in line
    assert out.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"wild.onnx", "half.onnx"}
    exported(capsys, "--model", tmp_path / "wild.onnx", "--out", out)
    assert out.stat().st_size > 3
