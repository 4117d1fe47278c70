import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from probface.errors import TrainingError
from probface.train import checkpoint, fit
from probface.train.config import HeadConfig, HeadRecipe, LossConfig, OptimiserConfig, Variant
from probface.train.feature_source import TrainingFeatures
from probface.train.fit import fit_head, learning_rate, sgd

DIM, PEOPLE, IMAGES = 16, 24, 4


def blurry_world(seed: int = 0) -> tuple[TrainingFeatures, np.ndarray]:
    """Faces whose noise is known: the first feature tells how strongly the embedding was disturbed."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(PEOPLE), IMAGES)
    identity = rng.normal(size=(PEOPLE, DIM))[people]
    noise = rng.uniform(0.05, 1.5, len(people))
    embedding = identity + noise[:, None] * rng.normal(size=identity.shape)
    clues = noise[:, None] * np.array([3.0, -1.0]) + 0.05 * rng.normal(size=(len(people), 2))
    features = np.concatenate([clues, embedding], axis=1).astype(np.float32)
    return TrainingFeatures([features], [1.0], people, DIM), noise


def small_recipe(**changes: object) -> HeadRecipe:
    optimiser = OptimiserConfig(steps=120, people=8, images=4)
    settings: dict[str, object] = {
        "variants": (Variant("clean"),),
        "loss": LossConfig(lambda_c=0.01, lambda_id=0.05, margin=1.0),
        "optimiser": optimiser,
        "head": HeadConfig(hidden=16),
    }
    return HeadRecipe("small", **(settings | changes))  # type: ignore[arg-type]


def state(head: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in head.state_dict().items()}


def test_the_head_learns_what_disturbs_the_embedding(tmp_path: Path) -> None:
    features, noise = blurry_world()
    recipe = small_recipe(optimiser=OptimiserConfig(steps=600, people=8, images=4))
    head = fit_head(features, recipe, tmp_path)
    with torch.no_grad():
        log_sigma_sq = head(torch.from_numpy(features.copies[0]))[:, 0].numpy()
    ranks = [np.argsort(np.argsort(values)) for values in (log_sigma_sq, noise)]
    assert np.corrcoef(*ranks)[0, 1] > 0.7


@pytest.mark.parametrize("outputs", ["scalar", "diagonal"])
def test_resuming_ends_with_the_same_weights_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs: str
) -> None:
    monkeypatch.setattr(fit, "CHECKPOINT_EVERY", 40)
    features, _ = blurry_world()
    recipe = small_recipe(head=HeadConfig(hidden=16, outputs=outputs))  # type: ignore[arg-type]
    whole = state(fit_head(features, recipe, tmp_path / "whole"))
    fit_head(features, recipe, tmp_path / "cut")
    for path in sorted((tmp_path / "cut").glob("checkpoint-*"))[1:]:
        path.unlink()  # as if killed before the last checkpoint
    resumed = state(fit_head(features, recipe, tmp_path / "cut", resume=True))
    assert checkpoint.latest(tmp_path / "cut", checkpoint.Origin(recipe)).step == 120  # type: ignore[union-attr]
    for name, values in whole.items():
        np.testing.assert_array_equal(values, resumed[name], err_msg=name)


def test_the_ranking_loss_takes_part_by_its_weight(tmp_path: Path) -> None:
    features, _ = blurry_world()
    logs = []
    for weight in (0.0, 4.0):
        folder = tmp_path / f"{weight:g}"
        fit_head(features, small_recipe(loss=LossConfig(lambda_rank=weight, rank_fmr=0.1)), folder)
        logs.append([json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()])
    without, with_it = logs
    assert {line["ranking"] for line in without} == {0.0}
    for line in with_it:
        assert line["ranking"] > 0
        assert line["loss"] == pytest.approx(line["likelihood"] + 4 * line["ranking"], rel=1e-5)


def test_only_two_checkpoints_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "CHECKPOINT_EVERY", 30)
    fit_head(blurry_world()[0], small_recipe(), tmp_path)
    assert [p.name for p in sorted(tmp_path.glob("checkpoint-*"))] == [
        "checkpoint-0000090.safetensors",
        "checkpoint-0000120.safetensors",
    ]


def test_resuming_with_another_recipe_names_the_difference(tmp_path: Path) -> None:
    fit_head(blurry_world()[0], small_recipe(), tmp_path)
    other = small_recipe(loss=LossConfig(lambda_c=0.5, lambda_id=0.05, margin=1.0))
    with pytest.raises(TrainingError, match=r"loss.lambda_c was 0.01, is 0.5"):
        fit_head(blurry_world()[0], other, tmp_path, resume=True)


def test_a_loss_that_explodes_stops_training_and_says_which_term(tmp_path: Path) -> None:
    recipe = small_recipe(optimiser=OptimiserConfig(steps=120, people=8, images=4, lr=1e30))
    with pytest.raises(TrainingError, match=r"step [1-9]: L_\w+ is (nan|inf).*; lower optimiser.lr"):
        fit_head(blurry_world()[0], recipe, tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_the_term_that_overflows_is_named(tmp_path: Path) -> None:
    features, _ = blurry_world()
    recipe = small_recipe(loss=LossConfig(lambda_c=0.01, lambda_id=0.05, margin=math.inf))
    with pytest.raises(TrainingError, match=r"step 1: L_Id is inf; lower optimiser.lr or the weight of the term"):
        fit_head(features, recipe, tmp_path)


def test_resuming_for_another_backbone_is_refused(tmp_path: Path) -> None:
    features, _ = blurry_world()
    fit_head(replace(features, digest="one"), small_recipe(), tmp_path)
    with pytest.raises(TrainingError, match="or for another backbone"):
        fit_head(replace(features, digest="two"), small_recipe(), tmp_path, resume=True)


def test_images_left_out_are_listed(tmp_path: Path) -> None:
    fit_head(blurry_world()[0], small_recipe(), tmp_path, left_out=["a.png: torn", "b.png: no face"])
    fit_head(blurry_world()[0], small_recipe(), tmp_path, left_out=["a.png: torn"])
    assert (tmp_path / "unreadable.txt").read_text() == "a.png: torn\n"


def test_features_that_are_not_finite_are_told(tmp_path: Path) -> None:
    features, _ = blurry_world()
    features.copies[0][:, 1] = np.nan
    with pytest.raises(TrainingError, match="feature 1 is not finite"):
        fit_head(features, small_recipe(), tmp_path)


def test_the_log_tells_every_term(tmp_path: Path) -> None:
    fit_head(blurry_world()[0], small_recipe(), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100, 120]
    for line in lines:
        weighted = line["likelihood"] + 0.01 * line["constraint"] + 0.05 * line["identification"]
        assert math.isclose(line["loss"], weighted, rel_tol=1e-5)
        assert 0 < line["sigma_sq_min"] <= line["sigma_sq_median"] <= line["sigma_sq_max"]


def test_the_learning_rate_falls_at_the_milestones() -> None:
    config = OptimiserConfig(steps=100, lr=0.01, milestones=(0.5, 0.75), decay=0.1)
    assert [learning_rate(config, step) for step in (0, 49, 50, 74, 75)] == pytest.approx(
        [1e-2, 1e-2, 1e-3, 1e-3, 1e-4]
    )


def test_weight_decay_falls_on_the_linear_weights_only(tmp_path: Path) -> None:
    head = fit_head(blurry_world()[0], small_recipe(), tmp_path)
    decayed, free = sgd(head, OptimiserConfig(weight_decay=0.1)).param_groups
    assert {id(p) for p in decayed["params"]} == {id(head.fc1.weight), id(head.fc2.weight)}
    assert free["weight_decay"] == 0
    assert len(decayed["params"]) + len(free["params"]) == len(list(head.parameters()))


def test_training_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit_head(blurry_world()[0], small_recipe(), tmp_path)
    torch.testing.assert_close(torch.rand(4), expected, rtol=0, atol=0)


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from test_fit import blurry_world, small_recipe
from probface.train import fit
fit.CHECKPOINT_EVERY, fit.LOG_EVERY = 20, 10
def die(line):
    if line.step >= 50:
        os.kill(os.getpid(), 9)
fit.fit_head(blurry_world()[0], small_recipe(), {folder!r}, progress=die)
"""


