"""What torchrun starts: several processes that train one network."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from people_folder import write_people
from ranks import free_port, loopback
from safetensors.torch import load_file
from tiny_backbone import IMAGES, PEOPLE, tiny

from probface.errors import InvalidValue, ProviderUnavailable
from probface.train import backbone_loop, checkpoint
from probface.train.backbone import train_backbone
from probface.train.backbone_config import MarginConfig
from probface.train.processes import processes, provider_here, seed_of, seeded, threads_here

SCRIPT = """
import sys
from test_processes import RECIPES
from probface.train import backbone_loop
from probface.train.backbone import train_backbone
backbone_loop.LOG_EVERY, backbone_loop.CHECKPOINT_EVERY = 1, 20
people, out, name, resume = sys.argv[1:]
train_backbone(people, out, recipe=RECIPES[name], device="cpu", resume=resume == "resume")
"""
FIT = """
import sys
from pathlib import Path
from probface.readers.open import open_items
from probface.train.backbone_loop import fit_backbone
from probface.train.crops import EncodedCrops
from probface.train.image_table import ImageTable
from probface.train.processes import processes
from tiny_backbone import tiny
people, out = sys.argv[1:]
recipe = tiny(steps=2)
with processes(device="cpu") as fabric:
    crops = EncodedCrops(ImageTable(open_items(people)), recipe.architecture.input)
    fit_backbone(crops, recipe, Path(out), fabric)
