"""The finished parts of a file of embeddings, which wait beside it until all is done.

``OUT.parts/`` holds ``manifest.json`` (model and settings) and one ``part-000000.npz`` for each run of images, each
written under a temporary name and moved into place, with the digest of its manifest inside. A killed run leaves whole
parts only; ``--resume`` goes on from them. The final file is put together part by part, so memory stays flat, and moved
into place last. One run at a time works in the folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from probface.contract import ModelContract
from probface.errors import DataError, InvalidValue, StorageError
from probface.gallery.exchange import pyarrow
from probface.gallery.exchange_reading import UNREADABLE
from probface.pipeline.embedding_file import Column, EmbeddingRows, FailedImage, npz_arrays, rows_of
from probface.pipeline.sole_run import sole_run
from probface.storage import replacing, storage_errors, write_bytes

SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over all parts."""

    faces: int
    failed: int
    longest_path: int
    first_error: str | None


class PartsFolder:
    """Finished parts of one run."""

    def __init__(self, out: Path, contract: ModelContract, columns: Sequence[Column] = ()) -> None:
        self.out, self._contract, self._columns = out, contract, tuple(columns)
        self._folder = out.with_name(out.name + ".parts")
        self._finished: list[Path] = []
        self._run = ""  # digest of the manifest
        self._held = ExitStack()
        self._discarded = False
        self.resumed = False
        """Whether an earlier run had begun."""

    @classmethod
    def open(
        cls,
        out: Path,
        contract: ModelContract,
        settings: Mapping[str, Any],
        *,
        resume: bool,
        columns: Sequence[Column] = (),
    ) -> PartsFolder:
        """Begin, or go on with, the parts of a run.

        Args:
            out: the file that they become.
            contract: of the model.
            settings: all else that the content depends on, as JSON knows it.
            resume: go on, where parts are there.
            columns: further columns of the rows; an ``.npz`` takes them.

        Raises:
            InvalidValue: an output of another kind than .npz or .parquet.
            DataError: parts are there and ``resume`` was not asked for, or they are of another run.
            StorageError: the folder cannot be written, or another run is at work in it.
        """
        if out.suffix not in SUFFIXES:
            raise InvalidValue(f"output {out}: must end in .npz or .parquet")
        if out.suffix == ".parquet":
            if columns:
                raise InvalidValue(f"output {out}: must end in .npz, for the columns {[each.name for each in columns]}")
            pyarrow()
        parts = cls(out, contract, columns)
        manifest = json.dumps({"contract": json.loads(contract.to_json()), **settings}, sort_keys=True)
        parts._run = hashlib.sha256(manifest.encode()).hexdigest()
        with ExitStack() as held:
            held.enter_context(sole_run(parts._folder))
            parts._begin(manifest, resume)
            parts._held = held.pop_all()
        return parts

    def _begin(self, manifest: str, resume: bool) -> None:
        path = self._folder / "manifest.json"
        with storage_errors(self._folder):
            self.resumed = path.exists()
            if not self.resumed:
                self._remove_parts()  # of nobody knows which run
                try:
                    write_bytes(path, manifest.encode())
                except StorageError:
                    self.discard()
                    raise
            elif not resume:
                raise DataError(
                    f"{self._folder}: parts of an interrupted run; go on with --resume, or delete the folder"
                )
            elif path.read_text(encoding="utf-8") != manifest:
                raise DataError(
                    f"{self._folder}: parts of a run with another model, inputs or options; "
                    "repeat that run, or delete the folder"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """A run that failed before its first part leaves nothing; one that failed later can be resumed."""
        with self._held:
            # What stands in the place of discarded parts is another run's.
            if not (self._discarded or any(self._folder.glob("part-*.npz"))):
                self.discard()

    def discard(self) -> None:
        """Remove the parts, and the manifest after them: a run killed meanwhile leaves none without it."""
        if self._folder.exists():
            with storage_errors(self._folder):
                self._remove_parts()
                shutil.rmtree(self._folder)
        self._discarded = True

    def _remove_parts(self) -> None:
        for path in self._folder.glob("part-*.npz"):
            path.unlink()

    def has(self, index: int, images: Sequence[str]) -> bool:
        """Whether the part of these images is finished; one that is damaged or of another run is not.

        Raises:
            DataError: it is, but of other images: some have come or gone since.
        """
        path = self._path(index)
        try:
            with npz_arrays(path) as arrays:
                run, made_of = str(arrays["run"]), str(arrays["images"])
            self._read(path)  # damage is told when an array is read
        except UNREADABLE:
            return False
        if run != self._run:
            return False
        if made_of != _digest(images):
            raise DataError(
                f"{path}: made of other images than are there now; bring those back, or delete {self._folder}"
            )
        self._finished.append(path)
        return True

    def write(self, index: int, images: Sequence[str], rows: EmbeddingRows, failed: list[FailedImage]) -> None:
        """Write one part, whole or not at all: the rows and failures of ``images``."""
        path = self._path(index)
        arrays: dict[str, Any] = {
            "path": np.array(rows.path, np.str_),
            "mu": rows.mu,
            "sigma_sq": rows.sigma_sq,
            "quality": rows.quality,
            **rows.columns,
            "errors": json.dumps([asdict(entry) for entry in failed]),
            "images": _digest(images),
            "run": self._run,
        }
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        self._finished.append(path)

    def totals(self) -> Totals:
        """Count what the finished parts of this run hold."""
        faces = failed = 0
        longest, first = 1, None
        for rows, errors in self._parts():
            faces, failed = faces + len(rows), failed + len(errors)
            longest = max([longest, *map(len, rows.path)])
            first = first or (errors[0].error if errors else None)
        return Totals(faces, failed, longest, first)

    def assemble(self, totals: Totals) -> Path | None:
        """Put the final file together, list the failures beside it, and remove the parts.

        Args:
            totals: what :meth:`totals` counted.

        Returns:
            The list of failures, or None where there are none.
        """
        with replacing(self.out) as temporary:
            if self.out.suffix == ".npz":
                self._write_npz(temporary, totals)
            else:
                self._write_parquet(temporary)
            errors = self._write_errors()
        self.discard()
        return errors

    def _write_errors(self) -> Path | None:
        path = self.out.with_name(self.out.stem + ".errors.jsonl")
        lines = [json.dumps(asdict(entry)) + "\n" for _, errors in self._parts() for entry in errors]
        if not lines:
            path.unlink(missing_ok=True)
            return None
        write_bytes(path, "".join(lines).encode())
        return path

    def _write_npz(self, target: Path, totals: Totals) -> None:
        width, dim = self._contract.sigma_sq_width, self._contract.dim
        columns: dict[str, tuple[tuple[int, ...], Any]] = {
            "path": ((totals.faces,), np.dtype(f"<U{totals.longest_path}")),
            "mu": ((totals.faces, dim), np.dtype("<f4")),
            "sigma_sq": ((totals.faces, width), np.dtype("<f4")),
            "quality": ((totals.faces,), np.dtype("<i8")),
        }
        columns |= {each.name: (each.shape(totals.faces), np.dtype(each.dtype)) for each in self._columns}
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, (shape, dtype) in columns.items():
                with archive.open(_entry(name), "w", force_zip64=True) as file:
                    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    for rows, _ in self._parts():
                        values = rows.columns[name] if name in rows.columns else getattr(rows, name)
                        file.write(np.ascontiguousarray(np.asarray(values).astype(dtype)).tobytes())
            with archive.open(_entry("contract"), "w") as file:
                np.lib.format.write_array(file, np.array(self._contract.to_json()), allow_pickle=False)

    def _write_parquet(self, target: Path) -> None:
        pa, parquet = pyarrow()
        dim, width = self._contract.dim, self._contract.sigma_sq_width
        schema = pa.schema(
            [
                ("path", pa.string()),
                ("mu", pa.list_(pa.float32(), dim)),
                ("sigma_sq", pa.list_(pa.float32(), width)),
                ("quality", pa.int64()),
            ],
            metadata={"probface": self._contract.to_json()},
        )
        with parquet.ParquetWriter(target, schema) as writer:
            for rows, _ in self._parts():
                mu = pa.FixedSizeListArray.from_arrays(rows.mu.ravel(), dim)
                sigma_sq = pa.FixedSizeListArray.from_arrays(rows.sigma_sq.ravel(), width)
                # A file name may be no Unicode text, which parquet insists on: what is not is spelt out as \udcff.
                names = [name.encode("utf-8", "backslashreplace").decode() for name in rows.path]
                columns = [pa.array(names, pa.string()), mu, sigma_sq, pa.array(rows.quality)]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))

    def _parts(self) -> Iterator[tuple[EmbeddingRows, list[FailedImage]]]:
        for path in self._finished:
            yield self._read(path)

    def _read(self, path: Path) -> tuple[EmbeddingRows, list[FailedImage]]:
        with npz_arrays(path) as arrays:
            rows = rows_of(arrays, [column.name for column in self._columns])
            return rows, [FailedImage(**entry) for entry in json.loads(str(arrays["errors"]))]

    def _path(self, index: int) -> Path:
        return self._folder / f"part-{index:06d}.npz"


def _entry(name: str) -> zipfile.ZipInfo:
    """Of an array in the archive: without the time of day, so that the same faces are the same bytes."""
    return zipfile.ZipInfo(name + ".npy")


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
