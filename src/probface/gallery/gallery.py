"""The gallery: what a store keeps, searched through an index derived from it, with an answer at a stated rate."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from probface.errors import DataError, InvalidValue, StorageError
from probface.gallery.admission import require_model, require_question, require_templates
from probface.gallery.derived_file import check_place, index_path, remove
from probface.gallery.open_set import OpenSet, check_fpir
from probface.gallery.place import SERVERS, checked_place
from probface.gallery.records import (
    Candidate,
    GallerySettings,
    Identification,
    ModelBinding,
    NewReferences,
)
from probface.gallery.search_index import GalleryIndex
from probface.gallery.searched import Scores
from probface.gallery.store import Counts, Store
from probface.gallery.template_rows import Ids
from probface.match.exact import SearchIndex
from probface.types import Embeddings, Metric


class Gallery:
    """Enrolled people in one database. Safe to share between threads.

    Several processes may use one gallery: every answer is of the gallery as it was when it was asked, or a little
    later. Made by :meth:`create` or :meth:`open`.

    Args:
        store: the database.
        index_file: where the derived index of a file gallery is kept; None to have it in memory.
        read_only: whether enrolling and deleting are refused, and no file is written.
    """

    def __init__(self, store: Store, *, index_file: Path | None = None, read_only: bool = False) -> None:
        self.store = store
        self._read_only = read_only
        self._index = GalleryIndex(store, index_file, writable=not read_only)
        self._open_set = OpenSet()

    @classmethod
    def create(cls, where: str | os.PathLike[str], settings: GallerySettings, *, gallery: str = "default") -> Gallery:
        """Make an empty gallery.

        Args:
            where: a path, or ``postgresql://user:password@host:port/database``.
            settings: what is fixed from now on.
            gallery: its name in a PostgreSQL database.

        Raises:
            StorageError: it is there already, or the place cannot be written or reached.
        """
        address = os.fspath(checked_place(where))
        if address.startswith(SERVERS):
            from probface.gallery.engines.postgres import PostgresStore

            return cls(PostgresStore.create(address, settings, gallery))
        from probface.gallery.engines.sqlite import SqliteStore

        path = _settled(address)
        check_place(index_path(path))
        return cls._of_file(SqliteStore.create(path, settings), path, new=True, read_only=False)

    @classmethod
    def open(cls, where: str | os.PathLike[str], *, read_only: bool = False, gallery: str = "default") -> Gallery:
        """Open one that is there.

        Args:
            where: as of :meth:`create`.
            read_only: nothing is changed through this object.
            gallery: its name in a PostgreSQL database.

        Raises:
            StorageError: it is not there, or cannot be read or reached.
            DataError: it is no gallery, a damaged one, or of a newer version.
        """
        address = os.fspath(checked_place(where))
        if address.startswith(SERVERS):
            from probface.gallery.engines.postgres import PostgresStore

            return cls(PostgresStore.open(address, gallery, read_only=read_only), read_only=read_only)
        from probface.gallery.engines.sqlite import SqliteStore

        path = _settled(address)
        return cls._of_file(SqliteStore.open(path, read_only=read_only), path, new=False, read_only=read_only)

    @classmethod
    def _of_file(cls, store: Store, path: Path, *, new: bool, read_only: bool) -> Gallery:
        try:
            if new:  # an index that is left of a gallery that had this name
                remove(index_path(path))
            return cls(store, index_file=index_path(path), read_only=read_only)
        except BaseException:
            store.close()
            raise

    @property
    def settings(self) -> GallerySettings:
        """What was fixed when it was made."""
        return self.store.settings

    def counts(self) -> Counts:
        """Identities and references."""
        return self.store.counts()

    def enroll(self, references: NewReferences, *, model: ModelBinding) -> None:
        """Keep references, durably, all or none; another model's are refused by name.

        Args:
            references: rows; an identity that is there already gets further ones.
            model: what made their embeddings.

        Raises:
            InvalidValue: another model than the gallery's, or references of one identity that cancel out.
            StorageError: the database cannot be written, or was opened to read only.
        """
        self._require_writable()
        require_model(self.store.location, self.settings.model, model, references.embeddings)
        if self.settings.templates == "fused":
            require_templates(references, self.settings.estimator)
        self.store.add(references)

    def delete(self, names: Sequence[str]) -> int:
        """Remove identities from the database, the index and the files' bytes; returns how many references went.

        Raises:
            InvalidValue: a name that is not there; nothing is deleted then.
            StorageError: the database or the index cannot be written, or was opened to read only.
        """
        self._require_writable()
        with self._index.deletion():
            return self.store.delete(names)

    def finish_migration(self) -> None:
        """Change over to the model of the migration; the old one's vectors leave the index, too.

        Raises:
            InvalidValue: some references are pending or missing.
        """
        self._require_writable()
        with self._index.deletion():
            self.store.finish_migration()

    def search(
        self, probes: Embeddings, *, model: ModelBinding, top: int = 5, metric: Metric = "fastmls", threads: int = 0
    ) -> tuple[tuple[Candidate, ...], ...]:
        """The ``top`` best identities of each probe, best first, ties to the one that was enrolled earlier.

        Args:
            probes: N rows.
            model: what made them.
            top: 1 or more; fewer are returned where fewer are enrolled.
            metric: ``fastmls``, ``mls`` or ``cosine``.
            threads: 0 for all cores.

        Raises:
            InvalidValue: another model than the gallery's, widths that are not the model's, ``top`` below 1, or a
                metric that does not go with the model.
        """
        self._require_question(probes, model, top, metric)
        while True:
            with self._index.current() as now:
                scores, identities = now.best(probes, top, metric, threads)
            named = self._named(scores, identities)
            if named is not None:
                return named

    def identify(
        self,
        probe: Embeddings,
        *,
        model: ModelBinding,
        top: int = 5,
        fpir: float = 0.01,
        metric: Metric = "fastmls",
        threads: int = 0,
    ) -> Identification:
        """Who is this one face, if anybody here, at a stated false-positive identification rate?

        Args:
            probe: one row.
            model: what made it; its own thresholds decide, where it has any.
            top: how many candidates to show.
            fpir: share of the probes of people who are not enrolled that may get a name; in (0, 1).
            metric: ``fastmls``, ``mls`` or ``cosine``.
            threads: 0 for all cores.

        Raises:
            InsufficientData: the rate was not measured for a gallery of this size, and cannot be in this gallery; see
                :mod:`probface.gallery.open_set`.
            InvalidValue: as of :meth:`search`; not one probe; or a rate outside (0, 1).
        """
        if len(probe) != 1:
            raise InvalidValue(f"{len(probe)} probes: identify takes one; search takes many")
        check_fpir(fpir)
        self._require_question(probe, model, top, metric)
        while True:
            with self._index.current() as now:
                rule = self._open_set.rule(
                    now,
                    self.settings,
                    metric,
                    fpir,
                    lambda: self.counts().references,
                    contract=model.contract,
                    threads=threads,
                )
                scores, identities = now.best(probe, top, metric, threads)
            named = self._named(scores, identities)
            if named is not None:
                break
        candidates = named[0]
        if not candidates:
            return Identification(None, "the gallery is empty", (), metric, rule.threshold, fpir, rule.basis)
        best = candidates[0]
        score, subject = best.score, f"{best.name!r}"
        if rule.of_references and self.settings.templates == "fused":
            score = self._best_reference(probe, int(identities[0, 0]), metric)
            subject = f"the best reference of {best.name!r}"
        accepted = score > rule.threshold
        side = "above" if accepted else "not above"
        reason = f"{subject} scores {score:.5g}, {side} the threshold {rule.threshold:.5g}"
        if not accepted:
            reason = f"best candidate: {reason}"
        return Identification(
            best.name if accepted else None, reason, candidates, metric, rule.threshold, fpir, rule.basis
        )

    def _best_reference(self, probe: Embeddings, identity: int, metric: Metric) -> float:
        """The best score of a probe with a single reference of an identity; -inf where it was deleted just now."""
        held = self.store.fetch([identity])
        if not len(held):
            return -math.inf
        references = SearchIndex(Embeddings(held.mu, held.sigma_sq), prefilter="float32")
        return float(references.search(probe, 1, metric=metric).scores[0, 0])

    def verify(self) -> tuple[str, ...]:
        """Check database and index; what is wrong, one sentence each."""
        wrong = self.store.verify()
        try:
            with self._index.current():  # somebody's references may have become impossible to fuse
                pass
        except InvalidValue as error:
            wrong = (*wrong, str(error))
        except DataError as error:
            return wrong or (str(error),)
        try:
            return (*wrong, *self._index.verify())
        except DataError as error:  # of a damaged database, which is told already
            return wrong or (str(error),)

    def close(self) -> None:
        """Let go of files and connections."""
        self._index.close()
        self.store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_question(self, probes: Embeddings, model: ModelBinding, top: int, metric: Metric) -> None:
        require_question(self.settings.model, top, metric)
        require_model(self.store.location, self.settings.model, model, probes)

    def _require_writable(self) -> None:
        if self._read_only:
            raise StorageError(f"{self.store.location}: was opened to read only; open it to write")

    def _named(self, scores: Scores, identities: Ids) -> tuple[tuple[Candidate, ...], ...] | None:
        """Candidates by name; None where somebody was deleted since the search, so that it must be done again."""
        found = set(np.unique(identities).tolist()) - {-1}
        names = self.store.names(list(found)) if found else {}
        if len(names) < len(found):
            self._index.leave_out(found - names.keys())
            return None
        return tuple(  # -1: rows that another process erased during the search, in a gallery with fewer left than top
            tuple(Candidate(names[whose], score) for score, whose in zip(*row, strict=True) if whose >= 0)
            for row in zip(scores.tolist(), identities.tolist(), strict=True)
        )


def _settled(address: str) -> Path:
    """One path for a file, whatever links lead there and whatever folder the process changes to.

    Raises:
        StorageError: the file has several names: each would have an index of its own, and a deletion reaches one.
    """
    path = Path(address).resolve()
    for patience in range(20, -1, -1):  # one that is being made has two names for a moment
        if not path.is_file() or path.stat().st_nlink == 1:
            break
        if patience == 0:
            raise StorageError(f"{address}: a file with several hard links; a gallery must have one name, so copy it")
        time.sleep(0.02)
    return path