"""
SLOW = replace(tiny(steps=50, lr=3e-8), margin=MarginConfig(margin=0.2, scale=2.0))
"""The network is steep at its first weights: batch norm divides by 0.03 and less in its residual blocks. With a usual
rate two orders of one sum, which differ in the last bit, lead to losses 1e-2 apart in five steps."""
RECIPES = {
    "slow": SLOW,
    "usual": tiny(steps=50, lr=0.01),
    "parts": tiny(steps=6, accumulate=2),
    "exploding": tiny(steps=6, lr=1e30),
}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"), PEOPLE, IMAGES)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "train.py"
    path.write_text(SCRIPT)
    path.with_name("fit.py").write_text(FIT)
    return path


def torchrun(script: Path, ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)),
        *("--master-addr", "127.0.0.1", "--master-port", str(free_port()), str(script)),
    ]
    return subprocess.run(
        [*command, *map(str, arguments)], env=loopback(), capture_output=True, text=True, check=False, timeout=300
    )


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def alone(people: Path, folder: Path, name: str) -> list[float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone_loop, "LOG_EVERY", 1)
        train_backbone(people, folder, recipe=RECIPES[name], device="cpu")
    return losses(folder)


@pytest.mark.slow
def test_two_processes_train_as_one(people: Path, script: Path, tmp_path: Path) -> None:
    ended = torchrun(script, 2, people, tmp_path / "two", "slow", "new")
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stderr
    assert "deprecated" not in ended.stderr
    one, two = alone(people, tmp_path / "one", "slow"), losses(tmp_path / "two")
    assert two == pytest.approx(one, abs=1e-4)
    states = [checkpoint.latest(tmp_path / name, checkpoint.Origin(SLOW)) for name in ("one", "two")]
    assert states[0] is not None
    assert states[1] is not None
    for name, wanted in states[0].momentum.items():  # the slopes of all steps, summed up; a ReLU's kink is felt
        assert (states[1].momentum[name] - wanted).norm() < 0.05 * wanted.norm(), name
    for kind in (0, 1):
        parts = [torch.cat([part[kind]["weight"] for part in state.parts]) for state in states]  # type: ignore[union-attr]
        torch.testing.assert_close(parts[1], parts[0], rtol=1e-3, atol=1e-3)
    saved = [load_file(tmp_path / name / "backbone.safetensors") for name in ("one", "two")]
    assert list(saved[0]) == list(saved[1])  # batch norm over the ranks leaves no trace in the file


@pytest.mark.slow
def test_two_processes_learn_as_much_as_one(people: Path, script: Path, tmp_path: Path) -> None:
    ended = torchrun(script, 2, people, tmp_path / "two", "usual", "new")
    assert ended.returncode == 0, ended.stderr
    one, two = alone(people, tmp_path / "one", "usual"), losses(tmp_path / "two")
    assert np.mean(one[-10:]) < 0.1 * one[0]
    assert np.mean(two[-10:]) < 0.1 * two[0]


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(people: Path, script: Path, tmp_path: Path) -> None:
    wanted = torchrun(script, 2, people, tmp_path, "slow", "new")
    assert wanted.returncode == 0, wanted.stderr
    whole = losses(tmp_path)
    for path in tmp_path.glob("checkpoint-0000050*"):
        path.unlink()  # as if killed between steps 40 and 50
    ended = torchrun(script, 3, people, tmp_path, "slow", "resume")
    assert ended.returncode != 0  # 16 images do not divide by 3
    assert "optimiser.batch 16: must be a multiple of processes x accumulate = 3" in ended.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone_loop, "LOG_EVERY", 1)
        train_backbone(people, tmp_path, recipe=SLOW, device="cpu", resume=True)
    assert losses(tmp_path) == pytest.approx(whole, abs=1e-4)
    state = checkpoint.latest(tmp_path, checkpoint.Origin(SLOW))
    assert state is not None
    assert (state.step, len(state.parts)) == (50, 1)


@pytest.mark.slow
def test_every_process_ends_well_ten_times_in_a_row(people: Path, script: Path, tmp_path: Path) -> None:
    for _ in range(10):
        ended = torchrun(script.with_name("fit.py"), 2, people, tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert (tmp_path / "checkpoint-0000002.safetensors").exists()
        (tmp_path / "checkpoint-0000002.safetensors").unlink()


@pytest.mark.slow
def test_parts_of_a_batch_over_two_processes(people: Path, script: Path, tmp_path: Path) -> None:
    ended = torchrun(script, 2, people, tmp_path, "parts", "new")
    assert ended.returncode == 0, ended.stderr
    assert len(losses(tmp_path)) == 6


@pytest.mark.slow
def test_a_loss_that_explodes_ends_every_process(people: Path, script: Path, tmp_path: Path) -> None:
    ended = torchrun(script, 2, people, tmp_path, "exploding", "new")
    assert ended.returncode != 0
    assert "TrainingError: step 2: the cosface loss is" in ended.stderr
    assert not (tmp_path / "backbone.onnx").exists()


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes(device="cpu") as fabric:
        assert (fabric.world_size, fabric.global_rank) == (1, 0)
        assert not torch.distributed.is_initialized()


def test_seeded_leaves_no_trace() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(5):
        inside = torch.rand(3)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    with seeded(5):
        torch.testing.assert_close(torch.rand(3), inside, rtol=0, atol=0)


def test_each_step_and_process_draws_its_own() -> None:
    seeds = [seed_of(seed, step, rank) for seed in range(5) for step in range(20) for rank in range(8)]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [seed_of(seed, step, rank) for seed in range(5) for step in range(20) for rank in range(8)]


def test_a_device_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ProviderUnavailable, match="device 'cuda': 0 GPUs for 1 processes"), processes(device="cuda"):
        pass
    with pytest.raises(InvalidValue, match="precision 'float16': needs a GPU"), processes("float16"):
        pass


def test_each_process_has_the_device_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider_here("cuda") == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [provider_here(name) for name in ("cuda", "cpu")] == ["cuda:3", "cpu"]


def test_the_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probface.train.processes.available_cores", lambda: 16)
    assert threads_here() == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert threads_here() == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "40")
    assert threads_here() == 1


@pytest.mark.slow
def test_processes_that_find_other_states_end_and_say_so(people: Path, script: Path, tmp_path: Path) -> None:
    """As on two machines without a shared folder: each process has an output folder of its own here."""
    own = script.with_name("own.py")
    own.write_text(script.read_text().replace("train_backbone(people, out,", "train_backbone(people, out + rank,"))
    own.write_text(own.read_text().replace("import sys\n", "import os, sys\nrank = os.environ['RANK']\n", 1))
    (tmp_path / "run0").mkdir()
    alone(people, tmp_path / "run0", "parts")
    ended = torchrun(own, 2, people, tmp_path / "run", "parts", "resume")
    assert ended.returncode != 0
    assert "the processes find checkpoints of steps [0, 6]; give all machines one folder" in ended.stderr
