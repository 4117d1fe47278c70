"""Thinned curves: points of the whole one, the ends among them, and near enough everywhere to draw."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probface.errors import InvalidValue
from probface.eval.metrics.curves import Curve, thin
from probface.eval.metrics.identification import OpenSetCurve, Searches, open_set_curve
from probface.eval.metrics.verification import det, roc


def _curves(genuine: int, impostor: int, seed: int, levels: int = 1000) -> list[Curve]:
    rng = np.random.default_rng(seed)
    own = np.rint(levels * rng.normal(2, 1, genuine)) / levels
    other = np.rint(levels * rng.normal(0, 1, impostor)) / levels
    searches = Searches(own, rng.integers(1, 3, genuine), other, 2)
    return [roc(own, other), det(own, other), open_set_curve(searches)]


def _points(curve: Curve) -> list[tuple[float, ...]]:
    return list(zip(*(getattr(curve, field.name).tolist() for field in fields(curve)), strict=True))


def _rate(curve: Curve) -> np.ndarray:
    return curve.fpir if isinstance(curve, OpenSetCurve) else curve.fmr


@given(st.integers(1, 200), st.integers(1, 200), st.integers(4, 60), st.integers(0, 99))
def test_no_point_is_moved(genuine: int, impostor: int, points: int, seed: int) -> None:
    for curve in _curves(genuine, impostor, seed):
        whole, few = _points(curve), _points(thin(curve, points))
        assert len(few) <= points
        assert [few[0], few[-1]] == [whole[0], whole[-1]]
        places = [whole.index(point) for point in few]
        assert places == sorted(set(places))
        if len(whole) <= points:
            assert few == whole
        assert whole[int(np.flatnonzero(_rate(curve) == 0)[-1])] in few


def test_the_drawing_stays_the_same() -> None:
    for curve in _curves(5000, 200_000, 0, levels=1_000_000):
        few = thin(curve)
        assert len(curve.threshold) > 190_000
        assert 200 < len(_points(few)) <= 400
        other = fields(curve)[2].name
        grid = np.geomspace(1e-4, 1, 500)
        drawn = np.interp(np.log(grid), np.log(np.maximum(_rate(few), 1e-9)), getattr(few, other))
        exact = getattr(curve, other)[np.searchsorted(_rate(curve), grid * (1 + 1e-12), side="right") - 1]
        np.testing.assert_allclose(drawn, exact, atol=6e-3)
        kept = _rate(few)[_rate(few) > 1e-2]
        steps = np.diff(np.log(kept))
        assert steps.max() < 1.1 * np.median(steps)  # even on a logarithmic axis


def test_too_few_points() -> None:
    curve = _curves(5, 5, 0)[0]
    with pytest.raises(InvalidValue, match="3 points of a curve: need at least 4"):
        thin(curve, 3)
