"""From references to the rows that are searched: one a reference, or one fused Gaussian an identity."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue
from probface.gallery.fusion import fuse_groups
from probface.gallery.records import Estimator, GallerySettings, ReferenceBlock
from probface.gallery.store import Store
from probface.types import FloatArray

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TemplateRows:
    """Rows to search, ordered by (identity, reference).

    Attributes:
        identities: (M,) ids, ascending; each once where references are fused.
        references: (M,) ids; of a fused row the first one's.
        mu: (M, D).
        sigma_sq: (M, 1) or (M, D).
    """

    identities: Ids
    references: Ids
    mu: FloatArray
    sigma_sq: FloatArray

    def __len__(self) -> int:
        return len(self.identities)

    def __getitem__(self, rows: slice | NDArray[np.generic]) -> TemplateRows:
        return TemplateRows(self.identities[rows], self.references[rows], self.mu[rows], self.sigma_sq[rows])

    @classmethod
    def none(cls, dim: int, width: int) -> TemplateRows:
        """No rows, of some widths."""
        ids = np.empty(0, np.int64)
        return cls(ids, ids, np.empty((0, dim), np.float32), np.empty((0, width), np.float32))

    @classmethod
    def concatenate(cls, parts: Sequence[TemplateRows]) -> TemplateRows:
        """Stack one or more, as they come; a single one is not copied."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.identities for part in parts]),
            np.concatenate([part.references for part in parts]),
            np.concatenate([part.mu for part in parts]),
            np.concatenate([part.sigma_sq for part in parts]),
        )


@contextmanager
def scanning(store: Store, after_identity: int = 0) -> Iterator[Iterator[ReferenceBlock]]:
    """A scan that ends with the block of code, since it holds a transaction."""
    blocks = store.scan(after_identity=after_identity)
    try:
        yield blocks
    finally:
        if isinstance(blocks, Generator):
            blocks.close()


def templates(blocks: Iterable[ReferenceBlock], store: Store) -> Iterator[TemplateRows]:
    """The rows of all references of some identities; no more than a block or one identity is in memory at a time.

    Raises:
        InvalidValue: the references of an identity cancel out; it is named.
    """
    settings = store.settings
    held: list[TemplateRows] = []  # the last identity of a block may go on in the next one
    for block in blocks:
        if not len(block):
            continue
        rows = TemplateRows(block.identities, block.ids, block.mu, block.sigma_sq)
        if settings.templates == "all":
            yield rows
            continue
        last = int(np.searchsorted(rows.identities, rows.identities[-1]))
        if last:
            yield _fused(TemplateRows.concatenate([*held, rows[:last]]), settings, store)
            held = []
        held.append(rows[last:])
    if held:
        yield _fused(TemplateRows.concatenate(held), settings, store)


def _fused(rows: TemplateRows, settings: GallerySettings, store: Store) -> TemplateRows:
    starts = np.flatnonzero(np.diff(rows.identities, prepend=-1))
    try:
        mu, sigma_sq = fuse_groups(rows.mu, rows.sigma_sq, starts, settings.estimator)
    except InvalidValue as error:
        group = first_cancelling(rows.mu, rows.sigma_sq, starts, settings.estimator)
        if group is None:
            raise
        identity = int(rows.identities[starts[group]])
        name = store.names([identity]).get(identity, "")
        raise InvalidValue(
            f"identity {name!r}: its references cancel out to a mean of length 0, so it cannot be searched; delete it, "
            "and enrol them apart"
        ) from error
    return TemplateRows(rows.identities[starts], rows.references[starts], mu, sigma_sq)


def first_cancelling(mu: FloatArray, sigma_sq: FloatArray, starts: Ids, estimator: Estimator) -> int | None:
    """Which of the groups of rows is the first that cannot be fused; slow, to name what went wrong."""
    whole = np.zeros(1, np.int64)
    for group, (first, last) in enumerate(zip(starts, [*starts[1:], len(mu)], strict=True)):
        try:
            fuse_groups(mu[first:last], sigma_sq[first:last], whole, estimator)
        except InvalidValue:
            return group
    return None


def rows_of(identities: Ids, wanted: Ids) -> Ids:
    """All rows of some identities.

    Args:
        identities: (M,) ascending; may be mapped from disk, little of it is read.
        wanted: ids, those that are not there give no row.
    """
    first = np.searchsorted(identities, wanted, "left")
    count = np.searchsorted(identities, wanted, "right") - first
    before = np.cumsum(count) - count
    return np.repeat(first - before, count) + np.arange(count.sum())
