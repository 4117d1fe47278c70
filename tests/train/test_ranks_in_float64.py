"""Two processes against one where rounding plays no part: the same network, class layer and rate, in float64.

In float32 a ResFace with fresh weights is so steep that two orders of one sum part the losses within a few steps.
"""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks
from torch import Tensor, nn

from probface.nn.backbones.resface import ResFace
from probface.train.class_layer import ClassLayer
from probface.train.sync_batch_norm import synchronise

STEPS, BATCH, CLASSES, DIM = 50, 12, 7, 8


class Run(NamedTuple):
    """What training showed and left."""

    losses: list[float]
    weights: dict[str, Tensor]
    classes: Tensor


def trained(rank: int, ranks: int) -> Run:
    """This rank's part of a training of 50 steps at an ordinary rate."""
    torch.manual_seed(0)
    network = ResFace(20, width=1 / 16, dim=DIM).double().train()
    layer = ClassLayer(CLASSES, DIM, kind="cosface", margin=0.2, scale=16.0, rank=rank, ranks=ranks).double()
    generator = torch.Generator().manual_seed(1)
    if ranks > 1:
        synchronise(network)
    optimiser = torch.optim.SGD([*network.parameters(), *layer.parameters()], lr=0.01, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        images = torch.randn(BATCH, 3, 96, 96, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)
        optimiser.zero_grad()
        loss = layer(network(images.chunk(ranks)[rank]).embedding, labels.chunk(ranks)[rank])
        loss.backward()
        if ranks > 1:
            averaged(network, ranks)
        optimiser.step()
        losses.append(loss.item())
    return Run(losses, {name: tensor.detach() for name, tensor in network.state_dict().items()}, layer.weight.detach())


def averaged(network: nn.Module, ranks: int) -> None:
    """What data-parallel training does with the slopes."""
    for parameter in network.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= ranks


@pytest.mark.slow
def test_two_processes_train_as_one_to_the_last_digits(tmp_path: Path) -> None:
    one = trained(0, 1)
    two = on_ranks("test_ranks_in_float64", "trained", 2, tmp_path)
    assert one.losses[-1] != one.losses[0]
    for run in two:
        torch.testing.assert_close(torch.tensor(run.losses), torch.tensor(one.losses), rtol=0, atol=1e-7)
        for name, wanted in one.weights.items():
            torch.testing.assert_close(run.weights[name], wanted, rtol=1e-6, atol=1e-6, msg=name)
    torch.testing.assert_close(torch.cat([run.classes for run in two]), one.classes, rtol=1e-6, atol=1e-6)
