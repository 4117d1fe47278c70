"""The rules of the house that a program can check."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import probface

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
CODE = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_no_file_is_longer_than_400_lines() -> None:
    long = {str(path): len(path.read_text().splitlines()) for path in CODE}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_no_name_that_says_nothing() -> None:
    assert [path for path in CODE if path.stem in {"utils", "helpers", "common", "misc"}] == []


def test_only_the_command_line_prints() -> None:
    def prints(path: Path) -> bool:
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)

    assert [path for path in SOURCES if "cli" not in path.parts and prints(path)] == []


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
