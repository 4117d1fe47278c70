"""The ranking loss against loops in plain Python and finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from probface.errors import InvalidValue
from probface.loss.pairs import Pairs
from probface.loss.ranking import ranking_loss

PEOPLE = [0, 1, 0, 2, 1, 0, 3, 2]


def _batch(people: list[int], seed: int = 0) -> tuple[Tensor, Tensor, Pairs]:
    generator = torch.Generator().manual_seed(seed)
    mu = torch.randn(len(people), 5, generator=generator, dtype=torch.float64)
    mu = mu / mu.norm(dim=1, keepdim=True)
    return (
        mu @ mu.T,
        torch.randn(len(people), 1, generator=generator, dtype=torch.float64),
        Pairs.of(torch.tensor(people)),
    )


def _scores(cos: Tensor, log_sigma_sq: Tensor, people: list[int]) -> tuple[list[float], list[float]]:
    """Genuine and impostor scores by Eq. 5, pair by pair."""
    sides: tuple[list[float], list[float]] = ([], [])
    for i in range(len(people)):
        for j in range(i + 1, len(people)):
            t = math.exp(log_sigma_sq[i, 0]) + math.exp(log_sigma_sq[j, 0])
            sides[people[i] != people[j]].append(-(2 - 2 * float(cos[i, j])) / t - math.log(t))
    return sides


@pytest.mark.parametrize(("fmr", "hard"), [(0.01, 1), (0.2, 4), (1.0, 23)])
@pytest.mark.parametrize("slope", [0.5, 4.0])
def test_pair_by_pair(fmr: float, hard: int, slope: float) -> None:
    for seed in range(5):
        cos, log_sigma_sq, pairs = _batch(PEOPLE, seed)
        genuine, impostor = _scores(cos, log_sigma_sq, PEOPLE)
        assert (len(genuine), len(impostor)) == (5, 23)
        worst = sorted(impostor, reverse=True)[:hard]
        terms = [math.log1p(math.exp(slope * (i - g))) / slope for g in genuine for i in worst]
        loss = ranking_loss(cos, log_sigma_sq, pairs, fmr=fmr, slope=slope)
        assert float(loss) == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_a_steep_slope_is_a_hinge() -> None:
    cos, log_sigma_sq, pairs = _batch(PEOPLE, seed=3)
    genuine, impostor = _scores(cos, log_sigma_sq, PEOPLE)
    hinges = np.maximum(np.array(impostor)[None] - np.array(genuine)[:, None], 0)
    assert hinges.max() > 0
    assert float(ranking_loss(cos, log_sigma_sq, pairs, fmr=1.0, slope=1e6)) == pytest.approx(hinges.mean(), abs=1e-5)


def test_only_hard_impostors_pull() -> None:
    """Faces of people in no hard pair and in no genuine pair get no gradient."""
    cos = torch.full((5, 5), -0.5, dtype=torch.float64).fill_diagonal_(1)
    cos[0, 1] = cos[1, 0] = 0.5
    cos[0, 2] = cos[2, 0] = 0.9  # the one hard impostor pair
    log_sigma_sq = torch.zeros(5, 1, dtype=torch.float64, requires_grad=True)
    ranking_loss(cos, log_sigma_sq, Pairs.of(torch.tensor([0, 0, 1, 2, 3])), fmr=0.01).backward()
    assert log_sigma_sq.grad is not None
    assert (log_sigma_sq.grad[:, 0] != 0).tolist() == [True, True, True, False, False]


def test_gradient() -> None:
    cos, log_sigma_sq, pairs = _batch(PEOPLE)
    log_sigma_sq.requires_grad_()
    assert gradcheck(lambda s: ranking_loss(cos, s, pairs, fmr=0.2), (log_sigma_sq,))


def test_the_means_are_frozen() -> None:
    cos, log_sigma_sq, pairs = _batch(PEOPLE)
    cos.requires_grad_()
    ranking_loss(cos, log_sigma_sq.requires_grad_(), pairs).backward()
    assert cos.grad is None


@pytest.mark.parametrize("people", [[0, 1, 2, 3], [4, 4, 4], [0]])
def test_without_both_kinds_of_pairs_loss_and_gradient_are_zero(people: list[int]) -> None:
    cos, log_sigma_sq, pairs = _batch(people)
    loss = ranking_loss(cos, log_sigma_sq.requires_grad_(), pairs)
    loss.backward()
    assert float(loss.detach()) == 0
    assert log_sigma_sq.grad is not None
    assert log_sigma_sq.grad.abs().max() == 0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(math.log(1e-6), math.log(1e3)), min_size=8, max_size=8))
def test_finite_and_not_negative_from_tiny_to_huge_variances(values: list[float]) -> None:
    cos, _, pairs = _batch(PEOPLE)
    log_sigma_sq = torch.tensor(values, dtype=torch.float32)[:, None].requires_grad_()
    loss = ranking_loss(cos.float(), log_sigma_sq, pairs)
    loss.backward()
    assert 0 <= float(loss.detach()) < math.inf
    assert log_sigma_sq.grad is not None
    assert torch.isfinite(log_sigma_sq.grad).all()


def test_what_it_does_not_take() -> None:
    cos, log_sigma_sq, pairs = _batch(PEOPLE)
    with pytest.raises(InvalidValue, match="log_sigma_sq of 5 columns: the ranking loss takes one variance a face"):
        ranking_loss(cos, log_sigma_sq.repeat(1, 5), pairs)
    for wrong in ({"fmr": 0.0}, {"fmr": 1.1}, {"slope": 0.0}, {"fmr": math.nan}):
        with pytest.raises(InvalidValue, match="ranking: fmr"):
            ranking_loss(cos, log_sigma_sq, pairs, **wrong)
