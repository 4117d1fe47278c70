import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from people_folder import write_people
from safetensors.torch import load_file
from tiny_backbone import IMAGES, PEOPLE, TINY, tiny
from torch import Tensor
from torch.nn import functional

from probface.contract import InputSpec
from probface.encoder.preprocess import to_input
from probface.encoder.session import Network
from probface.errors import DataError, InvalidValue, ProbFaceError, TrainingError
from probface.loss.margin import with_margin
from probface.models.backbone import load_backbone
from probface.nn.architecture import as_module, build_backbone
from probface.nn.network_file import load_network
from probface.nn.scaling import mirrored_where
from probface.readers.open import open_items
from probface.train import backbone_loop, checkpoint
from probface.train.augmentation import Augmentation
from probface.train.backbone import TrainedBackbone, train_backbone
from probface.train.backbone_config import AugmentConfig, BackboneOptimiser
from probface.train.class_layer import ClassLayer
from probface.train.crops import EncodedCrops
from probface.train.image_table import ImageTable
from probface.train.sampler import shuffled

VARIED = replace(
    tiny(steps=25, batch=8, warmup=5, milestones=(0.5,)),
    architecture=replace(TINY.architecture, dropout=0.3),
    augment=AugmentConfig(mirror=0.5, degraded=0.3),
)
"""With all that is drawn by chance."""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"), PEOPLE, IMAGES)


@pytest.fixture(scope="module")
def trained(people: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedBackbone:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone_loop, "LOG_EVERY", 1)
        return train_backbone(people, tmp_path_factory.mktemp("trained"), recipe=TINY, device="cpu")


def train(people: Path, out: Path, recipe: object = TINY, *, resume: bool = False) -> dict[str, Tensor]:
    train_backbone(people, out, recipe=recipe, resume=resume, device="cpu")  # type: ignore[arg-type]
    return load_file(out / "backbone.safetensors")


def lines_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def crops_of(people: Path) -> EncodedCrops:
    return EncodedCrops(ImageTable(open_items(people)), TINY.architecture.input)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=name)


