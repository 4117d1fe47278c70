"""Curves of millions of operating points, thinned for drawing."""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

import numpy as np

from probface.errors import InvalidValue
from probface.eval.metrics.identification import OpenSetCurve
from probface.eval.metrics.verification import Det, Roc

Curve = TypeVar("Curve", Roc, Det, OpenSetCurve)


def thin(curve: Curve, points: int = 400) -> Curve:
    """At most ``points`` of the operating points, as they are: none is moved, averaged or made up.

    The ends stay, and the point at which the false-match rate (FPIR) leaves 0; of the others the last at or below each
    of a row of rates, spaced evenly on a logarithmic axis from the smallest that occurs to 1. A curve that is short
    enough stays whole.

    Raises:
        InvalidValue: fewer than 4 points asked for.
    """
    if points < 4:
        raise InvalidValue(f"{points} points of a curve: need at least 4")
    rate = curve.fpir if isinstance(curve, OpenSetCurve) else curve.fmr
    if len(rate) <= points:
        return curve
    lowest = rate[np.searchsorted(rate, 0, side="right")]
    targets = np.concatenate([[0.0], np.geomspace(lowest, 1, points - 2)])
    rows = np.unique(np.concatenate([[0], np.searchsorted(rate, targets, side="right") - 1]))
    return type(curve)(**{field.name: getattr(curve, field.name)[rows] for field in fields(curve)})
