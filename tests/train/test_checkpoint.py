import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from probface.errors import TrainingError
from probface.train import checkpoint
from probface.train.checkpoint import Origin
from probface.train.class_layer import ClassLayer, run_of
from probface.train.recipe import Recipe

CLASSES, DIM = 11, 4


@dataclass(frozen=True, slots=True)
class Small(Recipe):
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)
    extra: str | None = None


RECIPE = Small("small")
ORIGIN = Origin(RECIPE)


def layer_of(rank: int, ranks: int, seed: int = 3) -> ClassLayer:
    return ClassLayer(CLASSES, DIM, kind="cosface", margin=0.3, scale=8, rank=rank, ranks=ranks, seed=seed)


def sgd(module: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)


def trained(rank: int = 0, ranks: int = 1) -> tuple[ClassLayer, torch.optim.SGD]:
    """A layer that took two steps with slopes that tell the rows apart."""
    layer = layer_of(rank, ranks)
    optimiser = sgd(layer)
    first, last = run_of(CLASSES, rank, ranks)
    for factor in (1.0, -3.0):
        layer.weight.grad = factor * torch.arange(CLASSES * DIM).reshape(CLASSES, DIM).float()[first:last]
        optimiser.step()
    return layer, optimiser


def network() -> tuple[nn.Linear, torch.optim.SGD]:
    module = nn.Linear(3, 2)
    optimiser = sgd(module)
    module(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return module, optimiser


def save_all(folder: Path, step: int, ranks: int) -> None:
    """A whole state, as several processes write it."""
    for rank in range(ranks):
        checkpoint.save_part(folder, step, *trained(rank, ranks), ORIGIN, rank=rank, ranks=ranks)
    checkpoint.save(folder, step, *network(), ORIGIN)


def resume_all(folder: Path, ranks: int) -> list[tuple[ClassLayer, torch.optim.SGD]]:
    state = checkpoint.latest(folder, ORIGIN)
    assert state is not None
    weights, momentum = zip(*state.parts, strict=True)
    resumed = []
    for rank in range(ranks):
        layer = layer_of(rank, ranks, seed=99)
        optimiser, run = sgd(layer), run_of(CLASSES, rank, ranks)
        parts = checkpoint.joined(weights, *run), checkpoint.joined(momentum, *run)
        checkpoint.restore(*parts, layer, optimiser)
        resumed.append((layer, optimiser))
    return resumed


def buffer(layer: ClassLayer, optimiser: torch.optim.SGD) -> Tensor:
    found = optimiser.state[layer.weight]["momentum_buffer"]
    assert isinstance(found, Tensor)
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name.removeprefix("checkpoint-").removesuffix(".safetensors") for path in folder.iterdir())


def test_what_is_shared_comes_back(tmp_path: Path) -> None:
    module, optimiser = network()
    checkpoint.save(tmp_path, 7, module, optimiser, ORIGIN)
    state = checkpoint.latest(tmp_path, ORIGIN)
    assert state is not None
    assert (state.step, state.parts) == (7, ())
    other = nn.Linear(3, 2)
    fresh = sgd(other)
    checkpoint.restore(state.weights, state.momentum, other, fresh)
    for mine, its in zip(other.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)
        found, wanted = fresh.state[mine]["momentum_buffer"], optimiser.state[its]["momentum_buffer"]
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_no_state_is_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path, ORIGIN) is None
    checkpoint.save_part(tmp_path, 5, *trained(), ORIGIN, rank=0, ranks=1)  # killed before the shared state
    assert checkpoint.latest(tmp_path, ORIGIN) is None


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 1), (2, 2), (1, 11)])
def test_a_divided_layer_resumes_on_any_number_of_processes(before: int, after: int, tmp_path: Path) -> None:
    save_all(tmp_path, 10, before)
    layers = resume_all(tmp_path, after)
    whole = trained()
    torch.testing.assert_close(torch.cat([layer.weight for layer, _ in layers]), whole[0].weight, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([buffer(*layer) for layer in layers]), buffer(*whole), rtol=0, atol=0)


