"""What :func:`probface.pipeline.face_export.export_faces` leaves in its folder, read back.

embeddings.npz            path, mu, sigma_sq, quality, contract; sharpness, detector_score; norm where the model's
                          graph has it; mirror_mu, mirror_sigma_sq, mirror_norm where they were asked for
embeddings.errors.jsonl   the images without a face, one a line
crops/                    the aligned faces that the network saw
manifest.json             model, options, images and the SHA-256 of embeddings.npz; written last: with it, all is there
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probface.contract import InputSpec, ModelContract
from probface.errors import DataError, InvalidValue
from probface.eval.face_table import DETECTOR_SCORE, NORM, SHARPNESS, FaceTable
from probface.pipeline.crop_files import CropFiles, CropRows
from probface.pipeline.embedding_file import EmbeddingRows, FailedImage, read_embeddings
from probface.storage import file_digest
from probface.types import Embeddings, Image

EMBEDDINGS, MANIFEST, CROPS = "embeddings.npz", "manifest.json", "crops"
"""Names in the folder."""

MEASURES = {"norm": NORM, "sharpness": SHARPNESS, "detector_score": DETECTOR_SCORE}
"""Name of a column -> name of the quality measure that it is."""
MIRROR = "mirror_"
"""What the columns of the mirror image begin with."""


@dataclass(frozen=True, slots=True, eq=False)
class ExportedFaces:
    """The faces of a protocol, embedded once by one model.

    Attributes:
        folder: where they are.
        table: N faces with the measures :data:`~probface.eval.face_table.NORM` (where the model's graph has it),
            ``SHARPNESS`` and ``DETECTOR_SCORE``.
        mirror: the same faces, left for right, with ``NORM`` alone; None where they were not asked for. The sum of raw
            embeddings, which the verification sets' protocol wants, is the sum of ``norm * mu`` of the two.
        quality: (N,) int64 in 0..100; -1 where the model has no quality scale.
        contract: of the model.
        digest: SHA-256 of the model.
        images: SHA-256 of the names and contents of the images.
        options: of the export, as its manifest has them.
        failed: the images without a face, and why.
        notes: what is not there and why, one sentence each.
        resumed: images that an earlier run had done already.
        crops: the faces, row by row; None where they were not kept.
    """

    folder: Path
    table: FaceTable
    mirror: FaceTable | None
    quality: NDArray[np.int64]
    contract: ModelContract
    digest: str
    images: str
    options: Mapping[str, Any]
    failed: tuple[FailedImage, ...]
    notes: tuple[str, ...]
    resumed: int
    crops: CropRows | None

    def serves(self, spec: InputSpec) -> bool:
        """Whether another model of this input, or a degraded copy, can take its faces from here."""
        return self.crops is not None and self.options["degrade"] is None and self.contract.input.cut == spec.cut

    def picture(self, name: str) -> Image | None:
        """The aligned face of an image as the network saw it, RGB uint8 (height, width, 3).

        None where the image has no face, or the faces were not kept.
        """
        if self.crops is None or self.table.missing([name]):
            return None
        return self.crops[int(self.table.rows([name])[0])]


def read_exported_faces(folder: Path, *, resumed: int = 0) -> ExportedFaces:
    """Read a finished export.

    Args:
        folder: of the export.
        resumed: what to say of images that an earlier run had done.

    Raises:
        DataError: it is not finished, or damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        options, digest, images = manifest["options"], str(manifest["model"]), str(manifest["images"])
        embeddings = str(manifest[EMBEDDINGS])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: no finished export of faces ({error}); export them again") from error
    read = read_embeddings(folder / EMBEDDINGS)
    if file_digest(folder / EMBEDDINGS) != embeddings:
        raise DataError(f"{folder}: {EMBEDDINGS} is not the one that {MANIFEST} describes; export the faces again")
    rows = read.rows
    try:
        table, mirror = _table(rows, read.embeddings), _mirror(rows)
        kept = bool(options["crops"])
    except (InvalidValue, KeyError, TypeError) as error:
        raise DataError(f"{folder}: damaged ({error}); export the faces again") from error
    notes: tuple[str, ...] = ()
    if NORM not in table.measures:
        notes = (f"{NORM}: the graph of model {read.contract.name!r} does not show it, so this measure is absent",)
    return ExportedFaces(
        folder=folder,
        table=table,
        mirror=mirror,
        quality=rows.quality,
        contract=read.contract,
        digest=digest,
        images=images,
        options=options,
        failed=_failed(folder / EMBEDDINGS),
        notes=notes,
        resumed=resumed,
        crops=CropFiles(folder / CROPS).open(len(rows)) if kept else None,
    )


def _table(rows: EmbeddingRows, embeddings: Embeddings) -> FaceTable:
    found = {measure: rows.columns[name] for name, measure in MEASURES.items() if name in rows.columns}
    return FaceTable(rows.path, embeddings, {name: np.asarray(value, np.float64) for name, value in found.items()})


def _mirror(rows: EmbeddingRows) -> FaceTable | None:
    if f"{MIRROR}mu" not in rows.columns:
        return None
    norm = rows.columns.get(f"{MIRROR}norm")
    measures = {} if norm is None else {NORM: np.asarray(norm, np.float64)}
    embeddings = Embeddings(rows.columns[f"{MIRROR}mu"], rows.columns[f"{MIRROR}sigma_sq"])
    return FaceTable(rows.path, embeddings, measures)


def _failed(embeddings: Path) -> tuple[FailedImage, ...]:
    path = embeddings.with_name(embeddings.stem + ".errors.jsonl")
    if not path.exists():
        return ()
    try:
        return tuple(FailedImage(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); export the faces again") from error
