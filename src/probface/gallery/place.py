"""Where a gallery is said to be: an address of a server that ProbFace knows, or a path. Nothing in between."""

from __future__ import annotations

import os
import re

from probface.errors import InvalidValue

SCHEMES = ("postgresql", "postgres")
"""Of the addresses that are known, in lower case."""
SERVERS = tuple(f"{scheme}://" for scheme in SCHEMES)
"""What the address of a gallery in a server begins with, when it is checked; anything else is a file."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def checked_place(place: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The place as :meth:`probface.gallery.gallery.Gallery.open` takes it: a known scheme in lower case, or a path.

    What follows another scheme is not shown: it may hold a password, and would become the name of a folder.

    Raises:
        InvalidValue: an address with another scheme.
    """
    address = os.fspath(place)
    found = _SCHEME.match(address)
    if found is None:
        return place
    scheme = found[1].lower()
    if scheme not in SCHEMES:
        raise InvalidValue(
            f"gallery {found[1]}://...: must be postgresql://user:password@host:port/database, or a path; write it so"
        )
    return f"{scheme}{address[found.end(1) :]}"
