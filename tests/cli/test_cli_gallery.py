"""The verbs of a gallery as a user types them."""

import io
import json
import shlex
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import onnx
import pytest

from photos import portrait, save
from probface.cli.app import run
from probface.cli.demo import PORTRAITS, _carried
from probface.models.registry import resolve_model
from probface.pipeline.enroll import enroll

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two people, a gallery of them, and the default model under another digest."""
    folder = tmp_path_factory.mktemp("template")
    for number in range(3):
        save(folder / f"collins-{number}.png", portrait(300 + 40 * number, noise=4.0 * number, seed=number))
    (folder / "hopper.jpg").write_bytes(_carried(*PORTRAITS["hopper.jpg"]))
    save(folder / "wall.png", np.full((300, 300, 3), 120, np.uint8))
    network = resolve_model("sface").onnx
    assert isinstance(network, bytes)
    other = onnx.load_model_from_string(network)
    other.producer_name = "somebody else"
    (folder / "other.onnx").write_bytes(other.SerializeToString())
    enroll("Eileen Collins", [folder / "collins-0.png", folder / "collins-1.png"], folder / "g.db")
    enroll("Hopper", folder / "hopper.jpg", folder / "g.db")
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user is: the photos and the model, and no gallery yet."""
    for path in template.iterdir():
        if path.name != "g.db":
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def place(template: Path, folder: Path) -> Path:
    """The gallery, ``g.db``."""
    return Path(shutil.copy(template / "g.db", folder))


def at(name: str) -> Path:
    """What a gallery in the user's folder calls itself."""
    return Path(name).resolve()


def type_in(line: str) -> int:
    return run(shlex.split(line))


def document(capsys: Capture, line: str, code: int = 0) -> dict[str, object]:
    """Run with --json: one document on standard output, and nothing else."""
    assert type_in(f"{line} --json") == code
    answer = json.loads(capsys.readouterr().out)
    assert isinstance(answer, dict)
    return answer