def cosines(people: Path, folder: Path, *, training: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of all pairs of two images of one person, and of all others."""
    crops = crops_of(people)
    saved = load_network(folder / "backbone.safetensors", TINY.architecture)
    images = np.stack([crops.crop(i) for i in range(len(crops.people))])
    with torch.no_grad():
        given = torch.from_numpy(to_input(images, saved.input))
        mu = functional.normalize(as_module(saved.network).train(training)(given).embedding).numpy()
    of_one = crops.people[:, None] == crops.people
    return (mu @ mu.T)[np.triu(of_one, 1)], (mu @ mu.T)[~of_one]


def test_it_learns_to_tell_people_apart(people: Path, trained: TrainedBackbone) -> None:
    assert (trained.images, trained.identities, trained.failed) == (PEOPLE * IMAGES, PEOPLE, ())
    losses = [line["loss"] for line in lines_of(trained.folder)]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.2 * np.mean(losses[:5])
    # So few steps leave the running means of batch norm far behind: its batch is the whole set here.
    same, others = cosines(people, trained.folder, training=True)
    assert same.min() > others.max() + 0.2


@pytest.mark.slow
def test_what_it_learns_is_in_the_network_that_is_saved(people: Path, tmp_path: Path) -> None:
    train(people, tmp_path, tiny(steps=400, batch=8))
    same, others = cosines(people, tmp_path, training=False)
    assert same.min() > others.max() + 0.2


def test_the_folder_holds_a_network_for_any_tool(people: Path, trained: TrainedBackbone) -> None:
    folder = trained.folder
    backbone = load_backbone(folder / "backbone.onnx")
    assert backbone.input == TINY.architecture.input == InputSpec(96, 96, mean=128.0, scale=128.0)
    assert backbone.face.dim == 16
    crops = crops_of(people)
    images = np.stack([crops.crop(i) for i in (0, 7, 33)])
    (found,) = Network(folder / "backbone.onnx", backbone.input, ("embedding",), threads=1).run(images)
    saved = load_network(folder / "backbone.safetensors")
    with torch.no_grad():
        wanted = as_module(saved.network)(torch.from_numpy(to_input(images, saved.input))).embedding.numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    state = checkpoint.latest(folder, checkpoint.Origin(TINY))
    assert state is not None
    assert_same(load_file(folder / "backbone.safetensors"), state.weights)
    assert json.loads((folder / "recipe.json").read_text()) == json.loads(TINY.to_json())
    assert json.loads((folder / "provenance.json").read_text())["recipe"] == json.loads(TINY.to_json())


def by_hand(people: Path, config: BackboneOptimiser) -> dict[str, Tensor]:
    """The same training, written out: torch's own cross entropy, and SGD's formula."""
    crops = crops_of(people)
    torch.manual_seed(TINY.seed)
    network = as_module(build_backbone(TINY.architecture)).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    layer = ClassLayer(PEOPLE, 16, kind="cosface", margin=0.2, scale=8.0)
    parameters = [*network.parameters(), layer.weight]
    velocity = [torch.zeros_like(parameter) for parameter in parameters]
    for step in range(config.steps):
        loss = torch.zeros(())
        for images in shuffled(len(crops.people), config.batch, TINY.seed, step).reshape(config.accumulate, -1):
            x = torch.from_numpy(np.stack([crops.crop(i) for i in images])).float().permute(0, 3, 1, 2)
            labels, rows = torch.from_numpy(crops.people[images]), torch.arange(len(images))
            cos = functional.normalize(network((x - 128) / 128).embedding) @ functional.normalize(layer.weight).T
            cos = cos.index_put((rows, labels), with_margin(cos[rows, labels], "cosface", 0.2))
            loss = loss + functional.cross_entropy(8 * cos, labels) / config.accumulate
        slopes = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, speed, slope in zip(parameters, velocity, slopes, strict=True):
                speed.mul_(config.momentum).add_(slope + config.weight_decay * parameter)
                parameter -= config.lr * speed
    return network.state_dict()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_few_steps_are_those_written_out(people: Path, tmp_path: Path, accumulate: int) -> None:
    recipe = replace(tiny(steps=3, accumulate=accumulate, milestones=(), lr=1e-4), sync_batch_norm=False)
    with torch.random.fork_rng():
        wanted = by_hand(people, recipe.optimiser)
    found = train(people, tmp_path, recipe)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


KILLED = """
import os, sys
from test_backbone import VARIED
from probface.train import backbone_loop
from probface.train.backbone import train_backbone
backbone_loop.CHECKPOINT_EVERY, backbone_loop.LOG_EVERY = 10, 1
def die(line):
    if line.step == 17:
        os.kill(os.getpid(), 9)
train_backbone(sys.argv[1], sys.argv[2], recipe=VARIED, device="cpu", on_log=die)
"""


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", KILLED, str(people), str(tmp_path / "cut")]
    ended = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert ended.returncode == -9, ended.stderr
    assert len(lines_of(tmp_path / "cut")) == 17
    monkeypatch.setattr(backbone_loop, "LOG_EVERY", 1)
    resumed = train(people, tmp_path / "cut", VARIED, resume=True)
    assert_same(resumed, train(people, tmp_path / "whole", VARIED))
    logs = [[{**line, "images_per_second": 0} for line in lines_of(tmp_path / name)] for name in ("cut", "whole")]
    assert logs[0] == logs[1]


def test_resuming_what_is_finished_changes_nothing(people: Path, trained: TrainedBackbone, tmp_path: Path) -> None:
    before = lines_of(trained.folder)
    shutil.copytree(trained.folder, tmp_path / "copy")
    again = train(people, tmp_path / "copy", resume=True)
    assert_same(again, load_file(trained.folder / "backbone.safetensors"))
    assert lines_of(tmp_path / "copy") == before


def test_resuming_otherwise_is_refused(people: Path, trained: TrainedBackbone, tmp_path: Path) -> None:
    other = replace(TINY, margin=replace(TINY.margin, margin=0.3))
    with pytest.raises(TrainingError, match=r"another recipe \(margin.margin was 0.2, is 0.3\); resume with"):
        train(people, trained.folder, other, resume=True)
    fewer = shutil.copytree(people, tmp_path / "people")
    shutil.rmtree(fewer / "person-03")
    with pytest.raises(TrainingError, match="made from other people's images"):
        train(fewer, trained.folder, resume=True)


def test_a_loss_that_explodes_stops_and_keeps_the_last_checkpoint(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone_loop, "CHECKPOINT_EVERY", 5)
    monkeypatch.setattr(backbone_loop, "LOG_EVERY", 1)
    recipe = tiny(steps=20, milestones=(0.5,), decay=1e30)  # from step 11 on
    with pytest.raises(TrainingError, match=r"step 1\d: the cosface loss is (nan|inf); train anew"):
        train(people, tmp_path, recipe)
    state = checkpoint.latest(tmp_path, checkpoint.Origin(recipe))
    assert state is not None
    assert state.step == 10
    assert all(tensor.isfinite().all() for tensor in state.weights.values())
    assert not (tmp_path / "backbone.onnx").exists()


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"batch": 41}, DataError, "40 images: a batch needs 41; bring more images, or set optimiser.batch lower"),
        ({"batch": 15, "accumulate": 2}, InvalidValue, "optimiser.batch 15: must be a multiple of processes x accum"),
        ({"batch": 8, "accumulate": 8}, InvalidValue, "with two images or more in each part"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    people: Path, tmp_path: Path, changes: dict[str, int], kind: type[ProbFaceError], words: str
) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        train(people, tmp_path, tiny(**changes))


def test_one_identity_is_refused(tmp_path: Path) -> None:
    root = write_people(tmp_path / "people", 1)
    with pytest.raises(DataError, match="one identity only; training tells identities apart, bring two or more"):
        train(root, tmp_path / "out")


def test_training_leaves_the_global_random_state_alone(people: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train(people, tmp_path, tiny(VARIED, steps=2))
    torch.testing.assert_close(torch.rand(4), expected, rtol=0, atol=0)


def test_the_rate_rises_then_falls_at_the_milestones() -> None:
    config = BackboneOptimiser(steps=100, lr=0.4, warmup=4, milestones=(0.5, 0.75), decay=0.1)
    rates = [config.rate(step) for step in (0, 1, 3, 4, 49, 50, 74, 75, 99)]
    assert rates == pytest.approx([0.1, 0.2, 0.4, 0.4, 0.4, 0.04, 0.04, 0.004, 0.004])


def test_a_face_is_changed_by_its_place_in_the_whole_batch_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)

    def changed(mirror: float, degraded: float, start: int, places: range) -> list[np.ndarray]:
        change = Augmentation(AugmentConfig(mirror, degraded), 7, 3, 400, start)
        degraded_ = np.stack([change(image, place) for place in places])
        planes = torch.from_numpy(degraded_).permute(0, 3, 1, 2)
        seen = mirrored_where(planes, torch.from_numpy(change.mirror[places.start : places.stop]))
        return list(seen.permute(0, 2, 3, 1).numpy())

    whole = changed(0.5, 0.3, 0, range(400))
    for place, face in enumerate(changed(0.5, 0.3, 200, range(200)), start=200):  # as the second of two processes
        np.testing.assert_array_equal(face, whole[place])
    kept = sum(np.array_equal(face, image) for face in whole)
    mirrored = sum(np.array_equal(face, image[:, ::-1]) for face in whole)
    assert 0.28 < kept / 400 < 0.42  # 0.35 each; three standard deviations of 400 draws are 0.07
    assert 0.28 < mirrored / 400 < 0.42
    assert all(np.array_equal(face, image) for face in changed(0, 0, 0, range(20)))
    assert all(np.array_equal(face, image[:, ::-1]) for face in changed(1, 0, 0, range(20)))
