import math
import re
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional

from probface.errors import InvalidValue
from probface.loss.margin import with_margin

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of another package, on import
    from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss

BATCH, CLASSES, DIM = 40, 7, 5


def theirs(kind: str, margin: float, scale: float) -> CosFaceLoss | ArcFaceLoss:
    if kind == "arcface":
        return ArcFaceLoss(CLASSES, DIM, margin=math.degrees(margin), scale=scale).double()
    return CosFaceLoss(CLASSES, DIM, margin=margin, scale=scale).double()


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5, 1.3])
@pytest.mark.parametrize("kind", ["cosface", "am_softmax", "arcface"])
def test_loss_and_gradients_are_those_of_pytorch_metric_learning(kind: str, margin: float) -> None:
    generator = torch.Generator().manual_seed(1)
    other = theirs(kind, margin, 16.0)
    embedding = torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    # Some faces lie near their own class, and some so far from it that theta + m passes pi.
    embedding[:8] = other.W.detach().T[labels[:8]] + 0.05 * embedding[:8]
    embedding[8:16] = -other.W.detach().T[labels[8:16]] + 0.02 * embedding[8:16]
    ours, wanted = embedding.clone().requires_grad_(), embedding.clone().requires_grad_()
    weight = other.W.detach().T.clone().requires_grad_()

    cos = functional.normalize(ours) @ functional.normalize(weight).T
    rows = torch.arange(BATCH)
    harder = with_margin(cos[rows, labels], kind, margin)  # type: ignore[arg-type]
    loss = functional.cross_entropy(16.0 * cos.index_put((rows, labels), harder), labels)
    loss.backward()
    expected = other(wanted, labels)
    expected.backward()

    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(ours.grad, wanted.grad, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(weight.grad, other.W.grad.T, rtol=1e-6, atol=1e-9)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["cosface", "arcface"])
def test_slopes_are_those_of_finite_differences(kind: str) -> None:
    margin, width = 0.5, 1e-6
    angles = np.linspace(0.01, math.pi - 0.01, 101)
    angles = angles[np.abs(angles - (math.pi - margin)) > 1e-3]  # where the line begins there is a step
    cos = torch.from_numpy(np.cos(angles)).requires_grad_()
    with_margin(cos, kind, margin).sum().backward()  # type: ignore[arg-type]
    with torch.no_grad():
        above, below = (with_margin(cos + side * width, kind, margin) for side in (1, -1))  # type: ignore[arg-type]
    torch.testing.assert_close(cos.grad, (above - below) / (2 * width), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.5])
def test_arcface_turns_the_angle_and_falls_all_the_way_to_pi(margin: float) -> None:
    angles = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
    harder = with_margin(angles.cos(), "arcface", margin)
    within = angles < math.pi - margin
    # The root is kept 1e-7 away from 0, which is felt within a thousandth of angle 0.
    torch.testing.assert_close(harder[within], (angles[within] + margin).cos(), rtol=0, atol=4e-4)
    assert (harder.diff() < 0).all()
    assert (harder <= angles.cos()).all()


@pytest.mark.parametrize("kind", ["cosface", "am_softmax", "arcface"])
def test_no_margin_is_the_plain_cosine(kind: str) -> None:
    cos = torch.linspace(-1, 1, 101)
    torch.testing.assert_close(with_margin(cos, kind, 0.0), cos, rtol=0, atol=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("cosine", [-1.0, 1.0, 1.0 + 1e-7, -1.0 - 1e-7])
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_slopes_are_finite_where_the_angle_is_none(cosine: float, margin: float) -> None:
    cos = torch.tensor([cosine], requires_grad=True)
    harder = with_margin(cos, "arcface", margin)
    harder.sum().backward()
    assert harder.isfinite().all()
    assert cos.grad is not None
    assert cos.grad.isfinite().all()


def test_cosines_are_left_as_they_were() -> None:
    cos = torch.linspace(-1, 1, 5)
    for kind in ("cosface", "arcface"):
        with_margin(cos, kind, 0.5)  # type: ignore[arg-type]
    torch.testing.assert_close(cos, torch.linspace(-1, 1, 5), rtol=0, atol=0)


def test_an_unknown_margin_names_the_known_ones() -> None:
    message = "margin 'sphereface': must be one of cosface, am_softmax, arcface"
    with pytest.raises(InvalidValue, match=re.escape(message)):
        with_margin(torch.zeros(1), "sphereface", 0.5)  # type: ignore[arg-type]
