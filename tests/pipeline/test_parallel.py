from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probface.pipeline.parallel import batches, ordered_map


@settings(deadline=None)
@given(st.lists(st.integers(), max_size=40), st.integers(1, 4), st.integers(1, 9))
def test_order_is_kept_and_the_input_is_not_read_far_ahead(items: list[int], workers: int, ahead: int) -> None:
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        for item in items:
            read += 1
            yield item

    with ThreadPoolExecutor(workers) as pool:
        results = []
        for result in ordered_map(pool, lambda value: value * 2, source(), ahead=ahead):
            results.append(result)
            assert read <= len(results) + ahead
    assert results == [item * 2 for item in items]


def test_an_error_comes_out_and_ends_the_rest() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        done.append(item)
        return item

    with ThreadPoolExecutor(1) as pool:
        results = ordered_map(pool, work, range(1000), ahead=5)
        with pytest.raises(ValueError, match="three"):
            list(results)
    assert len(done) < 20


@given(st.lists(st.integers(), max_size=30), st.integers(1, 7))
def test_batches_are_the_items_cut(items: list[int], size: int) -> None:
    cut = list(batches(items, size))
    assert [item for batch in cut for item in batch] == items
    assert all(len(batch) == size for batch in cut[:-1])