def test_from_one_to_two_to_three_processes(tmp_path: Path) -> None:
    save_all(tmp_path, 10, 1)
    for step, ranks in ((20, 2), (30, 3), (40, 1)):
        for rank, (layer, optimiser) in enumerate(resume_all(tmp_path, ranks)):
            checkpoint.save_part(tmp_path, step, layer, optimiser, ORIGIN, rank=rank, ranks=ranks)
        checkpoint.save(tmp_path, step, *network(), ORIGIN)
    ((layer, optimiser),) = resume_all(tmp_path, 1)
    torch.testing.assert_close(layer.weight, trained()[0].weight, rtol=0, atol=0)
    torch.testing.assert_close(buffer(layer, optimiser), buffer(*trained()), rtol=0, atol=0)
    kept = {"0000030": ("", ".part0of3", ".part1of3", ".part2of3"), "0000040": ("", ".part0of1")}
    assert names(tmp_path) == [step + part for step, parts in kept.items() for part in parts]


def test_a_state_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    save_all(tmp_path, 10, 3)
    save_all(tmp_path, 20, 3)
    for missing in (0, 1, 2):
        path = tmp_path / f"checkpoint-0000020.part{missing}of3.safetensors"
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(TrainingError, match=r"0000020.safetensors: its parts are not complete; delete it to use"):
            checkpoint.latest(tmp_path, ORIGIN)
        path.write_bytes(content)
    (tmp_path / "checkpoint-0000020.safetensors").unlink()  # the mend
    state = checkpoint.latest(tmp_path, ORIGIN)
    assert state is not None
    assert (state.step, len(state.parts)) == (10, 3)


def test_parts_of_another_number_of_processes_are_dropped(tmp_path: Path) -> None:
    save_all(tmp_path, 10, 2)
    for rank in range(3):  # killed before the shared state
        checkpoint.save_part(tmp_path, 20, *trained(rank, 3), ORIGIN, rank=rank, ranks=3)
    checkpoint.save_part(tmp_path, 20, *trained(1, 2), ORIGIN, rank=1, ranks=2)  # the ranks write in any order
    checkpoint.save_part(tmp_path, 20, *trained(0, 2), ORIGIN, rank=0, ranks=2)
    checkpoint.save(tmp_path, 20, *network(), ORIGIN)
    state = checkpoint.latest(tmp_path, ORIGIN)
    assert state is not None
    assert (state.step, len(state.parts)) == (20, 2)
    assert [name for name in names(tmp_path) if name.endswith("of3")] == []


