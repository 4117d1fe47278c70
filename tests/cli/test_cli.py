import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import probface
from photos import folder_of_photos, portrait, save
from probface.cli.app import run
from probface.contract import ModelContract

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cli")
    save(place / "a.jpg", portrait())
    save(place / "b.png", portrait(300, noise=10))
    save(place / "wall.png", np.full((300, 300, 3), 120, np.uint8))
    (place / "text.jpg").write_text("no image")
    (place / "empty.jpg").write_bytes(b"")
    (place / "cut.jpg").write_bytes((place / "a.jpg").read_bytes()[:5000])
    (place / "folder.jpg").mkdir()
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (place / "bomb.png").write_bytes(png + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 10]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph), place / "other.onnx")
    return place


def refused(capsys: Capture, *arguments: object) -> str:
    """Run a command line that must fail; its one line."""
    assert run([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("probface: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def document(capsys: Capture, *arguments: object, code: int = 0) -> object:
    """Run a command line with --json; what is on standard output must be one document and nothing else."""
    assert run([*(str(argument) for argument in arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("text.jpg", "not an image of a known format"),
        ("empty.jpg", "empty (0 bytes)"),
        ("cut.jpg", "damaged or cut off"),
        ("folder.jpg", "a folder; name an image in it"),
        ("missing.jpg", "no such file; check the path"),
        ("bomb.png", "60000 x 60000 = 3600000000 pixels, over the limit of 40000000; shrink it, or raise max_pixels"),
        ("wall.png", "no face found; give a photo"),
    ],
)
def test_bad_images_end_in_one_line_and_exit_code_2(folder: Path, capsys: Capture, image: str, message: str) -> None:
    line = refused(capsys, "verify", folder / "a.jpg", folder / image)
    assert message in line
    assert image in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "FOLDER/other.onnx"], "must be (N, 3, H, W)"),
        (["--model", "FOLDER/text.jpg"], "not an ONNX file"),
        (["--model", "nobody"], "neither a name"),
        (["--fmr", "1e-7"], "carries fastmls thresholds for 0.01, 0.001, 0.0001, 1e-05"),
        (["--fmr", "often"], "Invalid value for '--fmr'"),
        (["--metric", "l2"], "Invalid value for '--metric'"),
        (["--provider", "cuda"], "provider 'cuda'"),
        (["--provider", "abacus"], "provider 'abacus'"),
        (["--report", "FOLDER/a.jpg/page.html"], "cannot be written"),
        (["--nonsense"], "--nonsense. See 'probface --help'."),
        (["--max-pixels", "0"], "Invalid value for '--max-pixels'"),
        (["--aligned"], "the model takes 112 x 112"),
    ],
)
def test_bad_options_end_in_one_line_and_exit_code_2(
    folder: Path, capsys: Capture, arguments: list[str], message: str
) -> None:
    given = [argument.replace("FOLDER", str(folder)) for argument in arguments]
    assert message in refused(capsys, "verify", folder / "a.jpg", folder / "b.png", *given)


def test_a_face_network_without_a_head_is_told_how_to_get_one(
    network_files: dict[str, Path], folder: Path, capsys: Capture
) -> None:
    line = refused(capsys, "verify", folder / "a.jpg", folder / "b.png", "--model", network_files["resnet"])
    assert "probface train head --backbone" in line