def refused(capsys: Capture, line: str) -> str:
    """Run what must fail; its one line."""
    assert type_in(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("probface: ")
    assert err.count("\n") == 1
    return err


def test_enroll_and_identify(folder: Path, capsys: Capture) -> None:
    assert type_in("enroll 'Eileen Collins' collins-0.png collins-1.png --gallery g.db") == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"made the gallery {at('g.db')}\nEileen Collins: 2 enrolled, 2 in all\n  collins-0.png: quality "
    )
    answer = document(capsys, "enroll Hopper hopper.jpg --gallery g.db")
    assert list(answer) == ["name", "gallery", "created", "references", "faces"]
    assert (answer["created"], answer["references"]) == (False, 1)
    assert type_in("identify collins-2.png --gallery g.db") == 0
    out = capsys.readouterr().out
    assert out.startswith("Eileen Collins at a false-positive rate of 0.01\n")
    assert "above the threshold" in out
    assert "3 references times the false-match rate" in out
    assert out.index(" 1. ") < out.index(" 2. ")
    answer = document(capsys, "identify hopper.jpg --gallery g.db --metric cosine --top 1 --fpir 0.001")
    keys = ["identified", "name", "reason", "metric", "threshold", "fpir", "basis", "candidates", "face"]
    assert list(answer) == keys
    assert (answer["identified"], answer["name"], answer["metric"]) == (True, "Hopper", "cosine")
    assert len(answer["candidates"]) == 1  # type: ignore[arg-type]
    assert type_in("gallery delete Hopper --gallery g.db --yes") == 0
    assert capsys.readouterr().out == "deleted Hopper: 1 reference\n"
    assert type_in("identify hopper.jpg --gallery g.db") == 1
    assert capsys.readouterr().out.startswith("NOBODY at a false-positive rate of 0.01\n  best candidate: ")
    assert document(capsys, "identify hopper.jpg --gallery g.db", code=1)["name"] is None
    assert type_in("gallery delete 'Eileen Collins' --gallery g.db --yes") == 0
    capsys.readouterr()
    answer = document(capsys, "identify hopper.jpg --gallery g.db", code=1)
    assert (answer["reason"], answer["threshold"], answer["candidates"]) == ("the gallery is empty", None, [])
    assert type_in("identify hopper.jpg --gallery g.db") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("enroll X wall.png --gallery g.db", "wall.png: no face found"),
        ("enroll X gone.png --gallery g.db", "gone.png: no such file"),
        ("enroll '' hopper.jpg --gallery g.db", "identity name ''"),
        ("enroll X hopper.jpg --gallery g.db --templates all", "was made with 'fused', which stays"),
        ("enroll X hopper.jpg --gallery g.db --templates some", "Invalid value for '--templates'"),
        ("enroll X hopper.jpg --gallery g.db --model other.onnx", "holds embeddings of model 'sface'"),
        ("enroll X hopper.jpg --gallery hopper.jpg", "hopper.jpg: "),
        ("enroll X hopper.jpg", "--gallery"),
        ("enroll X --gallery g.db", "IMAGE..."),
        ("identify wall.png --gallery g.db", "wall.png: no face found"),
        ("identify hopper.jpg --gallery gone.db", "gone.db: no such file; enrol somebody to make a gallery"),
        ("identify hopper.jpg --gallery g.db --fpir 0", "FPIR 0"),
        ("identify hopper.jpg --gallery g.db --fpir 1e-6", "needs FMR 5e-07"),
        ("identify hopper.jpg --gallery g.db --model other.onnx", "holds embeddings of model 'sface'"),
        ("gallery list --gallery gone.db", "gone.db: no such file"),
        ("gallery show Nobody --gallery g.db", "identity 'Nobody'"),
        ("gallery delete Hopper Nobody --gallery g.db --yes", "identity 'Nobody'"),
        ("gallery delete Hopper --gallery g.db", "nobody is at a terminal to be asked; give --yes"),
        ("gallery export x.csv --gallery g.db", "must end in .npz or .parquet"),
        ("gallery export hopper.jpg/x.npz --gallery g.db", "cannot be written"),
        ("gallery import gone.npz --gallery g.db", "gone.npz: no such file"),
        ("gallery import hopper.jpg --gallery g.db", "must end in .npz or .parquet"),
        ("gallery migrate --gallery g.db", "takes --model MODEL, or --abandon"),
        ("gallery migrate --gallery g.db --model sface --abandon", "takes --model MODEL, or --abandon"),
        ("gallery migrate --gallery g.db --model nobody", "neither a name"),
        ("gallery verify --gallery gone.db", "gone.db: no such file"),
        ("gallery verify --gallery mysql://me:secret@here/db", "gallery mysql://...: must be postgresql://"),
        ("enroll X hopper.jpg --gallery postgresql+psycopg://me:secret@here/db", "postgresql+psycopg://...: must be"),
    ],
)
def test_trouble_ends_in_one_line_and_changes_nothing(
    place: Path, folder: Path, capsys: Capture, line: str, message: str
) -> None:
    there = {path.name for path in folder.iterdir()}
    told = refused(capsys, line)
    assert message in told
    assert "secret" not in told
    assert {path.name for path in folder.iterdir()} <= there | {"g.db-shm", "g.db-wal", "g.db.index"}
    assert document(capsys, "gallery show --gallery g.db")["references"] == 3