def test_only_the_last_two_are_kept_with_their_parts(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-mine.safetensors").write_bytes(b"")  # not ours: left alone
    for step in (10, 20, 30, 40):
        save_all(tmp_path, step, 2)
    each = ["", ".part0of2", ".part1of2"]
    assert names(tmp_path) == [f"00000{step}{part}" for step in (30, 40) for part in each] + ["mine"]


def test_later_states_of_an_earlier_run_are_dropped(tmp_path: Path) -> None:
    for step in (100, 150):
        save_all(tmp_path, step, 2)
    save_all(tmp_path, 10, 1)  # begun anew into the same folder
    assert names(tmp_path) == ["0000010", "0000010.part0of1"]
    state = checkpoint.latest(tmp_path, ORIGIN)
    assert state is not None
    assert state.step == 10


@pytest.mark.parametrize("part", ["", ".part1of2"])
@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_damaged_file_is_named_and_the_one_before_is_the_mend(tmp_path: Path, part: str, length: int) -> None:
    for step in (10, 20):
        save_all(tmp_path, step, 2)
    damaged = tmp_path / f"checkpoint-0000020{part}.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:length])
    with pytest.raises(TrainingError, match=rf"{damaged.name}: cannot be read \(.*\); delete it to use the one before"):
        checkpoint.latest(tmp_path, ORIGIN)


def test_weights_of_another_kind_are_no_state(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "checkpoint-0000020.safetensors")
    with pytest.raises(TrainingError, match=r"0000020.safetensors: holds no state of training; delete it"):
        checkpoint.latest(tmp_path, ORIGIN)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate": 0.25}, "rate was 0.5, is 0.25"),
        ({"sizes": (1, 2, 3)}, "sizes was [1, 2], is [1, 2, 3]"),
        ({"extra": "x"}, "extra was None, is 'x'"),
        ({"name": "other"}, "name was 'small', is 'other'"),
    ],
)
def test_another_recipe_is_refused_and_the_difference_named(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    save_all(tmp_path, 10, 1)
    with pytest.raises(TrainingError, match=re.escape(f"made by another recipe ({words}); resume with the recipe")):
        checkpoint.latest(tmp_path, Origin(replace(RECIPE, **changes)))  # type: ignore[arg-type]


def test_the_same_number_written_otherwise_is_the_same_recipe(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 10, *network(), Origin(replace(RECIPE, rate=1)))
    assert checkpoint.latest(tmp_path, Origin(replace(RECIPE, rate=1.0))) is not None


def test_a_key_that_the_older_recipe_had_not_is_named(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 10, *network(), Origin(Recipe("small")))
    with pytest.raises(TrainingError, match=r"another recipe \(extra is new\)"):
        checkpoint.latest(tmp_path, ORIGIN)
    checkpoint.save(tmp_path, 20, *network(), ORIGIN)
    with pytest.raises(TrainingError, match=r"another recipe \(extra is gone\)"):
        checkpoint.latest(tmp_path, Origin(Recipe("small")))


def test_other_images_are_refused_on_resume(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 10, *network(), Origin(RECIPE, "one"))
    assert checkpoint.begin(tmp_path, Origin(RECIPE, "one"), resume=True) is not None
    with pytest.raises(TrainingError, match="made from other people's images, or for another backbone; resume with"):
        checkpoint.begin(tmp_path, Origin(RECIPE, "two"), resume=True)


def test_a_new_run_does_not_take_the_place_of_another(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 10, *network(), Origin(RECIPE, "one"))
    assert checkpoint.begin(tmp_path, Origin(RECIPE, "one"), resume=False) is None
    for other in (Origin(RECIPE, "two"), Origin(replace(RECIPE, rate=2.0), "one")):
        with pytest.raises(TrainingError, match=r"holds another run .*; train into another folder, or delete"):
            checkpoint.begin(tmp_path, other, resume=False)
    assert names(tmp_path) == ["0000010"]


def test_parts_of_another_run_are_refused(tmp_path: Path) -> None:
    checkpoint.save_part(tmp_path, 10, *trained(), Origin(RECIPE, "one"), rank=0, ranks=1)
    checkpoint.save(tmp_path, 10, *network(), Origin(RECIPE, "two"))
    with pytest.raises(TrainingError, match="its parts are of another run; delete it to use the one before"):
        checkpoint.latest(tmp_path, Origin(RECIPE, "two"))


def test_a_state_of_another_architecture_says_what_differs(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 10, *network(), ORIGIN)
    state = checkpoint.latest(tmp_path, ORIGIN)
    assert state is not None
    wide = nn.Linear(3, 50)
    with pytest.raises(TrainingError, match=r"checkpoint: '.*' is .*, must be .*; resume with the architecture"):
        checkpoint.restore(state.weights, state.momentum, wide, torch.optim.SGD(wide.parameters(), lr=1))


def test_a_state_with_nan_is_not_written(tmp_path: Path) -> None:
    module, optimiser = network()
    with torch.no_grad():
        next(module.parameters()).flatten()[0] = torch.nan
    with pytest.raises(TrainingError, match=r"step 10: module\..* is not finite; train anew"):
        checkpoint.save(tmp_path, 10, module, optimiser, ORIGIN)
    assert names(tmp_path) == []


FULL = """
import resource, signal, sys
from pathlib import Path
from probface.errors import StorageError
from probface.train import checkpoint
from test_checkpoint import ORIGIN, network, save_all, trained
folder = Path(sys.argv[1])
save_all(folder, 10, 2)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
for write in (
    lambda: checkpoint.save_part(folder, 20, *trained(0, 2), ORIGIN, rank=0, ranks=2),
    lambda: checkpoint.save(folder, 20, *network(), ORIGIN),
):
    try:
        write()
    except StorageError as error:
        print(error)
"""


def test_a_full_disk_keeps_the_state_before(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    ended = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    for name in ("checkpoint-0000020.part0of2", "checkpoint-0000020"):
        assert f"{name}.safetensors: cannot be written (File too large); free space" in ended.stdout
    assert names(tmp_path) == ["0000010", "0000010.part0of2", "0000010.part1of2"]
    state = checkpoint.latest(tmp_path, ORIGIN)
    assert state is not None
    assert state.step == 10
