"""A gallery as one file that other programs can read: ``.npz`` or ``.parquet``, one row a reference.

    name, mu, sigma_sq, quality, source, source_digest, enrolled      and under ``gallery`` its settings, as JSON

:mod:`probface.gallery.exchange_reading` reads it back. Images are not in it.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue, MissingExtra
from probface.gallery.npz_column import write_column, write_text
from probface.gallery.records import GallerySettings, Reference, ReferenceBlock
from probface.gallery.store import Store
from probface.storage import replacing
from probface.types import FloatArray

SUFFIXES = (".npz", ".parquet")
FORMAT = 1
"""Version of the file."""
PARQUET_KEY = b"probface.gallery"
"""Where a ``.parquet`` file keeps the settings."""


@dataclass(frozen=True, slots=True, eq=False)
class ExportRows:
    """Some references, whole.

    Attributes:
        name: of the identity of each.
        mu, sigma_sq: their vectors.
        quality, source, source_digest, enrolled: as in :class:`probface.gallery.records.Reference`.
    """

    name: tuple[str, ...]
    mu: FloatArray
    sigma_sq: FloatArray
    quality: NDArray[np.int64]
    source: tuple[str, ...]
    source_digest: tuple[str, ...]
    enrolled: tuple[datetime, ...]

    def __len__(self) -> int:
        return len(self.name)


def export_gallery(
    store: Store, out: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> int:
    """Write all references of a gallery, ordered by (identity, reference); whole or not at all.

    Memory does not grow with the gallery. Identities that are deleted meanwhile are left out.

    Args:
        store: the gallery's.
        out: ``.npz`` or ``.parquet``; replaced if it is there.
        progress: called with how many references are done, and of about how many.

    Returns:
        How many references are in the file.

    Raises:
        InvalidValue: another suffix, or the gallery's own file.
        MissingExtra: ``.parquet`` without pyarrow.
        StorageError: the file cannot be written.
    """
    target = check_suffix(out)
    check_apart(target, store.location)
    total = store.counts().references
    write = _write_npz if target.suffix == ".npz" else _write_parquet
    if target.suffix == ".parquet":
        pyarrow()
    _remove_leftovers(target)
    with replacing(target) as temporary:
        temporary.touch(0o600)  # biometric data: for their owner alone, as the gallery's file is
        return write(temporary, store.settings, _told(_rows(store), total, progress))


def settings_text(settings: GallerySettings) -> str:
    """Settings as the file keeps them."""
    return json.dumps({"format": FORMAT, "settings": dataclasses.asdict(settings)}, allow_nan=False)


def check_suffix(path: str | os.PathLike[str]) -> Path:
    """The path, if it ends in .npz or .parquet; InvalidValue otherwise."""
    if Path(path).suffix not in SUFFIXES:
        raise InvalidValue(f"file {os.fspath(path)}: must end in .npz or .parquet")
    return Path(path)


def check_apart(out: str | os.PathLike[str], *inputs: str | os.PathLike[str]) -> None:
    """Refuse an output that is one of the inputs, under whatever name: writing it would destroy what is read.

    Raises:
        InvalidValue: they are one file.
    """
    for source in inputs:
        try:
            same = Path(out).samefile(source)
        except (OSError, ValueError):  # one of them is not there
            continue
        if same:
            raise InvalidValue(
                f"output {os.fspath(out)}: would destroy {os.fspath(source)}, which is read; choose another name"
            )


def pyarrow() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``; MissingExtra where they are not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("files in .parquet need pyarrow; pip install 'probface[parquet]', or use .npz") from error
    return pa, pq


def _remove_leftovers(target: Path) -> None:
    """Remove what an export to the same file left when its process was killed: it holds people's vectors.

    What bears the number of this process is left, too: in a container every process may have the same one.
    """
    if os.name != "posix":  # elsewhere the question whether a process lives can end it
        return
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.tmp*"):
        process, end, _ = path.name.removeprefix(f".{target.name}.").partition(".tmp")
        if not (end and process.isascii() and process.isdigit()) or _lives(int(process)):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _lives(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or no number of a process
        return True
    return True


def _told(rows: Iterator[ExportRows], total: int, progress: Callable[[int, int], None] | None) -> Iterator[ExportRows]:
    done = 0
    for part in rows:
        yield part
        done += len(part)
        if progress is not None:
            progress(done, max(done, total))


def _rows(store: Store) -> Iterator[ExportRows]:
    for block in store.scan():
        names = store.names(np.unique(block.identities).tolist())
        known = {reference.id: reference for name in names.values() for reference in _references(store, name)}
        there = [row for row, id_ in enumerate(block.ids.tolist()) if id_ in known]
        if there:
            yield _whole(block, there, names, known)


def _references(store: Store, name: str) -> tuple[Reference, ...]:
    try:
        return store.references(name)
    except InvalidValue:  # deleted since its name was read
        return ()


def _whole(block: ReferenceBlock, rows: list[int], names: dict[int, str], known: dict[int, Reference]) -> ExportRows:
    references = [known[int(block.ids[row])] for row in rows]
    return ExportRows(
        tuple(names[int(block.identities[row])] for row in rows),
        block.mu[rows],
        block.sigma_sq[rows],
        np.array([reference.quality for reference in references], np.int64),
        tuple(reference.source for reference in references),
        tuple(reference.source_digest for reference in references),
        tuple(reference.enrolled for reference in references),
    )


def _arrays(rows: ExportRows) -> dict[str, NDArray[Any]]:
    moments = [moment.replace(tzinfo=None) for moment in rows.enrolled]  # UTC; numpy knows no other
    return {
        "name": np.array(rows.name, np.str_),
        "mu": rows.mu,
        "sigma_sq": rows.sigma_sq,
        "quality": rows.quality,
        "source": np.array(rows.source, np.str_),
        "source_digest": np.array(rows.source_digest, np.str_),
        "enrolled": np.array(moments, "M8[us]"),
    }


def _write_npz(temporary: Path, settings: GallerySettings, rows: Iterator[ExportRows]) -> int:
    """An array is written whole before the next one, so the rows wait in parts until all are known."""
    with tempfile.TemporaryDirectory(prefix=temporary.name + ".", dir=temporary.parent) as folder:
        parts: list[Path] = []
        count, widths = 0, {"name": 1, "source": 1, "source_digest": 1}
        for part in rows:
            arrays = _arrays(part)
            parts.append(Path(folder) / f"{len(parts):06d}.npz")
            with parts[-1].open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            count += len(part)
            widths = {name: max(width, arrays[name].dtype.itemsize // 4) for name, width in widths.items()}
        texts = {name: ((), f"<U{width}") for name, width in widths.items()}
        forms: dict[str, tuple[tuple[int, ...], str]] = {
            "name": texts["name"],
            "mu": ((settings.model.dim,), "<f4"),
            "sigma_sq": ((settings.model.sigma_sq_width,), "<f4"),
            "quality": ((), "<i8"),
            "source": texts["source"],
            "source_digest": texts["source_digest"],
            "enrolled": ((), "<M8[us]"),
        }
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, (shape, dtype) in forms.items():
                write_column(archive, name, (count, *shape), dtype, _column(parts, name))
            write_text(archive, "gallery", settings_text(settings))
    return count


def _column(parts: list[Path], name: str) -> Iterator[NDArray[Any]]:
    for path in parts:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays[name]


def _write_parquet(temporary: Path, settings: GallerySettings, rows: Iterator[ExportRows]) -> int:
    pa, pq = pyarrow()
    dim, width, count = settings.model.dim, settings.model.sigma_sq_width, 0
    schema = pa.schema(
        [
            ("name", pa.string()),
            ("mu", pa.list_(pa.float32(), dim)),
            ("sigma_sq", pa.list_(pa.float32(), width)),
            ("quality", pa.int64()),
            ("source", pa.string()),
            ("source_digest", pa.string()),
            ("enrolled", pa.timestamp("us", tz="UTC")),
        ],
        metadata={PARQUET_KEY: settings_text(settings)},
    )
    with pq.ParquetWriter(temporary, schema) as writer:
        for part in rows:
            # A path may be no Unicode text, which parquet insists on: what is not is spelt out as \udcff.
            sources = [source.encode("utf-8", "backslashreplace").decode() for source in part.source]
            columns = [
                pa.array(part.name, pa.string()),
                pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(part.mu).ravel(), dim),
                pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(part.sigma_sq).ravel(), width),
                pa.array(part.quality),
                pa.array(sources, pa.string()),
                pa.array(part.source_digest, pa.string()),
                pa.array(part.enrolled, pa.timestamp("us", tz="UTC")),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            count += len(part)
    return count
