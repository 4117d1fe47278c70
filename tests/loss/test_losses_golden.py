"""The losses against the authors' own code, on a batch of 32 faces with one and with D variances."""

import pytest
import torch
from torch import Tensor

from probface.loss.identification import contrastive, distance_matrix, identity_preserving
from probface.loss.mls import mls_loss
from probface.loss.output_constraint import output_constraint
from probface.loss.pairs import Pairs

both = pytest.mark.parametrize("head", ["scalar", "diagonal"])


def _batch(golden: dict[str, Tensor], head: str) -> tuple[Tensor, Tensor, Pairs]:
    log_sigma_sq = golden[f"{head}_log_sigma_sq"].clone().requires_grad_()
    return golden["mu"], log_sigma_sq, Pairs.of(golden["labels"])


def _close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours.detach(), theirs, rtol=1e-5, atol=1e-6)


@both
def test_likelihood(golden: dict[str, Tensor], head: str) -> None:
    mu, log_sigma_sq, pairs = _batch(golden, head)
    loss = mls_loss(mu, log_sigma_sq, pairs)
    _close(loss, golden[f"{head}_mls_loss"])
    loss.backward()
    _close(log_sigma_sq.grad, golden[f"{head}_grad_mls_wrt_log_sigma_sq"])


@both
def test_semi_hard_triplets(golden: dict[str, Tensor], head: str) -> None:
    mu, log_sigma_sq, pairs = _batch(golden, head)
    loss = identity_preserving(distance_matrix(mu, log_sigma_sq), pairs, margin=3.0)
    _close(loss, golden[f"{head}_triplet_semihard_margin3"])
    loss.backward()
    _close(log_sigma_sq.grad, golden[f"{head}_grad_triplet_wrt_log_sigma_sq"])


@both
def test_contrastive_and_distances(golden: dict[str, Tensor], head: str) -> None:
    mu, log_sigma_sq, pairs = _batch(golden, head)
    distance = distance_matrix(mu, log_sigma_sq)
    _close(contrastive(distance, pairs, margin=3.0), golden[f"{head}_contrastive_margin3"])
    _close(distance[pairs.anchor, pairs.positive].mean(), golden[f"{head}_attention_pos_mean"])
    _close(distance[~pairs.same].mean(), golden[f"{head}_attention_neg_mean"])


@both
@pytest.mark.parametrize(
    ("form", "reduction", "name"),
    [("absolute", "mean", "l1_mean"), ("absolute", "sum", "l1_sum"), ("squared", "sum", "l2_sum")],
)
def test_output_constraint(golden: dict[str, Tensor], head: str, form: str, reduction: str, name: str) -> None:
    _, log_sigma_sq, _ = _batch(golden, head)
    _close(output_constraint(log_sigma_sq, form=form, reduction=reduction), golden[f"{head}_oc_{name}"])
