"""The file that ``probface embed`` writes, and the finished parts that wait beside it until all is done.

``OUT.parts/`` holds ``manifest.json`` (model and settings) and one ``part-000000.npz`` for each run of images, each
written under a temporary name and moved into place. A killed run leaves whole parts only; ``--resume`` goes on from
them. The final file is put together part by part, so memory stays flat, and moved into place last.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from probface.contract import ModelContract
from probface.errors import DataError, InvalidValue, MissingExtra, StorageError
from probface.gallery.exchange_reading import UNREADABLE
from probface.storage import replacing, storage_errors, write_bytes
from probface.types import Embeddings, FloatArray

SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image without a row: its name, the kind of error, and the error's one line."""

    path: str
    kind: str
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingRows:
    """N faces as the file keeps them.

    Attributes:
        path: name of the image of each row.
        mu, sigma_sq: as in :class:`probface.types.Embeddings`.
        quality: (N,) int64 in 0..100.
    """

    path: tuple[str, ...]
    mu: FloatArray
    sigma_sq: FloatArray
    quality: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.path)

    @classmethod
    def concatenate(cls, rows: Sequence[EmbeddingRows], dim: int, width: int) -> EmbeddingRows:
        """Stack rows; none at all give an empty table of the given widths."""
        mu = [np.empty((0, dim), np.float32), *(part.mu for part in rows)]
        sigma_sq = [np.empty((0, width), np.float32), *(part.sigma_sq for part in rows)]
        grades = [np.empty(0, np.int64), *(part.quality for part in rows)]
        return cls(
            tuple(name for part in rows for name in part.path),
            np.concatenate(mu),
            np.concatenate(sigma_sq),
            np.concatenate(grades),
        )


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingFile:
    """What was read from a finished file."""

    rows: EmbeddingRows
    contract: ModelContract

    @property
    def embeddings(self) -> Embeddings:
        """The Gaussians alone, checked."""
        return Embeddings(self.rows.mu, self.rows.sigma_sq)


def read_embeddings(path: str | os.PathLike[str]) -> EmbeddingFile:
    """Read an ``.npz`` that :func:`probface.embed` wrote (no pickle is ever loaded).

    Raises:
        DataError: not such a file.
    """
    try:
        with _arrays(path) as arrays:
            rows = EmbeddingRows(
                tuple(arrays["path"].tolist()), arrays["mu"], arrays["sigma_sq"], arrays["quality"].astype(np.int64)
            )
            return EmbeddingFile(rows, ModelContract.from_json(str(arrays["contract"])))
    except UNREADABLE as error:
        raise DataError(
            f"embeddings {os.fspath(path)}: not readable ({error}); write it with probface embed"
        ) from error