def test_list_and_show(place: Path, template: Path, capsys: Capture) -> None:
    listed = document(capsys, "gallery list --gallery g.db")
    assert [(one["name"], one["references"]) for one in listed["identities"]] == [  # type: ignore[attr-defined]
        ("Eileen Collins", 2),
        ("Hopper", 1),
    ]
    assert len(document(capsys, "gallery list --gallery g.db --limit 1")["identities"]) == 1  # type: ignore[arg-type]
    assert type_in("gallery list --gallery g.db --after Eileen") == 0
    out = capsys.readouterr().out
    assert [line.split("  ")[-1] for line in out.splitlines()] == ["Eileen Collins", "Hopper"]
    assert type_in("gallery show --gallery g.db") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{at('g.db')}: 2 identities, 3 references\n  model sface (")
    assert "images are not kept" in out
    shown = document(capsys, "gallery show --gallery g.db")
    assert shown["model"]["name"] == "sface"  # type: ignore[index]
    assert type_in("gallery show 'Eileen Collins' --gallery g.db") == 0
    out = capsys.readouterr().out
    assert out.startswith("Eileen Collins: 2 references\n")
    assert str(template / "collins-0.png") in out
    one = document(capsys, "gallery show Hopper --gallery g.db")["references"]
    assert [entry["source"] for entry in one] == [str(template / "hopper.jpg")]  # type: ignore[attr-defined]


def test_texts_from_a_file_cannot_steer_the_terminal(place: Path, capsys: Capture) -> None:
    connection = sqlite3.connect(place)
    with connection:
        connection.execute("UPDATE reference SET source = ?", ("a\x1b[2J\n\u202eb ä.png",))
    connection.close()
    assert type_in("gallery show Hopper --gallery g.db") == 0
    out = capsys.readouterr().out
    assert "a\\x1b[2J\\n\\u202eb ä.png" in out
    assert all(line.isprintable() for line in out.splitlines())
    assert document(capsys, "gallery show Hopper --gallery g.db")["references"][0]["source"].startswith("a\x1b")  # type: ignore[index]


def test_an_export_over_its_own_gallery(place: Path, capsys: Capture) -> None:
    place.rename("g.npz")
    Path("link.npz").symlink_to("g.npz")
    for out in ("g.npz", "./g.npz", "link.npz"):
        assert "would destroy" in refused(capsys, f"gallery export {out} --gallery g.npz")
    assert document(capsys, "gallery show --gallery g.npz")["references"] == 3


def test_thresholds_that_nobody_here_can_confirm(place: Path, capsys: Capture) -> None:
    assert type_in("gallery export x.npz --gallery g.db") == 0
    capsys.readouterr()
    with np.load("x.npz") as arrays:
        changed = dict(arrays)
    settings = json.loads(str(changed["gallery"]))
    settings["settings"]["model"]["digest"] = "d" * 64
    np.savez("y.npz", **{**changed, "gallery": np.array(json.dumps(settings))})
    assert document(capsys, "gallery import y.npz --gallery y.db")["unconfirmed"] is True
    assert type_in("gallery import y.npz --gallery z.db") == 0
    assert "warning: model 'sface' is not known here by that name and digest" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 1), ("n\n", 1, 2), ("\n", 1, 2), ("", 1, 2)])
def test_deletion_is_confirmed_at_a_terminal(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: int
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert type_in("gallery delete 'Eileen Collins' --gallery g.db --json") == code
    out, err = capsys.readouterr()
    assert f"Delete 'Eileen Collins' with 2 references from {at('g.db')}? [y/N]" in err
    assert ("nothing was deleted" in err) is (code == 1)
    assert (out == "") is (code == 1)
    if code == 0:
        assert json.loads(out) == {"gallery": str(at("g.db")), "deleted": ["Eileen Collins"], "references": 2}
    assert document(capsys, "gallery show --gallery g.db")["identities"] == left


def test_deletion_of_several(place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert type_in("gallery delete Hopper 'Eileen Collins' Hopper --gallery g.db") == 0
    out, err = capsys.readouterr()
    assert "Delete 2 identities with 3 references" in err
    assert out == "deleted Hopper, Eileen Collins: 3 references\n"


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_export_and_import(place: Path, capsys: Capture, suffix: str) -> None:
    assert type_in(f"gallery export x.{suffix} --gallery g.db") == 0
    assert capsys.readouterr().out == f"3 references -> x.{suffix}\n"
    assert document(capsys, f"gallery export x.{suffix} --gallery g.db") == {"out": f"x.{suffix}", "references": 3}
    assert type_in(f"gallery import x.{suffix} --gallery h.db") == 0
    assert capsys.readouterr().out == f"3 references of 2 identities -> {at('h.db')} (made)\n  of model sface\n"
    assert type_in("identify collins-2.png --gallery h.db") == 0
    assert type_in("gallery verify --gallery h.db") == 0


def test_one_command_moves_another_systems_gallery_over(folder: Path, capsys: Capture) -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 512)).astype(np.float32)
    np.savez("old.npz", names=np.array([f"person {number}" for number in range(20)]), embeddings=vectors)
    line = "gallery import old.npz --gallery faces.db --sigma-sq 0.3 --model-name w600k_r50"
    assert document(capsys, line) == {
        "gallery": str(at("faces.db")),
        "created": True,
        "references": 20,
        "identities": 20,
        "model": "w600k_r50",
        "normalised": 20,
        "unconfirmed": False,
    }
    assert type_in(line) == 0
    assert "20 rows scaled to length 1" in capsys.readouterr().out
    assert "declared at an import" in (type_in("gallery show --gallery faces.db") == 0 and capsys.readouterr().out)
    assert "its model 'w600k_r50' was declared" in refused(capsys, "identify hopper.jpg --gallery faces.db")
    np.savez("bad.npz", names=np.array([{}], object), embeddings=vectors[:1])
    line = refused(capsys, "gallery import bad.npz --gallery faces.db --sigma-sq 0.3 --model-name w600k_r50")
    assert "its array 'names' cannot be read (Object arrays cannot be loaded" in line


