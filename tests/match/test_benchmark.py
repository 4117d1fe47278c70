import numpy as np
import pytest

from probface.errors import InvalidValue
from probface.match.benchmark import interleaved, machine, measure_matrix, measure_search
from probface.match.synthetic import synthetic_faces
from probface.types import Embeddings


def test_synthetic_faces_are_as_said() -> None:
    probes, references = synthetic_faces(400, 5000, 128)
    assert (probes.mu.shape, references.mu.shape, references.sigma_sq.shape) == ((400, 128), (5000, 128), (5000, 1))
    best = (probes.mu @ references.mu.T).max(axis=1)
    assert np.median(best[:200]) < 0.45 < 0.55 < np.median(best[200:])  # strangers, and people of the gallery
    again, _ = synthetic_faces(400, 5000, 128)
    assert np.array_equal(again.mu, probes.mu)


@pytest.mark.parametrize("rival", ["faiss", "numpy"])
def test_a_search_is_compared_in_every_way(rival: str) -> None:
    probes, references = synthetic_faces(30, 2000, 32)
    rows = list(measure_search(probes, references, 5, rival=rival, path="auto", threads=1, rounds=1))
    assert [row.task.split(":")[0] for row in rows] == [
        "fastmls, int8",
        "fastmls, float32",
        "cosine, int8",
        "cosine, float32",
    ]
    assert all(row.ratio == row.seconds / row.rival_seconds > 0 for row in rows)
    assert all(row.rescored is not None and 5 <= row.rescored <= 2000 for row in rows)


def test_a_matrix_is_compared_by_its_width() -> None:
    a, b = synthetic_faces(20, 300, 16)
    assert measure_matrix(a, b, path="auto", threads=1, rounds=1).task.startswith("fastmls matrix, 20 x 300, D = 16")
    wide = [Embeddings(side.mu, np.repeat(side.sigma_sq, 16, axis=1)) for side in (a, b)]
    assert measure_matrix(*wide, path="auto", threads=1, rounds=1).task.startswith("mls matrix")


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, 1)
    assert calls == ["a", "b"] * 3  # a round to warm up, two that count
    with pytest.raises(InvalidValue, match="rounds 0: must be 1 or more"):
        interleaved({}, 0, 1)


def test_the_machine_is_named() -> None:
    where = machine("numpy", 2)
    assert (where.path, where.threads, where.clock) == ("numpy", 2, "wall time")
    assert where.processor
    assert any(library.startswith("numpy: ") for library in where.libraries)
