from pathlib import Path

import pytest

from probface.errors import DataError, InvalidValue
from probface.train.backbone_config import BackboneRecipe
from probface.train.config import DataConfig, HeadRecipe, Variant, read_recipe
from probface.train.recipe import read_toml

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_in_the_repository_reads(path: Path) -> None:
    recipe = read_toml(path, BackboneRecipe if path.parent.name == "backbones" else HeadRecipe)
    assert recipe.name == path.stem
    assert not set(recipe.data.train_folds) & set(recipe.data.calibration_folds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[loss]\nlamda_c = 1.0", "unknown key 'lamda_c'"),
        ("[optimiser]\nsteps = 'many'", "must be of type int"),
        ("[optimiser]\nsteps = true", "must be of type int"),
        ("[loss]\nmining = 'hardest'", "must be one of 'semi_hard', 'all'"),
        ("[data]\ntrain_folds = [1, 8]", "fold 8 both trains and calibrates"),
        ("[[variants]]\nstate = 'foggy'", "must be one of clean, mirror"),
        ("[[variants]]\nstate = 'moderate'", "'clean' among them"),
        ("[loss]\nlambda_c = -1", "must be 0 or more"),
    ],
)
def test_a_wrong_recipe_is_told_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(InvalidValue, match=message):
        read_recipe(path)


def test_a_recipe_that_is_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("steps = = 3")
    with pytest.raises(DataError, match="is not TOML"):
        read_recipe(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_recipe(tmp_path / "missing.toml")


def test_the_digest_follows_the_content() -> None:
    assert HeadRecipe("a").digest == HeadRecipe("a").digest
    assert HeadRecipe("a").digest != HeadRecipe("a", seed=1).digest


def test_ranges_are_checked() -> None:
    with pytest.raises(InvalidValue, match="numbered 1 to 10"):
        DataConfig(train_folds=(0,))
    with pytest.raises(InvalidValue, match="copies must be 1"):
        Variant("clean", copies=0)
