"""What a gallery is searched in: derived from its store, kept in step with it, and for a file gallery kept beside it.

Every search first asks the store for its generation. Where that has moved, what changed is loaded into a small index in
memory (the tail) and left out of the large one; where that became too much, all is derived anew.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.gallery import derived_file
from probface.gallery.derived_verify import findings
from probface.gallery.searched import Part, Searched
from probface.gallery.sharing import Sharing
from probface.gallery.store import Store
from probface.gallery.template_rows import Ids, TemplateRows, scanning, templates
from probface.match.exact import SearchIndex
from probface.types import Embeddings

MOST_BEHIND = 10_000
"""So many rows may be in the tail, or left out of the main index, before all is derived anew."""
SHARE_BEHIND = 20
"""Or one in so many rows of the main index, where that is more."""
PICTURES = 50
"""How often a scan begins anew because somebody committed just then."""


class GalleryIndex:
    """The index of one gallery. Safe to share between threads.

    Args:
        store: the gallery.
        file: where the index is kept; None to have it in memory.
        writable: whether the file may be made, changed and removed.
        most_behind: rows that may have changed before all is derived anew.
    """

    def __init__(
        self, store: Store, file: Path | None, *, writable: bool = True, most_behind: int = MOST_BEHIND
    ) -> None:
        self._store, self._file, self._writable, self._most_behind = store, file, writable, most_behind
        self._sharing, self._catching_up = Sharing(), threading.Lock()
        self._now: Searched | None = None
        self._tail: TemplateRows | None = None  # the rows of its tail
        if file is not None and writable:
            with derived_file.folder_lock(file.parent, wait=False) as locked:
                if locked:  # otherwise somebody deletes just now, and erases, too
                    derived_file.erase_deleted(file, store)

    @contextmanager
    def current(self) -> Iterator[Searched]:
        """The gallery as it is now, or a little later; it stays as it is during the block."""
        self._refresh()
        with self._sharing.reading():
            if self._now is None:
                raise DataError(f"{self._store.location}: its index is closed; open the gallery again")
            yield self._now

    def leave_out(self, identities: Iterable[int]) -> None:
        """Search some identities no more, in this process."""
        gone = np.array(sorted(identities), np.int64)
        with self._catching_up:
            now = self._now
            if now is None:
                return
            if self._tail is not None:
                self._tail = self._tail[~np.isin(self._tail.identities, gone)]
            main, rows = now.main.without(gone) if now.main else (None, gone[:0])
            tail, tail_rows = now.tail.without(gone) if now.tail else (None, gone[:0])
            with self._sharing.changing():
                _exclude(main, rows)
                _exclude(tail, tail_rows)
                self._now = replace(now, main=main, tail=tail)

    @contextmanager
    def deletion(self) -> Iterator[None]:
        """Around a deletion in the store: whether it ends well or not, what is deleted afterwards is erased."""
        if self._file is None:
            yield
            return
        with derived_file.folder_lock(self._file.parent, wait=True):
            try:
                yield
            finally:
                derived_file.erase_deleted(self._file, self._store)

    def verify(self) -> tuple[str, ...]:
        """Compare the file with the store; what is wrong, one sentence each. One that is behind or missing is fine."""
        return () if self._file is None or not self._file.exists() else findings(self._file, self._store)

    def close(self) -> None:
        """Let go of the file."""
        with self._catching_up, self._sharing.changing():
            self._now = None

    def _is_current(self) -> bool:
        now = self._now
        return (
            now is not None
            and now.generation == self._store.generation()
            and now.model == self._store.settings.model.digest
        )

    def _refresh(self) -> None:
        if self._is_current():
            return
        with self._catching_up:
            if self._is_current():  # thanks to another thread
                return
            before = self._now or self._from_file()
            if before is None or not self._catch_up(before):
                after = self._derived()
                with self._sharing.changing():
                    self._now, self._tail = after, None

    def _catch_up(self, before: Searched) -> bool:
        """Bring what is searched in step with the store; False where all must be derived anew."""
        if before.generation < 0 or before.model != self._store.settings.model.digest:
            return False
        changes = self._store.changes(before.generation)
        if changes.identities is None:
            return False
        changed = np.array(sorted(changes.identities), np.int64)
        main, left_out = before.main.without(changed) if before.main else (None, changed[:0])
        room = max(self._most_behind, len(main.index) // SHARE_BEHIND if main else 0)
        if len(changed) > room or (main and len(main.index) - main.rows > room):
            return False
        found = self._changed_and_new(changed, before.highest, room)
        if found is None:
            return False
        # Somebody may have committed since: then some of the tail is newer than the generation, and is loaded again.
        settled = self._store.generation() == changes.generation
        highest = max(before.highest, int(found.identities[-1]) if settled and len(found) else 0)
        tail = Part.of(SearchIndex(Embeddings(found.mu, found.sigma_sq)), found.identities) if len(found) else None
        with self._sharing.changing():
            _exclude(main, left_out)
            self._now = replace(before, generation=changes.generation, highest=highest, main=main, tail=tail)
            self._tail = found
        return True

    def _changed_and_new(self, changed: Ids, highest: int, room: int) -> TemplateRows | None:
        """The rows that the tail shall have; None where there is no room for them."""
        width = self._store.settings.model
        found = [TemplateRows.none(width.dim, width.sigma_sq_width)]
        if self._tail is not None:
            found.append(self._tail[(self._tail.identities <= highest) & ~np.isin(self._tail.identities, changed)])
        if len(changed):
            found.extend(templates([self._store.fetch(changed.tolist())], self._store))
        # All above `highest` are loaded again: the store need not name them, since they were new at that generation.
        with scanning(self._store, highest) as newer:
            for rows in templates(newer, self._store):
                found.append(rows)
                if sum(map(len, found)) > room:
                    return None
        tail = TemplateRows.concatenate(found)
        return tail[np.lexsort((tail.references, tail.identities))] if len(tail) <= room else None

    def _from_file(self) -> Searched | None:
        """What the file holds, as of its generation; None where it cannot be used."""
        if self._file is None:
            return None
        settings = self._store.settings
        try:
            index = derived_file.open_index(self._file, settings)
        except DataError:  # missing, foreign or damaged: it is derived anew
            return None
        main = Part.of(index, index.extra["identities"])
        generation, highest = index.meta["generation"], index.meta["highest"]
        if self._store.stamp(generation) != index.meta["stamp"]:  # of a copy that went on otherwise
            return None
        return Searched(generation, highest, settings.model.digest, settings.templates, main)

    def _derived(self) -> Searched:
        """Everything anew; kept in the file where there is one and it can be written."""
        settings, file = self._store.settings, self._file if self._writable else None
        if file is not None:
            derived_file.remove_leftovers(file)
        generation, found = self._picture()
        after = Searched(generation, 0, settings.model.digest, settings.templates, None)
        if not found:
            return after
        rows = TemplateRows.concatenate(found)
        found.clear()
        index = SearchIndex(Embeddings(rows.mu, rows.sigma_sq))
        if generation < 0:
            return replace(after, main=Part.of(index, rows.identities))
        highest = int(rows.identities[-1])
        meta = derived_file.meta_of(settings, generation, highest, self._store.stamp(generation))
        extra: dict[str, NDArray[np.int64]] = {"identities": rows.identities, "references": rows.references}
        if file is not None and derived_file.publish(file, index, meta, extra, self._store):
            mapped = self._from_file()  # shared with other processes, and may leave the memory
            if mapped is not None and (mapped.generation, mapped.highest) == (generation, highest):
                return mapped
        return replace(after, highest=highest, main=Part.of(index, rows.identities))

    def _picture(self) -> tuple[int, list[TemplateRows]]:
        """All rows, and the generation that they are of; -1 where that cannot be told for all the commits."""
        turn = 0
        while True:
            turn += 1
            generation = self._store.generation()
            with scanning(self._store) as blocks:
                first = next(blocks, None)  # from here on the scan has its picture
                told = self._store.generation() == generation
                if told or turn == PICTURES:
                    begun = [] if first is None else [first]
                    return generation if told else -1, list(templates(chain(begun, blocks), self._store))


def _exclude(part: Part | None, rows: Ids) -> None:
    if part is not None and len(rows):
        part.index.exclude(rows)
