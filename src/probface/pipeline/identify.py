"""Who is this, if anybody in the gallery?"""

from __future__ import annotations

from dataclasses import dataclass

from probface.defaults import MAX_PIXELS
from probface.face.image import ImageSource, source_name
from probface.gallery.records import Identification
from probface.pipeline.gallery_model import (
    GalleryPlace,
    ModelChoice,
    model_binding,
    opened_to_search,
    recogniser_for,
)
from probface.pipeline.image_bytes import checked_source
from probface.types import EmbeddedFace, Metric


@dataclass(frozen=True, slots=True, eq=False)
class IdentifyResult:
    """What :func:`identify` found.

    Attributes:
        answer: who it is, why, and who else it might have been.
        face: the face that was looked up.
    """

    answer: Identification
    face: EmbeddedFace


def identify(
    image: ImageSource,
    gallery: GalleryPlace,
    *,
    top: int = 5,
    fpir: float = 0.01,
    metric: Metric = "fastmls",
    model: ModelChoice = None,
    aligned: bool = False,
    provider: str = "cpu",
    threads: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> IdentifyResult:
    """Look up the largest face of an image, at a stated false-positive identification rate.

    Args:
        image: a path, bytes, a binary file, or an RGB uint8 array (height, width, 3).
        gallery: a path, ``postgresql://...``, or an open gallery. Keep one open for many questions.
        top: how many candidates to name.
        fpir: share of people who are not enrolled that may be taken for somebody who is; in (0, 1).
        metric: ``fastmls``, ``mls`` or ``cosine``.
        model: as :func:`probface.enroll`; None for the gallery's own.
        aligned: the image is an aligned face already.
        provider: where the network runs.
        threads: of network and search; 0 for all cores.
        max_pixels: limit on the image's size.

    Raises:
        NoFace, ImageError: the image cannot be used.
        InsufficientData: no threshold for that rate can be had.
        InvalidValue: another model than the gallery's, or a wrong argument.
        ModelError, StorageError: the model or the gallery cannot be used.
    """
    with opened_to_search(gallery) as place:
        recogniser = recogniser_for(
            place, model, aligned=aligned, provider=provider, threads=threads, max_pixels=max_pixels
        )
        (face, *_) = recogniser(checked_source(image), source_name(image))
        answer = place.identify(
            face.embedding, model=model_binding(recogniser), top=top, fpir=fpir, metric=metric, threads=threads
        )
        return IdentifyResult(answer, face)
