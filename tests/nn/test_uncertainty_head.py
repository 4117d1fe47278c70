"""The head against its formula in numpy, in training and in inference."""

import math

import numpy as np
import pytest
import torch

from probface.errors import InvalidValue
from probface.nn.uncertainty_head import UncertaintyHead

FEATURES, HIDDEN = 12, 16
both = pytest.mark.parametrize("outputs", [1, 5])


def _head(outputs: int, seed: int = 0) -> UncertaintyHead:
    torch.manual_seed(seed)
    mean, scale = torch.randn(FEATURES), torch.rand(FEATURES) + 0.5
    return UncertaintyHead(FEATURES, outputs, hidden=HIDDEN, feature_mean=mean, feature_scale=scale)


def _batch(count: int = 9, seed: int = 1) -> torch.Tensor:
    return 3 * torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed))


def _normalise(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return (x - mean) / np.sqrt(variance + 1e-3)


def _by_hand(head: UncertaintyHead, features: torch.Tensor, training: bool) -> np.ndarray:
    state = {name: value.double().numpy() for name, value in head.state_dict().items()}
    x = (features.double().numpy() - state["feature_mean"]) / state["feature_scale"]
    hidden = x @ state["fc1.weight"].T
    mean, variance = (
        (hidden.mean(0), hidden.var(0)) if training else (state["bn1.running_mean"], state["bn1.running_var"])
    )
    hidden = np.maximum(_normalise(hidden, mean, variance) * state["bn1.weight"] + state["bn1.bias"], 0)
    out = hidden @ state["fc2.weight"].T
    mean, variance = (out.mean(0), out.var(0)) if training else (state["bn2.running_mean"], state["bn2.running_var"])
    return np.log(1e-6 + np.exp(state["scale"] * _normalise(out, mean, variance) + state["shift"]))


@both
@pytest.mark.parametrize("training", [True, False])
def test_formula(outputs: int, training: bool) -> None:
    head = _head(outputs).train()
    for seed in range(3):
        head(_batch(seed=seed))  # moves the running mean and variance off their start
    head.train(training)
    expected = _by_hand(head, _batch(), training)
    found = head(_batch()).detach().numpy()
    assert found.shape == (9, outputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@both
def test_where_it_starts(outputs: int) -> None:
    head = _head(outputs)
    assert float(head.scale.detach()) == pytest.approx(0.1)
    assert float(head.shift.detach()) == (-1 if outputs == 1 else -7)
    # Normalised outputs have mean 0, so log sigma^2 begins about the shift, whatever the features.
    started = head(100 * _batch(200)).detach()
    assert float(started.mean()) == pytest.approx(float(head.shift.detach()), abs=0.05)
    bound = math.sqrt(6 / (FEATURES + HIDDEN))  # Xavier
    weights = head.fc1.weight.detach().abs()
    assert 0.9 * bound < float(weights.max()) <= bound


@both
def test_running_averages_move_as_the_reference_says(outputs: int) -> None:
    head = _head(outputs).train()
    hidden = head.fc1((_batch() - head.feature_mean) / head.feature_scale).detach()
    head(_batch())
    torch.testing.assert_close(head.bn1.running_mean, 0.005 * hidden.mean(0))
    torch.testing.assert_close(head.bn1.running_var, 0.995 + 0.005 * hidden.var(0))


@both
def test_what_is_learnt(outputs: int) -> None:
    names = {name for name, _ in _head(outputs).named_parameters()}
    assert names == {"fc1.weight", "bn1.weight", "bn1.bias", "fc2.weight", "scale", "shift"}
    head = _head(outputs)
    head(_batch()).square().sum().backward()
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_variance_never_falls_below_its_floor() -> None:
    head = _head(1).eval()
    with torch.no_grad():
        head.shift.fill_(-50.0)
        torch.testing.assert_close(head(_batch()).exp(), torch.full((9, 1), 1e-6))


def test_inference_does_not_depend_on_the_batch() -> None:
    head = _head(1).eval()
    with torch.no_grad():
        whole = head(_batch())
        single = torch.cat([head(row[None]) for row in _batch()])
    torch.testing.assert_close(whole, single)


def test_without_standardisation() -> None:
    head = UncertaintyHead(FEATURES)
    assert head.fc1.weight.shape == (256, FEATURES)
    assert (head.feature_mean == 0).all()
    assert (head.feature_scale == 1).all()


@pytest.mark.parametrize("name", ["feature_mean", "feature_scale"])
def test_bad_shapes(name: str) -> None:
    with pytest.raises(InvalidValue, match=r"must be of shape \(12,\), one number for each feature"):
        UncertaintyHead(FEATURES, **{name: torch.ones(FEATURES + 1)})


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_bad_scale(value: float) -> None:
    scale = torch.ones(FEATURES)
    scale[3] = value
    with pytest.raises(InvalidValue, match="use 1 for a feature that never varies"):
        UncertaintyHead(FEATURES, feature_scale=scale)
