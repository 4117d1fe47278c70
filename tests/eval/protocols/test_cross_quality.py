from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from probface.errors import DataError, InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.protocols.cross_quality import clean_and_degraded, cross_quality
from probface.types import Embeddings

NAMES, SUBJECTS = ("a1", "a2", "b1", "c1"), ("ann", "ann", "bob", "cyd")


def table(names: tuple[str, ...], seed: int, *measures: str) -> FaceTable:
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(len(names), 4))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    return FaceTable(
        names,
        Embeddings(mu.astype(np.float32), rng.uniform(0.1, 1, (len(names), 1)).astype(np.float32)),
        {measure: rng.random(len(names)) for measure in measures},
    )


def test_every_pair_of_states_but_an_image_and_its_own_copy() -> None:
    found = cross_quality(NAMES, SUBJECTS, "extreme")
    states = [*NAMES, *(f"{name} (extreme)" for name in NAMES)]
    who = dict(zip(states, SUBJECTS * 2, strict=True))
    expected = {(a, b): who[a] == who[b] for a, b in combinations(states, 2) if a.split(" (")[0] != b.split(" (")[0]}
    names = [(found.names[i], found.names[j]) for i, j in zip(found.first, found.second, strict=True)]
    assert len(names) == 8 * 7 // 2 - 4
    assert dict(zip(names, found.genuine.tolist(), strict=True)) == expected
    assert found.subjects == SUBJECTS * 2
    assert found.folds is None
    assert found.duplicate() is None


def test_lists_that_are_no_protocol_are_refused() -> None:
    with pytest.raises(DataError, match="image 'a1': is named twice"):
        cross_quality(("a1", "b1", "a1"), ("ann", "bob", "ann"))
    with pytest.raises(DataError, match="all 4 pairs are impostors'"):
        cross_quality(("a1", "b1"), ("ann", "bob"))
    with pytest.raises(DataError, match="all 4 pairs are genuine"):
        cross_quality(("a1", "a2"), ("ann", "ann"))
    with pytest.raises(InvalidValue, match="2 images of 1 subjects"):
        cross_quality(("a1", "a2"), ("ann",))
    with pytest.raises(InvalidValue, match="need two images or more"):
        cross_quality(("a1",), ("ann",))


def test_copies_follow_the_images_in_their_order() -> None:
    clean, degraded = table(NAMES, 0, "norm", "sharpness"), table(NAMES[::-1], 1, "sharpness", "other")
    found = clean_and_degraded(clean, degraded, "moderate")
    assert found.names == cross_quality(NAMES, SUBJECTS).names
    assert list(found.measures) == ["sharpness"]
    for row, name in enumerate(NAMES):
        copy = degraded.names.index(name)
        assert (found.embeddings.mu[[row, 4 + row]] == [clean.embeddings.mu[row], degraded.embeddings.mu[copy]]).all()
        assert found.measures["sharpness"][4 + row] == degraded.measures["sharpness"][copy]
    with pytest.raises(DataError, match="image 'c1'"):
        clean_and_degraded(clean, table(NAMES[:3], 1))
