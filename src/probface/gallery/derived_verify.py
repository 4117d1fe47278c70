"""Whether an index file agrees with the gallery that it was derived from, row by row, and searches as it should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.gallery.derived_file import open_index
from probface.gallery.store import Store
from probface.gallery.template_rows import Ids, TemplateRows, scanning, templates
from probface.match import index_file
from probface.match.exact import SearchIndex
from probface.match.layout import TILE, Layout, tile_codes

MEND = "delete it, so that it is made anew"
BLOCK_TILES = 256
"""Tiles whose codes are compared at once."""
SLACK = 1e-6
"""Bounds that compiled code computed in float32 may be so much (of 1) below what float64 gives here."""


def findings(path: Path, store: Store) -> tuple[str, ...]:
    """What is wrong with the file, one sentence each; nothing where it is sound, or only behind.

    What has changed in the gallery since the file was made is not compared: no search uses it.
    """
    try:
        index = open_index(path, store.settings)
        arrays, _ = index_file.read(path)
    except DataError as error:
        return (f"{error}; {MEND}",)
    with scanning(store) as blocks:
        first = next(blocks, None)  # from here on the scan has its picture, and what follows names what led to it
        changed = store.changes(index.meta["generation"]).identities
        if changed is None:  # too far behind to be compared, or to be used
            return ()
        kept = np.flatnonzero(~np.isin(index.extra["identities"], _array(changed)))
        told = _against_store(index, kept, changed, templates(chain([] if first is None else [first], blocks), store))
    if told is None and not _searchable(arrays, kept):
        told = "its search order or codes are not those of its vectors"
    return () if told is None else (f"{path}: {told}; {MEND}",)


def _against_store(index: SearchIndex, kept: Ids, changed: frozenset[int], whole: Iterator[TemplateRows]) -> str | None:
    """What has not changed is the same in both, in the same order."""
    identities, references, held = index.extra["identities"], index.extra["references"], index.references
    without, done, other = _array(changed), 0, 0
    for block in whole:
        rows = block[(block.identities <= index.meta["highest"]) & ~np.isin(block.identities, without)]
        at = kept[done : done + len(rows)]
        done += len(rows)
        if not (np.array_equal(identities[at], rows.identities) and np.array_equal(references[at], rows.references)):
            return f"its people are not the gallery's, in or behind id {rows.identities[0]}"
        same = (held.mu[at] == rows.mu).all(axis=1) & (held.sigma_sq[at] == rows.sigma_sq).all(axis=1)
        other += int(np.count_nonzero(~same))
    if done < len(kept):
        return f"{len(kept) - done} of its rows are not in the gallery"
    return f"{other} of its rows have other vectors than the gallery" if other else None


def _searchable(arrays: Mapping[str, NDArray[Any]], kept: Ids) -> bool:
    """Whether a search sees each of these rows once, and filters it by bounds that hold."""
    layout = Layout(**{field.name: arrays[field.name] for field in fields(Layout)})
    order, mu = np.asarray(layout.order), arrays["mu"]
    alive = np.flatnonzero(order >= 0)
    if len(np.unique(order[alive])) != len(alive) or not np.isin(kept, order[alive]).all():
        return False
    bucket = np.repeat(np.arange(len(layout.bucket_low)), np.diff(layout.bucket_first))[: len(order)]
    sigma_sq = layout.sigma_sq[alive]
    sound = (
        np.array_equal(sigma_sq, arrays["variances"][order[alive], 0])
        and bool((layout.bucket_low[bucket[alive]] <= sigma_sq).all())
        and bool((layout.bucket_high[bucket[alive]] >= sigma_sq).all())
    )
    for first in range(0, len(layout.tile_norm), BLOCK_TILES):
        tiles = slice(first, first + BLOCK_TILES)
        rows = order[first * TILE : (first + BLOCK_TILES) * TILE]
        there = rows >= 0
        vectors = mu[rows[there]].astype(np.float64)
        tile = first + np.flatnonzero(there) // TILE
        sound &= bool((_length(vectors) <= layout.tile_norm[tile] + SLACK).all())
        if len(layout.codes):
            codes = tile_codes(layout, tiles, mu.shape[1])[: len(rows)][there]
            left = vectors - layout.tile_scale[tile, None].astype(np.float64) * codes
            sound &= bool((_length(left) <= layout.tile_residual[tile] + SLACK).all())
    return bool(sound)


def _length(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt((rows * rows).sum(axis=1))
    return lengths


def _array(ids: frozenset[int]) -> Ids:
    return np.array(sorted(ids), np.int64)
