import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from people_folder import write_people

from probface.encoder.features import FeatureExtractor
from probface.encoder.onnx import Encoder
from probface.errors import InvalidValue
from probface.models.backbone import load_backbone
from probface.models.registry import resolve_model
from probface.models.taps import find_taps
from probface.readers.open import open_items
from probface.train import fit
from probface.train.config import DataConfig, HeadConfig, HeadRecipe, LossConfig, OptimiserConfig, Variant
from probface.train.crops import EncodedCrops
from probface.train.feature_source import TrainingFeatures
from probface.train.fit import fit_head
from probface.train.head import train_head
from probface.train.image_table import ImageTable
from probface.train.live import LiveFeatures

PAPER = HeadConfig(hidden=16, flatten_last=True, embedding=False, standardise=False)
RECIPE = HeadRecipe(
    "live",
    data=DataConfig(aligned=True),
    variants=(Variant("clean"),),
    head=PAPER,
    loss=LossConfig(lambda_c=0.1, lambda_id=0.05, mining="all"),
    optimiser=OptimiserConfig(steps=30, people=6, images=2, lr=0.05),
    features="live",
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"), 20)


@pytest.fixture(scope="module")
def live(people: Path, network_files: dict[str, Path]) -> LiveFeatures:
    backbone = load_backbone(network_files["resnet"])
    taps = find_taps(backbone.model, backbone.face, flatten_last=True)
    extractor = FeatureExtractor(backbone.model, taps, backbone.input, threads=1)
    return LiveFeatures(EncodedCrops(ImageTable(open_items(people)), backbone.input), extractor)


def cached(live: LiveFeatures) -> TrainingFeatures:
    """What a cache of the clean images would hold."""
    crops = np.stack([live.crops.crop(i) for i in range(len(live.people))])
    return TrainingFeatures([live.extractor.extract(crops)], [1.0], live.people, live.dim)


@pytest.mark.parametrize("head", [PAPER, HeadConfig(hidden=16, standardise=False)], ids=["paper", "embedding too"])
def test_live_training_is_cached_training(live: LiveFeatures, tmp_path: Path, head: HeadConfig) -> None:
    recipe = replace(RECIPE, head=head)
    heads = [fit_head(source, recipe, tmp_path / str(i)) for i, source in enumerate((live, cached(live)))]
    assert heads[0].fc1.in_features == live.width - (0 if head.embedding else live.dim)
    for a, b in zip(*(head.state_dict().values() for head in heads), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


def test_each_draw_depends_on_its_step_and_place_alone(live: LiveFeatures) -> None:
    recipe = replace(RECIPE, variants=(Variant("clean"), Variant("mirror"), Variant("moderate", share=2)))
    every = list(live.batches(recipe, 0))
    assert len(every) == 30
    late = next(live.batches(recipe, 20))
    np.testing.assert_array_equal(every[20].fused.numpy(), late.fused.numpy())
    np.testing.assert_array_equal(every[20].labels, live.people[late.images])
    clean = cached(live).copies[0]
    changed = [np.abs(batch.fused.numpy() - clean[batch.images]).max(axis=1) > 1e-3 for batch in every]
    assert 0.6 < np.concatenate(changed).mean() < 0.9  # three of four images are mirrored or degraded


def test_standardising_sees_the_clean_images(live: LiveFeatures) -> None:
    sample = live.sample(seed=0)
    np.testing.assert_allclose(sample, cached(live).copies[0], rtol=1e-4, atol=1e-5)


def test_a_batch_that_does_not_divide_is_refused(live: LiveFeatures) -> None:
    with pytest.raises(InvalidValue, match=r"people x images = 12 for 5 processes: must be a multiple"):
        next(replace(live, ranks=5).batches(RECIPE, 0))


def test_several_processes_need_live_features(
    people: Path, network_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = launched(
        2,
        f"""
from probface.errors import InvalidValue
try:
    train({str(network_files["resnet"])!r}, {str(people)!r}, {str(tmp_path)!r}, features="cached")
except InvalidValue as error:
    assert "cached features train in one process, not 2" in str(error), error
else:
    raise SystemExit("not refused")
""",
    )
    assert ended.returncode == 0, ended.stderr


def test_the_paper_head_ends_as_one_onnx_file(people: Path, network_files: dict[str, Path], tmp_path: Path) -> None:
    recipe = replace(RECIPE, data=replace(RECIPE.data, train_folds=(1, 2, 3, 4, 5), calibration_folds=(6, 7, 8, 9, 10)))
    made = train_head(network_files["resnet"], people, tmp_path / "out", recipe=recipe, cache=tmp_path / "cache")
    assert made.contract.features[0].startswith("flatten:")
    assert made.contract.features[-1].startswith("mu:")
    assert made.contract == resolve_model(tmp_path / "out").contract
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    embeddings = Encoder(made.model).encode(crops)
    assert (embeddings.sigma_sq > 0).all()
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert record["recipe"]["features"] == "live"
    assert {"torch", "numpy", "onnxruntime", "python"} <= set(record["versions"])


PREAMBLE = """
import os, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from dataclasses import replace
from test_live import RECIPE
from probface.train import fit
from probface.train.head import train_head
fit.LOG_EVERY = 1
def train(network, people, out, steps=50, **changes):
    recipe = replace(RECIPE, optimiser=replace(RECIPE.optimiser, steps=steps), **changes)
    recipe = replace(recipe, data=replace(recipe.data, train_folds=(1, 2, 3, 4, 5), calibration_folds=(6, 7, 8, 9, 10)))
    return train_head(network, people, out + "/out", recipe=recipe, cache=out + "/cache")
"""


def launched(processes: int, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in so many processes by torchrun, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = PREAMBLE.format(tests=str(Path(__file__).parent)) + script
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--master-addr=127.0.0.1"]
    command = [sys.executable, *launcher, f"--master-port={port}", "--no-python", sys.executable, "-c", code]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)


@pytest.mark.slow
def test_two_processes_give_the_loss_curve_of_one(people: Path, network_files: dict[str, Path], tmp_path: Path) -> None:
    curves = []
    for processes in (1, 2):
        place = tmp_path / str(processes)
        ended = launched(processes, f"train({str(network_files['resnet'])!r}, {str(people)!r}, {str(place)!r})")
        assert ended.returncode == 0, ended.stderr
        lines = (place / "out" / "log.jsonl").read_text().splitlines()
        curves.append([json.loads(line)["loss"] for line in lines])
    assert len(curves[0]) == len(curves[1]) == 50
    np.testing.assert_allclose(curves[1], curves[0], rtol=0, atol=1e-4)
    assert curves[0][-1] < curves[0][0]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the script: sums are the same to the bit with the same number of threads only."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_killed_live_training_resumes_to_the_same_weights(
    people: Path, network_files: dict[str, Path], live: LiveFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        PREAMBLE.format(tests=str(Path(__file__).parent))
        + f"""
import signal
fit.CHECKPOINT_EVERY = 10
write = fit.TrainingLog.write
def die(self, line):
    write(self, line)
    if line["step"] >= 25:
        os.kill(os.getpid(), signal.SIGKILL)
fit.TrainingLog.write = die
train({str(network_files["resnet"])!r}, {str(people)!r}, {str(tmp_path / "cut")!r}, steps=30)
"""
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == -9, ended.stderr
    monkeypatch.setattr(fit, "CHECKPOINT_EVERY", 10)
    recipe = replace(
        RECIPE,
        data=replace(RECIPE.data, train_folds=(1, 2, 3, 4, 5), calibration_folds=(6, 7, 8, 9, 10)),
    )
    ends = [
        train_head(
            network_files["resnet"], people, folder, recipe=recipe, cache=tmp_path / "cache", resume=folder.exists()
        ).weights.read_bytes()
        for folder in (tmp_path / "cut" / "out", tmp_path / "whole")
    ]
    assert ends[0] == ends[1]
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "out" / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