def test_migration(folder: Path, capsys: Capture) -> None:
    assert type_in("enroll 'Eileen Collins' collins-0.png collins-1.png --gallery g.db") == 0
    assert type_in("enroll Hopper hopper.jpg --gallery g.db") == 0
    capsys.readouterr()
    (folder / "hopper.jpg").rename(folder / "away.jpg")
    assert type_in("gallery migrate --model other.onnx --gallery g.db") == 1
    out, err = capsys.readouterr()
    assert err == (
        f"probface: warning: Hopper: no image was kept, and {folder}/hopper.jpg cannot be read (No such file or "
        "directory)\n"
    )
    assert out.startswith(
        f"{at('g.db')}: stays on model sface; 2 images embedded\n  missing: 1 image of 1 identity; bring them"
    )
    answer = document(capsys, "gallery migrate --model other.onnx --gallery g.db", code=1)
    assert list(answer) == ["gallery", "model", "finished", "embedded", "missing"]
    assert (answer["finished"], answer["embedded"]) == (False, 0)
    assert type_in("gallery migrate --abandon --gallery g.db") == 0
    assert capsys.readouterr().out == "no migration is under way\n"
    (folder / "away.jpg").rename(folder / "hopper.jpg")
    assert type_in("gallery migrate --model other.onnx --gallery g.db") == 0
    assert capsys.readouterr().out == f"{at('g.db')}: on model sface, 3 images embedded\n"
    assert "give that model" in refused(capsys, "identify hopper.jpg --gallery g.db")
    assert type_in("identify hopper.jpg --gallery g.db --model other.onnx") == 0
    assert type_in("gallery verify --gallery g.db") == 0
    capsys.readouterr()
    assert document(capsys, "gallery migrate --abandon --gallery g.db") == {"abandoned": True}


def test_verify_says_what_is_wrong(place: Path, capsys: Capture) -> None:
    assert type_in("gallery verify --gallery g.db") == 0
    assert capsys.readouterr().out == f"{at('g.db')}: sound\n"
    assert document(capsys, "gallery verify --gallery g.db") == {"gallery": str(at("g.db")), "sound": True, "wrong": []}
    connection = sqlite3.connect(place)
    with connection:
        connection.execute("UPDATE reference SET mu = x'00' WHERE id = 2")
    connection.close()
    assert type_in("gallery verify --gallery g.db") == 1
    assert capsys.readouterr().out.count("\n") >= 1
    answer = document(capsys, "gallery verify --gallery g.db", code=1)
    assert answer["sound"] is False
    assert answer["wrong"]


VERBS = [
    "score",
    "enroll",
    "identify",
    *(f"gallery {verb}" for verb in ("list", "show", "delete", "export", "import", "migrate", "verify")),
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example(capsys: Capture, verb: str) -> None:
    assert type_in(f"{verb} --help") == 0
    out = capsys.readouterr().out
    assert f"Example: probface {verb} " in out
    assert "--json" in out
