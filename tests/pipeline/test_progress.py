from __future__ import annotations

from probface.pipeline.progress import counted


def test_counts_are_added_up() -> None:
    told: list[tuple[str, int, int]] = []
    tell = counted(lambda label, done, total: told.append((label, done, total)), "embedding", 5)
    for count in (2, 0, 3):
        tell(count)
    assert told == [("embedding", 2, 5), ("embedding", 2, 5), ("embedding", 5, 5)]