def test_verify_answers_with_its_exit_code(folder: Path, capsys: Capture, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run(["verify", str(folder / "a.jpg"), str(folder / "b.png"), "--report", str(page)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("MATCH at a false-match rate of 0.001")
    assert str(page) in out
    assert "<h1>Match</h1>" in page.read_text(encoding="utf-8")
    assert run(["demo", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    answer = document(capsys, "verify", folder / "a.jpg", tmp_path / "hopper.jpg", code=1)
    assert isinstance(answer, dict)
    assert list(answer) == ["match", "score", "metric", "threshold", "fmr", "cosine", "faces"]
    assert answer["match"] is False
    for face in answer["faces"]:
        assert list(face) == ["path", "box", "landmarks", "detector_score", "sigma_sq", "quality"]


def test_the_demo_writes_its_pages(capsys: Capture, tmp_path: Path) -> None:
    assert run(["demo", "--out", str(tmp_path / "demo")]) == 0
    assert capsys.readouterr().out.count("MATCH") == 2
    pages = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "demo").glob("*.html")}
    assert "<h1>Match</h1>" in pages["same-person.html"]
    assert "<h1>No match</h1>" in pages["two-people.html"]


def test_detect(folder: Path, capsys: Capture, tmp_path: Path) -> None:
    found = document(capsys, "detect", folder / "a.jpg", "--crops", tmp_path)
    assert isinstance(found, list)
    (face,) = found[0]["faces"]
    assert Path(face["crop"]).read_bytes().startswith(b"\x89PNG")
    assert run(["detect", str(folder / "a.jpg")]) == 0
    assert "1 face\n" in capsys.readouterr().out
    assert run(["detect", str(folder / "a.jpg"), str(folder / "wall.png")]) == 1
    assert "no faces" in capsys.readouterr().out
    refused(capsys, "detect", folder / "text.jpg")


def test_embed(capsys: Capture, tmp_path: Path) -> None:
    photos = folder_of_photos(tmp_path / "photos", 3)
    out = tmp_path / "e.npz"
    assert run(["embed", str(photos), "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "out": str(out),
        "faces": 3,
        "failed": 2,
        "errors": str(tmp_path / "e.errors.jsonl"),
    }
    assert "text.jpg: not an image" in captured.err
    assert "wall.png: no face found" in captured.err
    assert len(probface.read_embeddings(out).rows) == 3
    assert "text.jpg" in refused(capsys, "embed", photos / "text.jpg", "--out", tmp_path / "f.npz", "--strict")
    assert "must end in .npz or .parquet" in refused(capsys, "embed", photos, "--out", tmp_path / "f.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.errors.jsonl", "e.npz", "photos"]


def test_weights_with_another_digest_are_passed_over(
    folder: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sface_file: Path
) -> None:
    (tmp_path / sface_file.name).write_bytes(sface_file.read_bytes()[:-1])
    monkeypatch.setenv("PROBFACE_CACHE", str(tmp_path))
    listed = document(capsys, "models", "list")
    assert isinstance(listed, list)
    assert all(not entry["weights"].startswith(str(tmp_path)) for entry in listed)
    assert run(["verify", str(folder / "a.jpg"), str(folder / "b.png")]) == 0


def test_models(capsys: Capture, network_files: dict[str, Path]) -> None:
    listed = document(capsys, "models", "list")
    assert isinstance(listed, list)
    assert {entry["name"]: entry["kind"] for entry in listed} == {"sface": "recogniser", "yunet": "detector"}
    assert all(entry["weights"] for entry in listed)
    shown = document(capsys, "models", "show", "sface")
    assert isinstance(shown, dict)
    assert "undocumented" in shown["card"]
    assert run(["models", "list"]) == 0
    assert run(["models", "show", "yunet"]) == 0
    capsys.readouterr()
    assert "without uncertainty head" in refused(capsys, "models", "show", network_files["resnet"])


def test_train_head_says_what_is_missing(
    folder: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", "head", "--backbone", "sface", "--data", folder, "--out", tmp_path / "out"]
    assert "unknown key 'stpes'" in refused(capsys, *command, "--recipe", _written(tmp_path, "stpes = 3"))
    monkeypatch.setenv("PROBFACE_CACHE", str(folder / "a.jpg" / "cache"))
    assert "set PROBFACE_CACHE to a folder that you may write" in refused(capsys, *command)
    monkeypatch.setenv("PROBFACE_CACHE", str(tmp_path / "cache"))
    assert "bring more people" in refused(capsys, *command)
    assert "other.onnx" in refused(capsys, *command[:3], folder / "other.onnx", *command[4:])
    assert "channels 'grb': must be 'rgb' or 'bgr'" in refused(capsys, *command, "--channels", "grb")
    assert "scale 0.0" in refused(capsys, *command, "--scale", "0")
    assert not (tmp_path / "out").exists()


def _written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "verb", [["verify"], ["detect"], ["embed"], ["demo"], ["train", "head"], ["models", "list"], ["models", "show"]]
)
def test_every_verb_has_help_with_an_example(capsys: Capture, verb: list[str]) -> None:
    assert run([*verb, "--help"]) == 0
    assert f"Example: probface {' '.join(verb)}" in capsys.readouterr().out


def test_the_installed_command() -> None:
    def probface_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from probface.cli import main; main()", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert probface_command("--version").stdout == f"probface {probface.__version__}\n"
    helped = probface_command()
    assert (helped.returncode, "Commands:" in helped.stdout) == (0, True)
    wrong = probface_command("verify", "missing.jpg", "missing.jpg")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "See 'probface --help'" in probface_command("vrify").stderr
    assert probface_command("verify", "k\udcff.jpg", "missing.jpg").stderr.count("\n") == 1


def test_a_contract_is_shown_for_a_file(capsys: Capture, tmp_path: Path) -> None:
    from probface.models.registry import resolve_model

    path = tmp_path / "model.onnx"
    path.write_bytes(resolve_model("sface").onnx)  # type: ignore[arg-type]
    shown = document(capsys, "models", "show", path)
    assert ModelContract.from_json(json.dumps(shown)) == resolve_model("sface").contract
    assert run(["models", "show", str(path)]) == 0
    assert "FMR 0.001: threshold" in capsys.readouterr().out


def test_crops_of_images_with_one_name_are_kept_apart(folder: Path, capsys: Capture, tmp_path: Path) -> None:
    names = ["left/x.png", "right/x.png", "x-2.png", "right/x.jpg"]
    for name in names:
        save(tmp_path / name, portrait())
    found = document(capsys, "detect", *(tmp_path / name for name in names), "--crops", tmp_path / "crops")
    assert isinstance(found, list)
    crops = [Path(entry["faces"][0]["crop"]).name for entry in found]
    assert crops == ["x_0.png", "x-2_0.png", "x-2-2_0.png", "x-3_0.png"]
    assert sorted(path.name for path in (tmp_path / "crops").iterdir()) == sorted(crops)


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_reader_that_has_gone_is_no_answer(unbuffered: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from probface.cli import main; main()", "models", "show", "sface"]
    environment = os.environ | ({"PYTHONUNBUFFERED": "1"} if unbuffered else {})
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (2, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no disk that is always full")  # noqa: PTH110
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", [["--version"], ["models", "show", "sface"]])
def test_an_answer_that_cannot_be_written_is_no_answer(unbuffered: str, line: list[str]) -> None:
    command = [sys.executable, "-m", "probface", *line]
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        ended = subprocess.run(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in ended.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ZeroDivisionError("by\n\x1b nought"),
            "unexpected ZeroDivisionError: by \\x1b nought; set PROBFACE_TRACEBACK=1",
        ),
        (PermissionError(13, "Permission denied", "x"), "x: Permission denied; mend that and try again"),
        (MemoryError(), "unexpected MemoryError"),
    ],
)
def test_what_nobody_foresaw_is_trouble_and_no_answer(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("probface.cli.app.app", fail)
    assert line in refused(capsys, "models", "list")
    monkeypatch.setenv("PROBFACE_TRACEBACK", "1")
    assert run(["models", "list"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert line in err


def test_a_report_over_a_photo_is_refused(folder: Path, capsys: Capture) -> None:
    before = (folder / "a.jpg").read_bytes()
    assert "would destroy" in refused(
        capsys, "verify", folder / "a.jpg", folder / "b.png", "--report", folder / "a.jpg"
    )
    assert (folder / "a.jpg").read_bytes() == before


INTERRUPTED = """
import os, signal, sys
from probface.cli import main, output
from contextlib import contextmanager
class Bar:
    def add_task(self, *_, **__): return 0
    def advance(self, *_): os.kill(os.getpid(), signal.SIGINT)
@contextmanager
def bar(): yield Bar()
from probface.cli import embed
embed.progress_bar = bar
main()
"""


def test_an_interrupt_ends_quietly_and_leaves_nothing_half_done(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, "embed", str(folder / "a.jpg"), "--out", str(tmp_path / "e.npz")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []
