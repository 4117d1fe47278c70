"""Move a gallery to another model: embed its images anew, beside the present embeddings, then change over at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from probface.defaults import MAX_PIXELS
from probface.encoder.session import available_cores
from probface.errors import ImageError, InvalidValue, ModelError
from probface.gallery.gallery import Gallery
from probface.gallery.records import NewReferences
from probface.gallery.store import PendingImage
from probface.pipeline.gallery_model import GalleryPlace, model_binding, opened, recogniser_for
from probface.pipeline.image_bytes import digest_of, read_regular
from probface.pipeline.parallel import ordered_map
from probface.pipeline.recogniser import AlignedFace, Recogniser
from probface.types import EmbeddedFace, Embeddings

STEP_IMAGES = 64
"""Images between two moments at which a killed run loses nothing; so many are in memory."""


@dataclass(frozen=True, slots=True)
class MissingImage:
    """A reference that cannot be embedded anew.

    Attributes:
        name: of its identity.
        source: where its image was.
        reason: why it cannot be had, in one sentence.
    """

    name: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """What :func:`migrate_gallery` did.

    Attributes:
        gallery: which one.
        model: the model that it is on now.
        finished: whether that is the one asked for.
        embedded: images that this run embedded.
        missing: references whose images cannot be had; none where it finished.
    """

    gallery: str
    model: str
    finished: bool
    embedded: int
    missing: tuple[MissingImage, ...]


def migrate_gallery(
    gallery: GalleryPlace,
    model: str | Path | Recogniser,
    *,
    aligned: bool = False,
    provider: str = "cpu",
    threads: int = 0,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> MigrationResult:
    """Embed every reference with another model, and change over when all are there.

    An image is taken from the gallery where it was kept, otherwise from the file that it came from, if that still has
    the same SHA-256. Until all are embedded the gallery answers with its present model. A run that was killed, or that
    found images missing, goes on where it stopped when it is called again: bring the missing images back, or delete
    these identities and enrol them again afterwards.

    Args:
        gallery: a path, ``postgresql://...``, or an open gallery.
        model: the new one: a name, an .onnx file, a training output folder, or a :class:`Recogniser`.
        aligned: the images are aligned faces already, as when they were enrolled.
        provider: where the network runs.
        threads: of the network; 0 for all cores.
        max_pixels: limit on an image's size.
        progress: called with how many references this run has dealt with, and of about how many.

    Raises:
        InvalidValue: a migration to yet another model is under way.
        ModelError, StorageError: the model or the gallery cannot be used.
    """
    with opened(gallery) as place:
        recogniser = recogniser_for(
            None, model, aligned=aligned, provider=provider, threads=threads, max_pixels=max_pixels
        )
        binding, store = model_binding(recogniser), place.store
        recogniser.grade(Embeddings(*(np.empty((0, width), np.float32) for width in (binding.dim, 1))))  # or refuse
        if place.settings.model.digest == binding.digest:
            return MigrationResult(store.location, binding.name, True, 0, ())
        store.begin_migration(binding)
        run = _Run(place, recogniser, progress)
        while True:
            run.embed_pending()
            missing = run.missing()
            if missing:
                return MigrationResult(store.location, place.settings.model.name, False, run.embedded, missing)
            try:
                place.finish_migration()
            except InvalidValue:
                if not store.pending(limit=1):
                    raise
                continue  # somebody was enrolled a moment ago
            return MigrationResult(store.location, binding.name, True, run.embedded, ())


def abandon_migration(gallery: GalleryPlace) -> None:
    """Forget a migration that was begun; the gallery stays on its model."""
    with opened(gallery) as place:
        place.store.abandon_migration()


class _Run:
    """One run of a migration."""

    def __init__(self, gallery: Gallery, recogniser: Recogniser, progress: Callable[[int, int], None] | None) -> None:
        self._store, self._recogniser, self._progress = gallery.store, recogniser, progress
        self._reasons: dict[int, str] = {}
        self._total = gallery.counts().references
        self.embedded = 0

    def embed_pending(self) -> None:
        """Embed or give up every reference that is pending."""
        with ThreadPoolExecutor(available_cores(), thread_name_prefix="probface") as pool:
            while images := self._store.pending(limit=STEP_IMAGES):
                found = list(ordered_map(pool, partial(_find, self._recogniser), images, ahead=len(images)))
                self._keep(images, found)
                if self._progress is not None:
                    done = self.embedded + len(self._reasons)
                    self._progress(done, max(done, self._total))

    def _keep(self, images: tuple[PendingImage, ...], found: list[AlignedFace | str]) -> None:
        pairs = list(zip(images, found, strict=True))
        cut = [(image, face) for image, face in pairs if isinstance(face, AlignedFace)]
        lost = {image.reference: reason for image, reason in pairs if isinstance(reason, str)}
        seen = []
        for (image, _), face in zip(cut, _embed(self._recogniser, [face for _, face in cut]), strict=True):
            if isinstance(face, str):
                lost[image.reference] = face
            else:
                seen.append((image, face))
        if seen:
            self._store.put_migrated([image.reference for image, _ in seen], _references(seen))
            self.embedded += len(seen)
        if lost:
            self._store.mark_missing(list(lost))
            self._reasons |= lost

    def missing(self) -> tuple[MissingImage, ...]:
        """What was given up, with the reasons."""
        return tuple(
            MissingImage(image.name, image.source, self._reasons.get(image.reference, "given up by another run"))
            for image in self._store.missing()
        )


def _references(seen: list[tuple[PendingImage, EmbeddedFace]]) -> NewReferences:
    return NewReferences(
        tuple(image.name for image, _ in seen),
        Embeddings.concatenate(face.embedding for _, face in seen),
        np.array([face.quality for _, face in seen], np.int64),
        tuple(image.source for image, _ in seen),
        tuple(image.source_digest for image, _ in seen),
    )


def _embed(recogniser: Recogniser, faces: list[AlignedFace]) -> list[EmbeddedFace | str]:
    """The faces embedded; in the place of one that the network fails on, why."""
    try:
        return list(recogniser.embed(faces))
    except ModelError:
        return [_embed_one(recogniser, face) for face in faces]


def _embed_one(recogniser: Recogniser, face: AlignedFace) -> EmbeddedFace | str:
    try:
        return recogniser.embed([face])[0]
    except ModelError as error:
        return f"image {face.source}: {error}"


def _find(recogniser: Recogniser, image: PendingImage) -> AlignedFace | str:
    """The face of one image, or why there is none."""
    content = _content(image)
    if isinstance(content, str):
        return content
    try:
        face, *_ = recogniser.find(content, image.source or f"<image {image.reference}>")
    except (ImageError, InvalidValue) as error:
        return str(error)
    return face


def _content(image: PendingImage) -> bytes | str:
    if image.image is not None:
        return image.image
    if not image.source:
        return "no image was kept, and where it came from is not known"
    if not image.source_digest:
        return f"no image was kept, and the SHA-256 of {image.source} is not known"
    try:
        content = read_regular(image.source, image.source)
    except ImageError as error:
        return f"no image was kept, and of its file: {error}"
    except (OSError, ValueError) as error:
        return f"no image was kept, and {image.source} cannot be read ({getattr(error, 'strerror', None) or error})"
    if digest_of(content) != image.source_digest:
        return f"no image was kept, and {image.source} has changed since"
    return content
