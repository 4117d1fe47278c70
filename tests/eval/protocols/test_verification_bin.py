from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from probface.errors import DataError, InvalidValue
from probface.eval.protocols.verification_bin import bin_comparisons, fuse_mirror
from probface.eval.verification.draws import Draws
from probface.readers.item import Item
from probface.readers.verification_bin import VerificationSet
from probface.types import Embeddings


def verification_set(genuine: list[bool]) -> VerificationSet:
    return VerificationSet(
        tuple(Item(f"lfw.bin/{number:05d}", b"") for number in range(2 * len(genuine))), np.array(genuine, np.bool_)
    )


def test_pairs_are_neighbours_and_nobody_is_known() -> None:
    found = bin_comparisons(verification_set([True, False, True]))
    assert found.names == tuple(f"lfw.bin/{number:05d}" for number in range(6))
    assert (found.first.tolist(), found.second.tolist()) == ([0, 2, 4], [1, 3, 5])
    assert found.subjects == ("pair 0", "pair 0", "image 2", "image 3", "pair 2", "pair 2")
    assert found.folds is None
    draws = Draws.of(found)
    assert (draws.single, draws.units) == (True, 3)


@given(st.integers(10, 99))
def test_folds_are_those_of_the_scripts(count: int) -> None:
    found = bin_comparisons(verification_set([pair % 2 == 0 for pair in range(count)]))
    assert found.folds is not None
    for number, (_, rows) in enumerate(KFold(n_splits=10, shuffle=False).split(np.arange(count)), 1):
        assert np.flatnonzero(found.folds == number).tolist() == rows.tolist()


def test_one_kind_alone_is_refused() -> None:
    with pytest.raises(DataError, match="all 2 pairs are genuine"):
        bin_comparisons(verification_set([True, True]))


def test_mirror_images_are_fused() -> None:
    image = Embeddings(np.array([[1, 0], [0, 1]], np.float32), np.array([[0.2], [0.4]], np.float32))
    mirror = Embeddings(np.array([[0, 1], [0, 1]], np.float32), np.array([[0.4], [0.1]], np.float32))
    found = fuse_mirror(image, mirror)
    np.testing.assert_allclose(found.mu, [[np.sqrt(0.5), np.sqrt(0.5)], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(found.sigma_sq, [[0.3], [0.25]], rtol=1e-6)
    np.testing.assert_allclose(fuse_mirror(image, mirror, variance="minimum").sigma_sq, [[0.2], [0.1]])
    other = fuse_mirror(mirror, image)
    assert (other.mu == found.mu).all()
    assert (other.sigma_sq == found.sigma_sq).all()


def test_mirror_images_that_cannot_be_fused() -> None:
    image = Embeddings(np.array([[1, 0]], np.float32), np.array([[0.2]], np.float32))
    with pytest.raises(InvalidValue, match="row 0: image and mirror image have opposite means"):
        fuse_mirror(image, Embeddings(-image.mu, image.sigma_sq))
    with pytest.raises(InvalidValue, match="must be alike"):
        fuse_mirror(image, image[[0, 0]])
    with pytest.raises(InvalidValue, match="variance 'sum': must be mean or minimum"):
        fuse_mirror(image, image, variance="sum")  # type: ignore[arg-type]


def test_with_norms_the_raw_outputs_are_summed() -> None:
    raw = np.random.default_rng(5).normal(size=(2, 6, 8))
    norms = np.linalg.norm(raw, axis=2)
    image, mirror = (
        Embeddings((one / norm[:, None]).astype(np.float32), np.full((6, 1), 0.3, np.float32))
        for one, norm in zip(raw, norms, strict=True)
    )
    total = raw.sum(axis=0)
    expected = total / np.linalg.norm(total, axis=1, keepdims=True)
    np.testing.assert_allclose(fuse_mirror(image, mirror, norms=(norms[0], norms[1])).mu, expected, atol=1e-6)
