"""The faces of a protocol embedded once, with all that any protocol scores: export first, then score.

Every image has one row, found by its name. Next to ``mu`` and ``sigma_sq`` stand the quality measures that an
uncertainty is compared with: the length of the raw embedding, the sharpness of the face, the detector's score.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from probface.defaults import DEFAULT_MODEL
from probface.encoder.onnx import Encoder
from probface.encoder.session import available_cores
from probface.errors import DataError, UnreadableImage
from probface.models.registry import resolve_model
from probface.pipeline import embed as parts_of
from probface.pipeline.crop_files import CropFiles
from probface.pipeline.embed import PartEmbedder, Progress, check_work
from probface.pipeline.embedding_file import Column, EmbeddingRows
from probface.pipeline.embedding_parts import PartsFolder
from probface.pipeline.exported_faces import (
    CROPS,
    EMBEDDINGS,
    MANIFEST,
    ExportedFaces,
    read_exported_faces,
)
from probface.pipeline.face_rows import (
    CROP,
    ExportOptions,
    FaceSource,
    SeenFace,
    check_shared,
    encode_faces,
    face_columns,
)
from probface.pipeline.given_faces import GivenFace, given_digest
from probface.pipeline.parallel import batches, ordered_map
from probface.pipeline.sole_run import sole_run
from probface.readers.item import Item
from probface.storage import file_digest, storage_errors, write_bytes


def export_faces(
    items: Sequence[Item],
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    options: ExportOptions | None = None,
    shared: ExportedFaces | None = None,
    given: Mapping[str, GivenFace] | None = None,
    batch: int = 32,
    resume: bool = False,
    provider: str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
) -> ExportedFaces:
    """Embed the images of a protocol into a folder.

    Args:
        items: the images, each name once; rows stand in their order.
        out: the folder. What a finished export left there is replaced, unless ``resume``.
        model: a name, an .onnx file with a contract, or a training output folder.
        options: what the export holds.
        shared: an export of the same images, as they are, that kept its faces: they and the detector's scores are
            taken from it, and nothing is detected again. For several models of one input, and for degraded copies.
        given: where the protocol's lists have the faces, by the names of the images; photos that are not in it are
            searched as a whole. Not read for images that are aligned already.
        batch: faces to a pass through the network.
        resume: take what an earlier run of the same model, options and images did, finished or not.
        provider: where the network runs.
        workers: threads; 0 for all cores.
        progress: called with the number of images done since its last call.

    Raises:
        InvalidValue: an argument that breaks its rule, or ``shared`` faces of another shape.
        DataError: an image named twice, no face in any image, or, with ``resume``, what is there was made by another
            model, with other options or from other images.
        StorageError: the folder cannot be written, or another run is at work in it.
    """
    check_work(batch, workers)
    chosen, folder = options or ExportOptions(), Path(out)
    encoder = Encoder(resolve_model(model), provider=provider, threads=1, norm=True)
    prints = _fingerprints(items, given or {}, workers or available_cores())
    images = hashlib.sha256(json.dumps(prints).encode()).hexdigest()
    if shared is not None:
        check_shared(shared, images, encoder.contract.input, chosen)
    contract = encoder.contract
    settings = {
        "model": encoder.digest,
        "contract": hashlib.sha256(contract.to_json().encode()).hexdigest(),  # quality follows from it
        "options": asdict(chosen),
        "images": images,
        "part": parts_of.PART_IMAGES,
    }
    if resume and _finished(folder, settings):  # which takes no lock: nothing is changed
        if progress is not None:
            progress(len(items))
        return read_exported_faces(folder, resumed=len(items))
    columns, spec = face_columns(encoder, chosen), contract.input
    embedder = PartEmbedder(
        FaceSource(spec, chosen, shared, given),
        partial(encode_faces, encoder, chosen),
        (contract.dim, contract.sigma_sq_width),
        columns=(*columns, Column(CROP, "|u1", (spec.height, spec.width, 3))),
        batch=batch,
        workers=workers,
    )
    with sole_run(folder):
        with storage_errors(folder):
            (folder / MANIFEST).unlink(missing_ok=True)  # first: it must never stand beside embeddings of another run
        with PartsFolder.open(folder / EMBEDDINGS, contract, settings, resume=resume, columns=columns) as parts:
            crops = CropFiles(folder / CROPS)
            if not (parts.resumed and chosen.crops):
                crops.clear()
            resumed = _write_parts(parts, crops if chosen.crops else None, items, prints, embedder, progress)
            _assemble(parts, len(items))
        described = {**settings, EMBEDDINGS: file_digest(folder / EMBEDDINGS)}
        write_bytes(folder / MANIFEST, json.dumps(described).encode())
    return read_exported_faces(folder, resumed=resumed)


def _finished(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds all of this export already.

    Raises:
        DataError: it holds another.
    """
    path = folder / MANIFEST
    if not (path.is_file() and (folder / EMBEDDINGS).is_file()):
        return False
    with storage_errors(path):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
    if not isinstance(found, dict) or found != {**settings, EMBEDDINGS: found.get(EMBEDDINGS)}:
        raise DataError(
            f"{folder}: faces exported by another model, from other images or with other options; choose another "
            "folder, or go without --resume to replace them"
        )
    return True


def _write_parts(
    parts: PartsFolder,
    crops: CropFiles | None,
    items: Sequence[Item],
    prints: Sequence[str],
    embedder: PartEmbedder[SeenFace],
    progress: Progress | None,
) -> int:
    """Write the parts that are missing; how many images were there already."""
    resumed, size = 0, parts_of.PART_IMAGES
    for index, images in enumerate(batches(items, size)):
        known = prints[index * size : index * size + len(images)]
        if (crops is None or crops.has(index)) and parts.has(index, known):
            resumed += len(images)
            if progress is not None:
                progress(len(images))
            continue
        rows, failed = embedder(images, progress)
        columns = dict(rows.columns)
        faces = columns.pop(CROP)
        if crops is not None:  # before the part that counts on them
            crops.write(index, faces)
        parts.write(index, known, EmbeddingRows(rows.path, rows.mu, rows.sigma_sq, rows.quality, columns), failed)
    if crops is not None and items:
        crops.keep(-(-len(items) // size))
    return resumed


def _assemble(parts: PartsFolder, images: int) -> None:
    totals = parts.totals()
    if totals.faces == 0:
        parts.discard()
        raise DataError(f"no face in any of {images} images; the first failed so: {totals.first_error or 'no image'}")
    parts.assemble(totals)


def _fingerprints(items: Sequence[Item], given: Mapping[str, GivenFace], workers: int) -> list[str]:
    """Of each image its name, the SHA-256 of its content and its given face: a resumed run must see the same."""
    names = {item.name for item in items}
    if len(names) != len(items):
        raise DataError(f"{len(items)} images of {len(names)} names: each image must have a name of its own")
    with ThreadPoolExecutor(workers, thread_name_prefix="probface") as pool:
        prints = list(ordered_map(pool, _fingerprint, items, ahead=4 * workers))
    return [
        f"{known}\0{given_digest(given[item.name])}" if item.name in given else known
        for item, known in zip(items, prints, strict=True)
    ]


def _fingerprint(item: Item) -> str:
    try:
        source = item.source
        content = source if isinstance(source, bytes) else source.read_bytes()
    except (OSError, UnreadableImage) as error:  # it will fail for this reason
        content = f"unreadable: {error}".encode("utf-8", "surrogateescape")
    return f"{item.name}\0{hashlib.sha256(content).hexdigest()}"
