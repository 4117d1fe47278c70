"""Put a person into a gallery."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np

from probface.defaults import MAX_PIXELS
from probface.errors import InvalidValue
from probface.face.image import ImageSource
from probface.gallery.records import Estimator, NewReferences, Templates, check_name
from probface.pipeline.gallery_model import (
    GalleryPlace,
    ModelChoice,
    created_if_new,
    model_binding,
    opened_if_there,
    recogniser_for,
    require_enrollable,
    settings_for,
)
from probface.pipeline.image_bytes import SeenImage, see
from probface.types import EmbeddedFace, Embeddings


@dataclass(frozen=True, slots=True, eq=False)
class EnrollResult:
    """What :func:`enroll` did.

    Attributes:
        name: of the identity.
        gallery: where it is.
        created: whether the gallery was made.
        references: how many the identity has now.
        faces: those that were enrolled, in the order of the images.
    """

    name: str
    gallery: str
    created: bool
    references: int
    faces: tuple[EmbeddedFace, ...]


def enroll(
    name: str,
    images: ImageSource | Sequence[ImageSource],
    gallery: GalleryPlace,
    *,
    model: ModelChoice = None,
    templates: Templates | None = None,
    estimator: Estimator | None = None,
    keep_images: bool | None = None,
    aligned: bool = False,
    provider: str = "cpu",
    threads: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> EnrollResult:
    """Enrol the largest face of each of some images of one person: all of them, durably, or none.

    Args:
        name: of the person; one who is there already gets further references.
        images: paths, bytes, binary files or RGB uint8 arrays (height, width, 3); one or several.
        gallery: a path or ``postgresql://...``, made if there is none yet; or an open gallery.
        model: a name, an .onnx file, a training output folder or a :class:`Recogniser`; None for the gallery's own,
            which is ``sface`` for a new one.
        templates: of a new gallery: ``fused`` (the default) searches one Gaussian a person, ``all`` every reference.
        estimator: of a new gallery: the variance of a fused template, ``weighted_mean`` by default.
        keep_images: of a new gallery: keep the images' bytes, so that a migration to another model needs no files.
        aligned: the images are aligned faces already.
        provider: where the network runs.
        threads: of the network; 0 for all cores.
        max_pixels: limit on an image's size.

    Raises:
        NoFace, ImageError: of the first image that cannot be used; nobody is enrolled then.
        InvalidValue: a bad name, no image, another model or other settings than the gallery's.
        ModelError, StorageError: the model or the gallery cannot be used.
    """
    check_name(name)
    sources = _sources(images)
    if not sources:
        raise InvalidValue(f"0 images of {name!r}: give one or more")
    with opened_if_there(gallery) as there:
        recogniser = recogniser_for(
            there, model, aligned=aligned, provider=provider, threads=threads, max_pixels=max_pixels
        )
        binding = model_binding(recogniser)
        settings = partial(
            settings_for, model=binding, templates=templates, estimator=estimator, keep_images=keep_images
        )
        planned = settings(there)
        seen = [see(recogniser.find, source) for source in sources]
        faces = recogniser.embed([image.face for image in seen])
        references = _references(name, seen, faces)
        require_enrollable(references, planned)
        with created_if_new(gallery, there, settings) as (place, new):
            if not place.settings.keep_images:
                references = replace(references, images=())
            place.enroll(references, model=binding)
            total = len(place.store.references(name))
            return EnrollResult(name, place.store.location, new, total, faces)


def _sources(images: ImageSource | Sequence[ImageSource]) -> list[ImageSource]:
    if isinstance(images, str | bytes | os.PathLike | np.ndarray) or hasattr(images, "read"):
        return [cast("ImageSource", images)]
    return list(images)


def _references(name: str, seen: list[SeenImage], faces: tuple[EmbeddedFace, ...]) -> NewReferences:
    return NewReferences(
        (name,) * len(seen),
        Embeddings.concatenate(face.embedding for face in faces),
        np.array([face.quality for face in faces], np.int64),
        tuple(image.source for image in seen),
        tuple(image.digest for image in seen),
        tuple(image.content for image in seen),
    )
