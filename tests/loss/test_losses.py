"""The losses against loops in plain Python, their gradients against finite differences, and the edges of both."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from probface.errors import InvalidValue
from probface.loss.identification import contrastive, distance_matrix, identity_preserving
from probface.loss.mls import mls_loss
from probface.loss.output_constraint import output_constraint
from probface.loss.pairs import Pairs

DIM = 5
LABELS = {
    "mixed": [0, 1, 0, 2, 1, 0, 3],
    "two people": [0, 0, 0, 1, 1],
    "no genuine pair": [0, 1, 2, 3],
    "no impostor pair": [4, 4, 4],
    "one face": [0],
}
batches = pytest.mark.parametrize("name", LABELS)
widths = pytest.mark.parametrize("width", [1, DIM])


def _batch(labels: list[int], width: int, seed: int = 0, spread: float = 1.5) -> tuple[Tensor, Tensor, Pairs]:
    generator = torch.Generator().manual_seed(seed)
    mu = torch.randn(len(labels), DIM, generator=generator, dtype=torch.float64)
    log_sigma_sq = spread * torch.randn(len(labels), width, generator=generator, dtype=torch.float64)
    return mu / mu.norm(dim=1, keepdim=True), log_sigma_sq, Pairs.of(torch.tensor(labels))


def _distance(mu: Tensor, log_sigma_sq: Tensor, i: int, j: int) -> float:
    """The distance of two faces in units of their variance; over D variances the mean."""
    squares = [(float(mu[i, k]) - float(mu[j, k])) ** 2 for k in range(DIM)]
    t = [math.exp(a) + math.exp(b) for a, b in zip(log_sigma_sq[i].tolist(), log_sigma_sq[j].tolist(), strict=True)]
    return sum(squares) / t[0] if len(t) == 1 else sum(s / v for s, v in zip(squares, t, strict=True)) / DIM


def _log_t(log_sigma_sq: Tensor, i: int, j: int) -> float:
    logs = [
        math.log(math.exp(a) + math.exp(b))
        for a, b in zip(log_sigma_sq[i].tolist(), log_sigma_sq[j].tolist(), strict=True)
    ]
    return sum(logs) / len(logs)


def _mls(mu: Tensor, log_sigma_sq: Tensor, labels: list[int]) -> float:
    terms = [
        _distance(mu, log_sigma_sq, i, j) + _log_t(log_sigma_sq, i, j)
        for i in range(len(labels))
        for j in range(i + 1, len(labels))
        if labels[i] == labels[j]
    ]
    return sum(terms) / len(terms) if terms else 0.0


def _triplets(mu: Tensor, log_sigma_sq: Tensor, labels: list[int], margin: float, mining: str) -> float:
    hinges = []
    for a in range(len(labels)):
        negatives = [_distance(mu, log_sigma_sq, a, n) for n in range(len(labels)) if labels[n] != labels[a]]
        for p in range(len(labels)):
            if p == a or labels[p] != labels[a] or not negatives:
                continue
            positive = _distance(mu, log_sigma_sq, a, p)
            farther = [d for d in negatives if d > positive]
            chosen = negatives if mining == "all" else [min(farther) if farther else max(negatives)]
            hinges += [max(positive - d + margin, 0) for d in chosen]
    return sum(hinges) / len(hinges) if hinges else 0.0


def _contrastive(mu: Tensor, log_sigma_sq: Tensor, labels: list[int], margin: float) -> float:
    ordered = [(i, j) for i in range(len(labels)) for j in range(len(labels)) if i != j]
    genuine = [_distance(mu, log_sigma_sq, i, j) for i, j in ordered if labels[i] == labels[j]]
    impostor = [max(margin - _distance(mu, log_sigma_sq, i, j), 0) for i, j in ordered if labels[i] != labels[j]]
    return sum(sum(terms) / len(terms) for terms in (genuine, impostor) if terms)


@batches
@widths
def test_likelihood(name: str, width: int) -> None:
    mu, log_sigma_sq, pairs = _batch(LABELS[name], width)
    loss = mls_loss(mu, log_sigma_sq, pairs)
    assert float(loss) == pytest.approx(_mls(mu, log_sigma_sq, LABELS[name]), rel=1e-12)
    assert float(mls_loss(mu, log_sigma_sq, pairs, cos=mu @ mu.T)) == pytest.approx(float(loss), rel=1e-12)
    summed = mls_loss(mu, log_sigma_sq, pairs, over_dimensions="sum")
    assert float(summed) == pytest.approx(float(loss) * width, rel=1e-12)


@batches
@widths
@pytest.mark.parametrize("margin", [0.1, 3.0])
@pytest.mark.parametrize("mining", ["semi_hard", "all"])
def test_triplets(name: str, width: int, margin: float, mining: str) -> None:
    for seed in range(5):
        mu, log_sigma_sq, pairs = _batch(LABELS[name], width, seed)
        loss = identity_preserving(distance_matrix(mu, log_sigma_sq), pairs, margin=margin, mining=mining)
        expected = _triplets(mu, log_sigma_sq, LABELS[name], margin, mining)
        assert float(loss) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@widths
def test_a_negative_as_far_as_the_positive_is_not_farther(width: int) -> None:
    mu, log_sigma_sq, _ = _batch([0, 0, 1, 2], width)
    mu[2], log_sigma_sq[2] = mu[1], log_sigma_sq[1]
    distance = distance_matrix(mu, log_sigma_sq)
    assert distance[0, 1] == distance[0, 2]
    loss = identity_preserving(distance, Pairs.of(torch.tensor([0, 0, 1, 2])), margin=3.0)
    assert float(loss) == pytest.approx(_triplets(mu, log_sigma_sq, [0, 0, 1, 2], 3.0, "semi_hard"), rel=1e-9)


@batches
@widths
def test_contrastive(name: str, width: int) -> None:
    mu, log_sigma_sq, pairs = _batch(LABELS[name], width)
    loss = contrastive(distance_matrix(mu, log_sigma_sq), pairs, margin=3.0)
    expected = _contrastive(mu, log_sigma_sq, LABELS[name], 3.0)
    assert float(loss) == pytest.approx(expected, rel=1e-9)


@widths
def test_given_cosines_make_the_same_distances(width: int) -> None:
    mu, log_sigma_sq, _ = _batch(LABELS["mixed"], width)
    given_cos = distance_matrix(mu, log_sigma_sq, mu @ mu.T)
    torch.testing.assert_close(given_cos, distance_matrix(mu, log_sigma_sq))


@batches
@widths
@pytest.mark.parametrize("form", ["absolute", "squared"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("detach_mean", [True, False])
def test_output_constraint(name: str, width: int, form: str, reduction: str, detach_mean: bool) -> None:
    log_sigma_sq = _batch(LABELS[name], width)[1].requires_grad_()
    loss = output_constraint(log_sigma_sq, form=form, reduction=reduction, detach_mean=detach_mean)
    values = [math.exp(v) for v in log_sigma_sq.detach().flatten().tolist()]
    mean = sum(values) / len(values)
    terms = [abs(v / mean - 1) ** (1 if form == "absolute" else 2) for v in values]
    assert float(loss.detach()) == pytest.approx(
        sum(terms) / (len(values) if reduction == "mean" else 1), rel=1e-9, abs=1e-12
    )
    if not detach_mean:
        return
    # With the mean held fast: d|r - 1| = sign(r - 1) r ds and d(r - 1)^2 = 2 (r - 1) r ds, where r = sigma^2 / mean.
    loss.backward()
    ratios = torch.tensor(values, dtype=torch.float64) / mean
    slope = torch.sign(ratios - 1) if form == "absolute" else 2 * (ratios - 1)
    expected = (slope * ratios).reshape(log_sigma_sq.shape) / (len(values) if reduction == "mean" else 1)
    if len(values) > 1:
        torch.testing.assert_close(log_sigma_sq.grad, expected)


def _losses(width: int) -> dict[str, Callable[[Tensor], Tensor]]:
    mu, _, pairs = _batch(LABELS["mixed"], width)
    return {
        "likelihood": lambda s: mls_loss(mu, s, pairs),
        "sum over dimensions": lambda s: mls_loss(mu, s, pairs, over_dimensions="sum"),
        "semi-hard": lambda s: identity_preserving(distance_matrix(mu, s), pairs),
        "all triplets": lambda s: identity_preserving(distance_matrix(mu, s), pairs, mining="all"),
        "contrastive": lambda s: contrastive(distance_matrix(mu, s), pairs),
        "constraint": lambda s: output_constraint(s, detach_mean=False),
        "squared constraint": lambda s: output_constraint(s, form="squared", reduction="sum", detach_mean=False),
    }


@widths
@pytest.mark.parametrize("name", list(_losses(1)))
def test_gradients(width: int, name: str) -> None:
    log_sigma_sq = _batch(LABELS["mixed"], width)[1].requires_grad_()
    assert gradcheck(_losses(width)[name], (log_sigma_sq,))


@widths
def test_the_means_are_frozen(width: int) -> None:
    mu, log_sigma_sq, pairs = _batch(LABELS["mixed"], width)
    mu, log_sigma_sq = mu.requires_grad_(), log_sigma_sq.requires_grad_()
    loss = mls_loss(mu, log_sigma_sq, pairs) + identity_preserving(distance_matrix(mu, log_sigma_sq), pairs)
    loss.backward()
    assert mu.grad is None
    assert log_sigma_sq.grad is not None


@widths
@pytest.mark.parametrize("name", ["no genuine pair", "one face"])
def test_without_pairs_loss_and_gradient_are_zero(width: int, name: str) -> None:
    mu, log_sigma_sq, pairs = _batch(LABELS[name], width)
    log_sigma_sq.requires_grad_()
    loss = mls_loss(mu, log_sigma_sq, pairs) + identity_preserving(distance_matrix(mu, log_sigma_sq), pairs)
    loss.backward()
    assert float(loss.detach()) == 0
    assert log_sigma_sq.grad.abs().max() == 0


@widths
@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(math.log(1e-6), math.log(1e3)), min_size=7, max_size=7))
def test_finite_from_tiny_to_huge_variances(width: int, values: list[float]) -> None:
    mu, _, pairs = _batch(LABELS["mixed"], width)
    mu = mu.float()
    log_sigma_sq = torch.tensor(values, dtype=torch.float32)[:, None].repeat(1, width).requires_grad_()
    distance = distance_matrix(mu, log_sigma_sq)
    total = mls_loss(mu, log_sigma_sq, pairs) + output_constraint(log_sigma_sq) + contrastive(distance, pairs)
    for mining in ("semi_hard", "all"):
        total = total + identity_preserving(distance, pairs, mining=mining)
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(log_sigma_sq.grad).all()


@given(st.floats(-5, 5))
def test_equal_variances_are_not_constrained(value: float) -> None:
    assert float(output_constraint(torch.full((6, 1), value, dtype=torch.float64))) == pytest.approx(0, abs=1e-12)


def test_pairs() -> None:
    pairs = Pairs.of(torch.tensor([0, 1, 0, 1, 0]))
    ordered = set(zip(pairs.anchor.tolist(), pairs.positive.tolist(), strict=True))
    assert ordered == {(0, 2), (0, 4), (2, 0), (2, 4), (4, 0), (4, 2), (1, 3), (3, 1)}
    assert set(zip(*(side.tolist() for side in pairs.upper), strict=True)) == {(0, 2), (0, 4), (2, 4), (1, 3)}
    assert pairs.same.diagonal().all()


def test_unknown_mining() -> None:
    mu, log_sigma_sq, pairs = _batch(LABELS["mixed"], 1)
    with pytest.raises(InvalidValue, match="mining 'hard': must be 'semi_hard' or 'all'"):
        identity_preserving(distance_matrix(mu, log_sigma_sq), pairs, mining="hard")  # type: ignore[arg-type]
