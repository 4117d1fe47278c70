"""Many images to one file of embeddings: every core busy, memory flat, resumable, nothing lost or half-written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from probface.defaults import DEFAULT_MODEL, MAX_PIXELS
from probface.encoder.session import available_cores
from probface.errors import DataError, ImageError, InvalidValue, ModelError
from probface.face.detect import FacePolicy
from probface.gallery.exchange import check_apart
from probface.pipeline.embedding_file import Column, EmbeddingRows, FailedImage
from probface.pipeline.embedding_parts import PartsFolder
from probface.pipeline.parallel import batches, ordered_map
from probface.pipeline.recogniser import AlignedFace, Recogniser
from probface.readers.item import Item
from probface.readers.open import open_items

PART_IMAGES = 1024
"""Images to a part: what a resumed run may have to do again, and what is held in memory."""

Found = TypeVar("Found")
Progress = Callable[[int], None]
"""Called with the number of images done since its last call."""


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What :func:`embed` did.

    Attributes:
        out: the file written.
        faces: rows in it.
        failed: images that could not be read or had no face, also listed in ``errors``.
        errors: the JSON lines file that names them; None where there are none.
        resumed: images that an earlier run had done already.
    """

    out: Path
    faces: int
    failed: int
    errors: Path | None
    resumed: int


def embed(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    aligned: bool = False,
    policy: FacePolicy = "largest",
    batch: int = 32,
    strict: bool = False,
    resume: bool = False,
    provider: str = "cpu",
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
    progress: Progress | None = None,
) -> EmbedResult:
    """Embed images into one ``.npz`` or ``.parquet`` file: ``path``, ``mu``, ``sigma_sq``, ``quality``, one row a face.

    Args:
        paths: images, folders, globs, verification .bin, .rec or tar shards; one or several.
        out: ``.npz`` or ``.parquet``; written when all is done. Until then finished parts wait in ``OUT.parts``.
        model: a name, an .onnx file with a contract, or a training output folder.
        aligned: the images are aligned faces already.
        policy: which faces of an image; with ``all`` an image may have several rows.
        batch: faces to a pass through the network.
        strict: end with an error at the first image that fails, instead of listing it in ``OUT.errors.jsonl``.
        resume: go on from the parts of an interrupted run of the same model, inputs and options.
        provider: where the network runs.
        max_pixels: limit on an image's size.
        workers: threads; 0 for all cores.
        progress: called with the number of images done since its last call.

    Raises:
        InvalidValue: an output that is an input, or another argument that breaks its rule.
        DataError: an input that is not there, no face in any image, or parts of another run.
        ImageError: with ``strict``, the first image that failed.
        StorageError: the output cannot be written, or another run is at work on it.
    """
    check_work(batch, workers)
    sources = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    check_apart(out, *sources)
    recogniser = Recogniser(model, provider=provider, threads=1, aligned=aligned, policy=policy, max_pixels=max_pixels)
    settings = {
        "inputs": [os.fspath(path) for path in sources],
        "aligned": aligned,
        "policy": policy,
        "max_pixels": max_pixels,
        "part_images": PART_IMAGES,
    }
    contract = recogniser.contract
    embedder = PartEmbedder(
        lambda item: recogniser.find(item.source, item.name),
        partial(_encode, recogniser),
        (contract.dim, contract.sigma_sq_width),
        batch=batch,
        workers=workers,
        strict=strict,
    )
    # All are opened before the first is read: one that is missing is told at once, not after hours.
    items = chain.from_iterable([open_items(os.fspath(path)) for path in sources])
    with PartsFolder.open(Path(out), contract, settings, resume=resume) as parts:
        return _embed(parts, items, embedder, progress)


def check_work(batch: int, workers: int) -> None:
    """Raise InvalidValue unless the size of a batch and the number of threads will do."""
    if batch < 1 or workers < 0:
        raise InvalidValue(f"batch {batch}, workers {workers}: must be 1 or more, and 0 or more")


def _embed(
    parts: PartsFolder, items: Iterable[Item], embedder: PartEmbedder[AlignedFace], progress: Progress | None
) -> EmbedResult:
    resumed = 0
    for index, images in enumerate(batches(items, PART_IMAGES)):
        names = [item.name for item in images]
        if not parts.has(index, names):
            parts.write(index, names, *embedder(images, progress))
            continue
        resumed += len(images)
        if progress is not None:
            progress(len(images))
    return _finish(parts, resumed)


def _finish(parts: PartsFolder, resumed: int) -> EmbedResult:
    totals = parts.totals()
    if totals.faces == 0:
        parts.discard()
        first = f"; the first failed so: {totals.first_error}" if totals.first_error else ""
        raise DataError(f"no face in {totals.failed} images: nothing to write to {parts.out}{first}")
    errors = parts.assemble(totals)
    return EmbedResult(parts.out, totals.faces, totals.failed, errors, resumed)


class PartEmbedder(Generic[Found]):
    """Embeds one part: finding faces and running the network share one pool, so that no core waits.

    Args:
        find: the faces of an image; an ImageError or InvalidValue of it is a failed image.
        encode: the rows of some faces.
        widths: of ``mu`` and ``sigma_sq``.
        columns: further columns of the rows.
        batch: faces to a pass through the network.
        workers: threads; 0 for all cores.
        strict: raise the error of the first image that fails.
    """

    def __init__(
        self,
        find: Callable[[Item], Sequence[Found]],
        encode: Callable[[list[Found]], EmbeddingRows],
        widths: tuple[int, int],
        *,
        columns: Sequence[Column] = (),
        batch: int = 32,
        workers: int = 0,
        strict: bool = False,
    ) -> None:
        self._look, self._encode, self._widths, self._columns = find, encode, widths, columns
        self._batch, self._workers, self._strict = batch, workers or available_cores(), strict

    def __call__(self, images: list[Item], progress: Progress | None) -> tuple[EmbeddingRows, list[FailedImage]]:
        """The rows of the faces in some images, in their order, and the images that failed."""
        failed: list[FailedImage] = []
        with ThreadPoolExecutor(self._workers, thread_name_prefix="probface") as pool:
            found = ordered_map(pool, self._find, images, ahead=2 * self._batch + 2 * self._workers)
            faces = self._good(found, failed, progress)
            rows = list(ordered_map(pool, self._encode, batches(faces, self._batch), ahead=self._workers + 1))
        return EmbeddingRows.concatenate(rows, *self._widths, self._columns), failed

    def _find(self, item: Item) -> Sequence[Found] | FailedImage:
        try:
            return self._look(item)
        except (ImageError, InvalidValue) as error:
            if self._strict:
                raise
            return FailedImage(item.name, type(error).__name__, str(error))

    @staticmethod
    def _good(
        found: Iterable[Sequence[Found] | FailedImage], failed: list[FailedImage], progress: Progress | None
    ) -> Iterator[Found]:
        for result in found:
            if progress is not None:
                progress(1)
            if isinstance(result, FailedImage):
                failed.append(result)
            else:
                yield from result


def _encode(recogniser: Recogniser, faces: list[AlignedFace]) -> EmbeddingRows:
    try:
        embeddings = recogniser.encoder.encode(np.stack([face.crop for face in faces]), batch_size=len(faces))
    except ModelError as error:
        names = ", ".join(face.source for face in faces[:3])
        raise ModelError(f"batch of {len(faces)} faces ({names} ...): {error}") from error
    return EmbeddingRows(
        tuple(face.source for face in faces), embeddings.mu, embeddings.sigma_sq, recogniser.grade(embeddings)
    )
