from pathlib import Path

import pytest

from probface.errors import DataError, InvalidValue
from probface.train.backbone_config import BackboneRecipe, read_backbone_recipe
from probface.train.config import DataConfig, HeadRecipe, Variant, read_recipe
from probface.train.recipe import read_toml, shipped_recipes

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for place in ("recipes", "src") for path in (ROOT / place).rglob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_in_the_repository_reads(path: Path) -> None:
    recipe = read_toml(path, BackboneRecipe if path.parent.name == "backbones" else HeadRecipe)
    assert recipe.name == path.stem
    if isinstance(recipe, HeadRecipe):
        assert not set(recipe.data.train_folds) & set(recipe.data.calibration_folds)


def test_the_recipes_of_the_paper_come_by_name() -> None:
    heads = [read_recipe(name) for name in ("probface", "mls", "mls-lc-lid", "pfe", "authors", "authors-half")]
    assert {recipe.features for recipe in heads} == {"live"}
    assert not any(recipe.head.embedding or recipe.head.standardise for recipe in heads)
    assert not any(recipe.loss.lambda_rank for recipe in heads)
    assert [recipe.head.outputs for recipe in heads].count("diagonal") == 1
    assert set(shipped_recipes(".")) == {recipe.name for recipe in heads}
    backbones = {name: read_backbone_recipe(name).architecture for name in shipped_recipes("backbones")}
    assert {name: (arch.name, arch.width, arch.dim) for name, arch in backbones.items()} == {
        "base": ("resface64", 1.0, 512),
        "base-half": ("resface64", 0.5, 256),
    }
    with pytest.raises(
        DataError, match="recipe proface: no such name or file; the names are authors, authors-half, mls"
    ):
        read_recipe("proface")


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
        ("[loss]\nlambda_c = -1", "lambda_c -1.0: must be 0 or more"),
        ("[loss]\nlambda_rank = -1", "lambda_rank -1.0: must be 0 or more"),
        ("[loss]\nrank_fmr = 1.5", "rank_fmr 1.5, rank_slope 2.0: must be in"),
        ("[loss]\nrank_slope = 0", "rank_slope 0.0: must be in"),
        ("[loss]\nlambda_rank = 1\n[head]\noutputs = 'diagonal'", "lambda_rank 1.0 with outputs 'diagonal'"),
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
