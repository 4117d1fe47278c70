"""Identities a page at a time: no transaction stays open while the caller looks at what was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from probface.gallery.records import IdentitySummary, check_name

PAGE = 1000
"""Identities to a page."""


def paged(
    read: Callable[[str, int], Sequence[IdentitySummary]], after: str, limit: int | None
) -> Iterator[IdentitySummary]:
    """At most ``limit`` identities by name, from behind ``after``; ``read(after, size)`` gives up to so many of them.

    Raises:
        InvalidValue: ``after`` is no name.
    """
    if after:
        check_name(after)
    while limit is None or limit > 0:
        size = PAGE if limit is None else min(PAGE, limit)
        page = read(after, size)
        yield from page
        if len(page) < size:
            return
        after = page[-1].name
        limit = None if limit is None else limit - size
