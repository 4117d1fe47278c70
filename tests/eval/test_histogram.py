from __future__ import annotations

import numpy as np
import pytest

from probface.eval.metrics.histogram import score_shares


def test_shares_are_counted_in_common_bins() -> None:
    found = score_shares(np.array([0.9, 1.0]), np.array([0.0, 0.1, 0.2, 0.9]), 2)
    np.testing.assert_allclose(found.edges, [3e-4, 0.50015, 1.0])  # the lowest thousandth of the impostors is cut off
    assert (found.genuine.tolist(), found.impostor.tolist()) == ([0, 1], [0.75, 0.25])


def test_every_score_is_in_a_bin() -> None:
    rng = np.random.default_rng(0)
    genuine, impostor = rng.normal(3, 1, 500).astype(np.float32), rng.normal(0, 1, 20_000).astype(np.float32)
    found = score_shares(genuine, impostor, 60)
    assert found.genuine.sum() == pytest.approx(1, abs=1e-12)
    assert found.impostor.sum() == pytest.approx(1, abs=1e-12)
    assert found.impostor[0] >= 1e-3


def test_one_score_for_all_and_no_genuine_ones() -> None:
    found = score_shares(np.empty(0), np.full(5, 0.5), 4)
    assert (np.diff(found.edges) > 0).all()
    assert found.genuine.sum() == 0
    assert found.impostor.sum() == 1
