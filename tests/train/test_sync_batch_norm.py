from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks
from torch import Tensor, nn

from probface.train.sync_batch_norm import SyncBatchNorm, synchronise

SHAPES = {"2d": (12, 5, 4, 3), "1d": (12, 5), "few values": (2, 5), "far from zero": (12, 5, 4, 3)}


class Result(NamedTuple):
    """Two training steps and an evaluation."""

    output: Tensor
    slope: Tensor
    weight_slope: Tensor
    bias_slope: Tensor
    mean: Tensor
    variance: Tensor
    batches: Tensor
    evaluated: Tensor


def plain(name: str) -> nn.BatchNorm1d | nn.BatchNorm2d:
    kind = nn.BatchNorm1d if len(SHAPES[name]) == 2 else nn.BatchNorm2d
    norm = kind(SHAPES[name][1], eps=1e-3, momentum=0.3)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, len(norm.weight)))
        norm.bias.copy_(torch.linspace(1, 3, len(norm.bias)))
    return norm


def inputs(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Two batches, and what the second's outputs are weighted by in the loss."""
    generator = torch.Generator().manual_seed(6)
    first, second, weights = (torch.randn(SHAPES[name], generator=generator) for _ in range(3))
    shift = 300.0 if name == "far from zero" else 0.5
    return first + shift, 2 * second - shift, weights


def run(norm: nn.Module, name: str, rank: int, ranks: int) -> Result:
    """This rank's rows through ``norm``."""
    first, second, weights = (part.chunk(ranks)[rank] for part in inputs(name))
    norm.train()
    norm(first)
    x = second.clone().requires_grad_()
    output = norm(x)
    (output * weights).sum().backward()
    norm.eval()
    assert x.grad is not None
    return Result(
        output.detach(),
        x.grad,
        norm.weight.grad,
        norm.bias.grad,
        norm.running_mean,
        norm.running_var,
        norm.num_batches_tracked,
        norm(first).detach(),
    )  # type: ignore[arg-type]


def divided(rank: int, ranks: int) -> dict[str, Result]:
    found = {}
    for name in SHAPES:
        result = run(synchronise(nn.Sequential(plain(name)))[0], name, rank, ranks)  # type: ignore[index]
        for slope in (result.weight_slope, result.bias_slope):
            dist.all_reduce(slope)
        found[name] = result
    return found


@pytest.mark.slow
def test_two_processes_normalise_as_one(tmp_path: Path) -> None:
    results = on_ranks("test_sync_batch_norm", "divided", 2, tmp_path)
    for name in SHAPES:
        expected, parts = run(plain(name), name, 0, 1), [result[name] for result in results]
        for field in ("output", "slope", "evaluated"):
            found = torch.cat([getattr(part, field) for part in parts])
            torch.testing.assert_close(
                found, getattr(expected, field), rtol=1e-4, atol=2e-5, msg=lambda m, at=(name, field): f"{at}: {m}"
            )
        for field in ("weight_slope", "bias_slope", "mean", "variance", "batches"):
            for part in parts:
                torch.testing.assert_close(
                    getattr(part, field), getattr(expected, field), rtol=1e-5, atol=2e-5,
                    msg=lambda m, at=(name, field): f"{at}: {m}",
                )  # fmt: skip


@pytest.mark.parametrize("name", ["1d", "2d"])
def test_evaluation_needs_no_other_process(name: str) -> None:
    norm = plain(name)
    norm(inputs(name)[0])
    shared = synchronise(nn.Sequential(norm.eval()))
    expected = norm(inputs(name)[1])
    torch.testing.assert_close(shared(inputs(name)[1]), expected, rtol=0, atol=0)


def test_synchronise_changes_the_kind_and_nothing_else() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4, affine=False), nn.ReLU()), nn.Flatten()
    )
    module.add_module("last", nn.BatchNorm1d(4, eps=0.1, momentum=0.7))
    module.last.bias.requires_grad_(False)
    module.last.running_mean.fill_(3)
    module[2].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    wants = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    modes = {name: child.training for name, child in module.named_modules()}
    assert synchronise(module) is module
    assert list(module.state_dict()) == list(before)
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert {name: parameter.requires_grad for name, parameter in module.named_parameters()} == wants
    assert {name: child.training for name, child in module.named_modules()} == modes
    kinds = [type(child) for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)]
    assert kinds == [SyncBatchNorm] * 3
    assert (module.last.eps, module.last.momentum) == (0.1, 0.7)
    same = module.last
    assert synchronise(module).last is same
