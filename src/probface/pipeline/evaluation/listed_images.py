"""The images that a protocol's lists name, where it is ready embeddings alone that are judged."""

from __future__ import annotations

from collections.abc import Iterable

from probface.readers.item import Broken, Item


def named_items(names: Iterable[str]) -> list[Item]:
    """An item for each name, without an image: embeddings are found by the name."""
    return [Item(name, Broken(f"image {name}: not opened, ready embeddings are judged")) for name in names]
