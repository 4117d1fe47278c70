import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.errors import DataError
from probface.train.sampler import BalancedSampler


@settings(deadline=None, max_examples=50)
@given(
    counts=st.lists(st.integers(1, 9), min_size=6, max_size=40).filter(lambda c: sum(n >= 2 for n in c) >= 4),
    images=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_batches_are_balanced_over_people(counts: list[int], images: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)) * 7, counts)  # labels need not be dense
    labels = np.random.default_rng(seed).permutation(labels)
    rows, variants, within = BalancedSampler(labels, [1, 2], people=4, images=images, seed=seed)(3)
    assert len(rows) == len(variants) == len(within) == 4 * images
    assert (np.bincount(within) == images).all()
    for person in range(4):
        mine = rows[within == person]
        of = np.unique(labels[mine])
        assert len(of) == 1
        available = (labels == of[0]).sum()
        assert available >= 2
        assert len(np.unique(mine)) == min(images, available) or available < images
    assert len(np.unique(labels[rows])) == 4
    assert (np.diff(variants) >= 0).all()


def test_a_step_always_gives_the_same_batch() -> None:
    labels = np.repeat(np.arange(50), 3)
    first = BalancedSampler(labels, [1], people=8, images=4, seed=5)
    again = BalancedSampler(labels, [1], people=8, images=4, seed=5)
    first(0)  # what was drawn before does not matter
    for a, b in zip(first(17), again(17), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first(17)[0], first(18)[0])


def test_variants_come_in_their_shares() -> None:
    sampler = BalancedSampler(np.repeat(np.arange(64), 4), [3, 1], people=32, images=4, seed=0)
    share = np.mean([sampler(step)[1].mean() for step in range(200)])
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / (200 * 128))


def test_too_few_people_are_told() -> None:
    with pytest.raises(DataError, match="1 people have two images or more: a batch needs 4"):
        BalancedSampler(np.array([0, 0, 1, 2, 3]), [1], people=4, images=2, seed=0)


def test_every_image_of_a_person_is_as_likely() -> None:
    counts = [2, 3, 5, 9]
    labels = np.repeat(np.arange(4), counts)
    sampler = BalancedSampler(labels, [1], people=4, images=3, seed=1)
    drawn = np.bincount(np.concatenate([sampler(step)[0] for step in range(3000)]), minlength=len(labels))
    for person, count in enumerate(counts):
        mine = drawn[labels == person]
        expected = 3 * 3000 / count
        assert np.abs(mine - expected).max() < 5 * np.sqrt(expected), (person, mine)


def test_a_step_costs_the_batch_and_not_the_people() -> None:
    """At 100,000 people: what a step allocates is a few times the batch, and as much as at 1,000."""
    peaks = []
    for people in (1_000, 100_000):
        sampler = BalancedSampler(np.repeat(np.arange(people), 3), [1.0, 2.0], people=32, images=4, seed=0)
        sampler(0)
        tracemalloc.start()
        images, _, labels = sampler(1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(np.unique(images // 3)) == len(np.unique(labels)) == 32
    assert peaks[1] < 64 * 1024
    assert peaks[1] < 2 * peaks[0]