@contextmanager
def _arrays(path: str | os.PathLike[str]) -> Iterator[Mapping[str, NDArray[Any]]]:
    # Opened here, because np.load leaves a damaged file open when it is given a path.
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        yield arrays


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over all parts."""

    faces: int
    failed: int
    longest_path: int
    first_error: str | None


class PartsFolder:
    """Finished parts of one run."""

    def __init__(self, out: Path, contract: ModelContract) -> None:
        self.out, self._contract = out, contract
        self._folder = out.with_name(out.name + ".parts")
        self._finished: list[Path] = []

    @classmethod
    def open(cls, out: Path, contract: ModelContract, settings: dict[str, Any], *, resume: bool) -> PartsFolder:
        """Begin, or go on with, the parts of a run.

        Raises:
            InvalidValue: an output of another kind than .npz or .parquet.
            DataError: parts are there and ``resume`` was not asked for, or they are of another run.
            StorageError: the folder cannot be written.
        """
        if out.suffix not in SUFFIXES:
            raise InvalidValue(f"output {out}: must end in .npz or .parquet")
        if out.suffix == ".parquet":
            _pyarrow()
        parts = cls(out, contract)
        manifest = json.dumps({"contract": json.loads(contract.to_json()), **settings}, sort_keys=True)
        path = parts._folder / "manifest.json"
        with storage_errors(parts._folder):
            if path.exists():
                if not resume:
                    raise DataError(
                        f"{parts._folder}: parts of an interrupted run; go on with --resume, or delete the folder"
                    )
                if path.read_text(encoding="utf-8") != manifest:
                    raise DataError(
                        f"{parts._folder}: parts of a run with another model, inputs or options; "
                        "repeat that run, or delete the folder"
                    )
            else:
                try:
                    write_bytes(path, manifest.encode())
                except StorageError:
                    parts.discard()
                    raise
        return parts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """A run that failed before its first part leaves nothing; one that failed later can be resumed."""
        if not any(self._folder.glob("part-*.npz")):
            self.discard()

    def discard(self) -> None:
        """Remove the parts."""
        if self._folder.exists():
            with storage_errors(self._folder):
                shutil.rmtree(self._folder)

    def has(self, index: int, images: Sequence[str]) -> bool:
        """Whether the part of these images is finished; one that cannot be read is not.

        Raises:
            DataError: it is, but of other images: some have come or gone since.
        """
        path = self._path(index)
        try:
            with _arrays(path) as arrays:
                same = str(arrays["images"]) == _digest(images)
        except UNREADABLE:
            return False
        if not same:
            raise DataError(
                f"{path}: made of other images than are there now; bring those back, or delete {self._folder}"
            )
        self._finished.append(path)
        return True

    def write(self, index: int, images: Sequence[str], rows: EmbeddingRows, failed: list[FailedImage]) -> None:
        """Write one part, whole or not at all: the rows and failures of ``images``."""
        path = self._path(index)
        names, errors = np.array(rows.path, np.str_), json.dumps([asdict(entry) for entry in failed])
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                path=names,
                mu=rows.mu,
                sigma_sq=rows.sigma_sq,
                quality=rows.quality,
                errors=errors,
                images=_digest(images),
            )
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
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, (shape, dtype) in columns.items():
                with archive.open(name + ".npy", "w", force_zip64=True) as file:
                    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    for rows, _ in self._parts():
                        file.write(np.ascontiguousarray(np.asarray(getattr(rows, name)).astype(dtype)).tobytes())
            with archive.open("contract.npy", "w") as file:
                np.lib.format.write_array(file, np.array(self._contract.to_json()), allow_pickle=False)

    def _write_parquet(self, target: Path) -> None:
        pyarrow, parquet = _pyarrow()
        dim, width = self._contract.dim, self._contract.sigma_sq_width
        schema = pyarrow.schema(
            [
                ("path", pyarrow.string()),
                ("mu", pyarrow.list_(pyarrow.float32(), dim)),
                ("sigma_sq", pyarrow.list_(pyarrow.float32(), width)),
                ("quality", pyarrow.int64()),
            ],
            metadata={"probface": self._contract.to_json()},
        )
        with parquet.ParquetWriter(target, schema) as writer:
            for rows, _ in self._parts():
                mu = pyarrow.FixedSizeListArray.from_arrays(rows.mu.ravel(), dim)
                sigma_sq = pyarrow.FixedSizeListArray.from_arrays(rows.sigma_sq.ravel(), width)
                # A file name may be no Unicode text, which parquet insists on: what is not is spelt out as \udcff.
                names = [name.encode("utf-8", "backslashreplace").decode() for name in rows.path]
                columns = [pyarrow.array(names, pyarrow.string()), mu, sigma_sq, pyarrow.array(rows.quality)]
                writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))

    def _parts(self) -> Iterator[tuple[EmbeddingRows, list[FailedImage]]]:
        for path in self._finished:
            with _arrays(path) as arrays:
                rows = EmbeddingRows(
                    tuple(arrays["path"].tolist()), arrays["mu"], arrays["sigma_sq"], arrays["quality"]
                )
                yield rows, [FailedImage(**entry) for entry in json.loads(str(arrays["errors"]))]

    def _path(self, index: int) -> Path:
        return self._folder / f"part-{index:06d}.npz"


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("output .parquet needs pyarrow; pip install 'probface[parquet]', or write .npz") from error
    return pa, pq
