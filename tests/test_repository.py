"""The rules of the house that a program can check."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import probface

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
CODE = [*SOURCES, *(path for room in ("tests", "benchmarks", "docs") for path in sorted((ROOT / room).rglob("*.py")))]
SCRIPTS = [ROOT / ".ci" / "run", *sorted((ROOT / "scripts").iterdir())]
SOURCES_OF = {room: [path for path in SOURCES if path.parent.name == room] for room in ("score", "loss")}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_no_file_is_longer_than_400_lines() -> None:
    long = {str(path): len(path.read_text().splitlines()) for path in CODE}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_no_name_that_says_nothing() -> None:
    empty = {"utils", "helpers", "common", "misc"}
    assert [path for path in CODE if empty & {path.stem, *path.relative_to(ROOT).parts}] == []


def test_only_the_command_line_prints() -> None:
    def prints(path: Path) -> bool:
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)

    assert [path for path in SOURCES if "cli" not in path.parts and prints(path)] == []


def test_no_star_import_and_no_note_to_do_it_later() -> None:
    pattern = re.compile(r"^\s*from \S+ import \*|#\s*(?:TODO|FIXME|XXX)\b", re.M)
    assert [path for path in CODE if pattern.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_can_be_read_by_the_shell(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def test_every_dependency_is_pinned_for_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []  # no paths, no local builds

    def plain(requirement: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~;\s]", requirement)[0]).lower()

    assert {plain(line) for line in asked} - {"probface"} <= {plain(pin) for pin in pins}


def test_the_version_is_told_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == probface.__version__


@pytest.mark.parametrize("script", sorted((ROOT / "docs" / "img").glob("draw_*.py")), ids=lambda script: script.stem)
def test_pictures_are_what_their_scripts_draw(script: Path) -> None:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    picture = script.with_name(script.stem.removeprefix("draw_") + ".svg")
    assert picture.read_text(encoding="utf-8") == module.drawing()


def test_the_architecture_page_knows_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "probface"
    rooms = [f"`{path.name}/`" for path in package.iterdir() if (path / "__init__.py").exists()]
    modules = [f"`{path.stem}`" for path in package.glob("*.py") if path.stem != "__init__"]
    assert [name for name in (*rooms, *modules) if name not in text] == []


def test_the_formula_page_names_every_formula() -> None:
    text = (ROOT / "docs" / "formulas.md").read_text(encoding="utf-8")
    plumbing = {"__init__.py", "arrays.py", "pairs.py"}
    files = [f"{path.parent.name}/{path.name}" for room in ("score", "loss") for path in SOURCES_OF[room]]
    assert [name for name in files if Path(name).name not in plumbing and name not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_resolve(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_readme_shows_code_by_line_25() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert "```python" in lines[:25]


def test_the_public_names() -> None:
    assert sorted(probface._HOMES) == probface.__all__
    for name in probface.__all__:
        assert getattr(probface, name).__doc__, name
    assert set(probface.__all__) <= set(dir(probface))
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'; see probface.__all__"):
        _ = probface.nothing


LOADED = """
import sys
try:
    {statement}
except SystemExit:
    pass
heavy = ("torch", "onnxruntime", "onnx", "cv2", "scipy", "PIL", "pyarrow", "matplotlib", "skimage")
print("LOADED", [name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import probface",
        "from probface.cli.app import run; run(['--help'])",
        "from probface.cli.app import run; run([])",
    ],
)
def test_what_is_asked_first_loads_nothing_heavy(statement: str) -> None:
    code = LOADED.format(statement=statement)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.rstrip().endswith("LOADED []")


def test_verifying_loads_no_torch() -> None:
    code = LOADED.format(
        statement="import probface; from skimage.data import astronaut; probface.verify(astronaut(), astronaut())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "onnxruntime" in ended.stdout
    assert "torch" not in ended.stdout