def test_a_killed_process_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = KILLED.format(tests=str(Path(__file__).parent), folder="FOLDER").replace(
        "'FOLDER'", f"__import__('pathlib').Path({str(tmp_path / 'cut')!r})"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == -9, ended.stderr
    monkeypatch.setattr(fit, "CHECKPOINT_EVERY", 20)
    resumed = state(fit_head(blurry_world()[0], small_recipe(), tmp_path / "cut", resume=True))
    whole = state(fit_head(blurry_world()[0], small_recipe(), tmp_path / "whole"))
    for name, values in whole.items():
        np.testing.assert_array_equal(values, resumed[name], err_msg=name)


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_fit import blurry_world, small_recipe
from probface.errors import StorageError
from probface.train import fit
fit.CHECKPOINT_EVERY, fit.LOG_EVERY = 20, 1000
folder = Path(sys.argv[1])
def fill(*state):
    save(*state)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
save, fit.checkpoint.save = fit.checkpoint.save, fill
try:
    fit.fit_head(blurry_world()[0], small_recipe(), folder)
except StorageError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL.format(tests=str(Path(__file__).parent)), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "checkpoint-0000040.safetensors: cannot be written (File too large)" in ended.stdout
    assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint-0000020.safetensors"]
    state_before = checkpoint.latest(tmp_path, checkpoint.Origin(small_recipe()))
    assert state_before is not None
    assert state_before.step == 20
