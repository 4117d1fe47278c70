from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks
from torch import Tensor
from torch.nn import functional

from probface.errors import InvalidValue
from probface.loss.margin import with_margin
from probface.train.class_layer import ClassLayer, run_of

BATCH, DIM, SCALE = 12, 6, 16.0


class Case(NamedTuple):
    """A class layer and a batch of the same size for 1, 2 and 3 ranks."""

    kind: str
    margin: float
    classes: int
    labels: tuple[int, ...]


CASES = {
    "cosface": Case("cosface", 0.35, 6, (0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5)),
    "arcface": Case("arcface", 0.5, 6, (5, 4, 3, 2, 1, 0, 0, 0, 3, 3, 5, 5)),
    "classes not divisible": Case("cosface", 0.35, 7, (6, 1, 2, 3, 4, 5, 0, 6, 2, 6, 4, 5)),
    "a rank without its people": Case("arcface", 0.5, 8, (7,) * 6 + (6,) * 6),
    "one face": Case("cosface", 0.35, 4, (2,) * 12),
}


class Slopes(NamedTuple):
    loss: Tensor
    embedding: Tensor
    weight: Tensor


def faces(case: Case) -> Tensor:
    return torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(case.classes)) * 3


def layer_of(case: Case, rank: int = 0, ranks: int = 1) -> ClassLayer:
    return ClassLayer(
        case.classes,
        DIM,
        kind=case.kind,  # type: ignore[arg-type]
        margin=case.margin,
        scale=SCALE,
        rank=rank,
        ranks=ranks,
        seed=4,
    )


def divided(rank: int, ranks: int) -> dict[str, Slopes]:
    """Every case on one rank, its part of the batch; slopes of faces averaged over the ranks' losses, as DDP does."""
    found = {}
    for name, case in CASES.items():
        layer = layer_of(case, rank, ranks)
        mine = slice(rank * BATCH // ranks, (rank + 1) * BATCH // ranks)
        embedding = torch.zeros(BATCH, DIM)
        embedding[mine] = faces(case)[mine]
        embedding.requires_grad_()
        loss = layer(embedding[mine], torch.tensor(case.labels)[mine])
        loss.backward()
        assert embedding.grad is not None
        assert layer.weight.grad is not None
        slope = embedding.grad.clone()
        dist.all_reduce(slope)
        found[name] = Slopes(loss.detach(), slope / ranks, layer.weight.grad)
    return found


def whole(case: Case) -> Slopes:
    """One process, by torch's own cross entropy over all logits."""
    embedding, weight = faces(case).requires_grad_(), layer_of(case).weight.detach().clone().requires_grad_()
    labels, rows = torch.tensor(case.labels), torch.arange(BATCH)
    cos = functional.normalize(embedding) @ functional.normalize(weight).T
    harder = with_margin(cos[rows, labels], case.kind, case.margin)  # type: ignore[arg-type]
    loss = functional.cross_entropy(SCALE * cos.index_put((rows, labels), harder), labels)
    loss.backward()
    assert embedding.grad is not None
    assert weight.grad is not None
    return Slopes(loss.detach(), embedding.grad, weight.grad)


@pytest.mark.parametrize("name", CASES)
def test_one_process_is_cross_entropy(name: str) -> None:
    case = CASES[name]
    layer, embedding, expected = layer_of(case), faces(case).requires_grad_(), whole(case)
    loss = layer(embedding, torch.tensor(case.labels))
    (3 * loss).backward()  # the slope from above is not 1
    torch.testing.assert_close(loss.detach(), expected.loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(embedding.grad, 3 * expected.embedding, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.weight.grad, 3 * expected.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_several_processes_are_as_one(ranks: int, tmp_path: Path) -> None:
    results = on_ranks("test_class_layer", "divided", ranks, tmp_path)
    for name, case in CASES.items():
        expected, found = whole(case), [result[name] for result in results]
        for each in found:
            torch.testing.assert_close(each.loss, expected.loss, rtol=1e-6, atol=1e-6, msg=name)
            torch.testing.assert_close(each.embedding, expected.embedding, rtol=1e-5, atol=1e-6, msg=name)
        weight = torch.cat([each.weight for each in found])
        torch.testing.assert_close(weight, expected.weight, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(("classes", "ranks"), [(6, 2), (7, 3), (5, 4), (3, 3), (100, 7)])
def test_the_first_weights_are_the_same_matrix_however_divided(classes: int, ranks: int) -> None:
    for dim in (6, 32):  # torch draws rows of 16 numbers or more another way
        settings = {"kind": "cosface", "margin": 0.35, "scale": SCALE, "seed": 9}
        one = ClassLayer(classes, dim, **settings)  # type: ignore[arg-type]
        parts = [ClassLayer(classes, dim, rank=rank, ranks=ranks, **settings) for rank in range(ranks)]  # type: ignore[arg-type]
        torch.testing.assert_close(torch.cat([part.weight for part in parts]), one.weight, rtol=0, atol=0)
        torch.testing.assert_close(one.weight.norm(dim=1), torch.ones(classes))
        assert max(len(part.weight) for part in parts) - min(len(part.weight) for part in parts) <= 1
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ClassLayer(classes, 6, **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)


def test_runs_cover_all_classes_once() -> None:
    for classes in range(1, 30):
        for ranks in range(1, 8):
            runs = [run_of(classes, rank, ranks) for rank in range(ranks)]
            assert [row for first, last in runs for row in range(first, last)] == list(range(classes))


def test_more_processes_than_identities_are_refused() -> None:
    with pytest.raises(InvalidValue, match="2 identities over 3 processes: each needs one"):
        ClassLayer(2, DIM, kind="cosface", margin=0.35, scale=SCALE, rank=1, ranks=3)


def test_logits_too_large_for_their_exponential_are_no_trouble() -> None:
    layer = ClassLayer(5, DIM, kind="cosface", margin=0.35, scale=1e4)
    embedding = torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = layer(embedding, torch.arange(BATCH) % 5)
    loss.backward()
    assert loss.isfinite()
    assert embedding.grad is not None
    assert embedding.grad.isfinite().all()
