"""What a database must do to hold a gallery: one protocol, an engine for each in :mod:`probface.gallery.engines`.

A store keeps rows and its word: a method that writes returns when the rows are durable, and raises with nothing changed
(but for :class:`probface.errors.NotWiped`, which says what was done and what is still to do). Searching is not its
business; :mod:`probface.gallery.gallery` derives what is searched from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from probface.gallery.records import (
    GallerySettings,
    IdentitySummary,
    ModelBinding,
    NewReferences,
    Reference,
    ReferenceBlock,
)

SCAN_ROWS = 16384
"""References to a block of a scan."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a gallery holds."""

    identities: int
    references: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since some generation.

    Attributes:
        generation: now.
        identities: ids of the identities that lost or gained references since (those that are new are included only
            where they were there already at that generation); None where the store no longer knows, since the log was
            cut: derive everything anew.
    """

    generation: int
    identities: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class PendingImage:
    """A reference that a migration has still to embed: where its image may be had."""

    reference: int
    name: str
    source: str
    source_digest: str
    image: bytes | None


class Store(Protocol):
    """One gallery in one database."""

    @property
    def location(self) -> str:
        """What the user calls it: a path, or an address without its password."""

    @property
    def settings(self) -> GallerySettings:
        """What was fixed when it was made; the model changes with a migration."""

    def counts(self) -> Counts:
        """Identities and references."""

    def generation(self) -> int:
        """Grows with every committed change of what is searched; cheap."""

    def changes(self, since: int) -> Changes:
        """What has changed since a generation."""

    def stamp(self, generation: int) -> str | None:
        """A random text that belongs to this generation of this very gallery, and to no copy that went on otherwise.

        Two copies of one gallery have the same stamps up to where they parted, and different ones from there on. None
        where it is not known (any more), or there was never such a generation. Wherever :meth:`changes` still knows
        what has changed since a generation, that generation has its stamp.
        """

    def add(self, references: NewReferences) -> None:
        """Enrol rows: all of them, durably, or none.

        Raises:
            InvalidValue: widths that are not the model's.
            StorageError: the database cannot be written.
        """

    def delete(self, names: Sequence[str]) -> int:
        """Remove identities with all their rows, images and bytes; returns the number of references removed.

        Raises:
            InvalidValue: a name that is not there; nothing is deleted then.
            StorageError: the database cannot be written.
        """

    def identities(self, *, after: str = "", limit: int | None = None) -> Iterator[IdentitySummary]:
        """Identities by name, ascending in code points, from behind ``after``."""

    def references(self, name: str) -> tuple[Reference, ...]:
        """The references of one identity; InvalidValue where there is none of that name."""

    def names(self, identities: Sequence[int]) -> dict[int, str]:
        """Names of those of these ids that exist (now)."""

    def scan(self, *, after_identity: int = 0, rows: int = SCAN_ROWS) -> Iterator[ReferenceBlock]:
        """All references of the identities above an id, with their vectors, in blocks; one consistent picture."""

    def fetch(self, identities: Sequence[int]) -> ReferenceBlock:
        """The references of some identities, with their vectors; ids that do not exist are left out."""

    def begin_migration(self, model: ModelBinding) -> None:
        """Prepare for another model's embeddings beside the present ones; goes on with one that was begun for it.

        References that an earlier try marked missing are pending again: their files may have come back.

        Raises:
            InvalidValue: a migration to yet another model is under way.
        """

    def pending(self, *, limit: int) -> tuple[PendingImage, ...]:
        """References that the migration has not embedded or given up yet, by ascending id."""

    def put_migrated(self, references: Sequence[int], embeddings: NewReferences) -> None:
        """Keep the new model's embeddings of some references, durably; names and sources are not used."""

    def mark_missing(self, references: Sequence[int]) -> None:
        """Note that the images of these cannot be had."""

    def missing(self) -> tuple[PendingImage, ...]:
        """References that were marked so, without images."""

    def finish_migration(self) -> None:
        """Put the new model's embeddings in the place of the old ones, in one transaction.

        Raises:
            InvalidValue: some references are pending or missing.
        """

    def abandon_migration(self) -> None:
        """Forget the new model's embeddings; the gallery stays as it was."""

    def verify(self) -> tuple[str, ...]:
        """Check the whole of it; what is wrong, one sentence each; nothing where it is sound."""

    def close(self) -> None:
        """Let go of the database."""
