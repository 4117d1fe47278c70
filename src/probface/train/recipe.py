"""What every recipe has: a name, a strict reading from TOML, one canonical text."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar

from probface.errors import DataError
from probface.schema import from_plain


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that makes a model, but the images themselves."""

    name: str

    def to_json(self) -> str:
        """One JSON object; the same recipe always gives the same text."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 of :meth:`to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def shipped_recipes(folder: str) -> dict[str, Path]:
    """Name -> file of the recipes that come with the package: the paper's table, and the authors' variants.

    Args:
        folder: ``.`` for those of heads, ``backbones`` for those of recognition networks.
    """
    place = Path(str(resources.files("probface.train"))) / "recipes" / folder
    return {path.stem: path for path in sorted(place.glob("*.toml"), key=lambda path: path.stem)}


def find_recipe(recipe: str | os.PathLike[str], folder: str) -> Path:
    """The file of a shipped recipe, by its name, or the path as it is.

    Raises:
        DataError: neither.
    """
    shipped = shipped_recipes(folder)
    if isinstance(recipe, str) and recipe in shipped:
        return shipped[recipe]
    path = Path(recipe)
    if not path.suffix and not path.is_file():
        raise DataError(f"recipe {recipe}: no such name or file; the names are {', '.join(shipped)}")
    return path


R = TypeVar("R", bound=Recipe)


def read_toml(path: Path, kind: type[R]) -> R:
    """Read a recipe of one kind from a TOML file; its name is the file's unless it says another.

    Raises:
        DataError: no such file, or not TOML.
        InvalidValue: an unknown key, a wrong type or a value out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"recipe {path}: cannot be read ({error.strerror}); give an existing TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"recipe {path}: is not TOML ({error}); mend that line") from error
    return from_plain(kind, {"name": path.stem, **table}, f"recipe {path.name}")
