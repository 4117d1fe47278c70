"""From an image to a row of an export: its aligned face, degraded if that is asked for, measured and embedded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from probface.contract import InputSpec
from probface.defaults import MAX_PIXELS
from probface.encoder.onnx import Encoder
from probface.errors import InvalidValue, ModelError, NoFace
from probface.eval.face_table import DETECTOR_SCORE
from probface.face.align import align, resize_aligned
from probface.face.degrade import MIXTURES, image_rng
from probface.face.image import ImageSource, read_image
from probface.face.sharpness import sharpness
from probface.pipeline.embedding_file import Column, EmbeddingRows
from probface.pipeline.exported_faces import MIRROR, ExportedFaces
from probface.pipeline.given_faces import GivenFace, GivenLandmarks, around
from probface.pipeline.recogniser import FaceFinder, open_detector
from probface.readers.item import Item
from probface.score.quality import quality
from probface.types import Image

CROP = "crop"
"""Name of the column of aligned faces, which go into files of their own."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What an export holds.

    Attributes:
        aligned: the images are aligned faces already; one of another size, but the same proportions, is resized.
        policy: which face of a photo.
        degrade: a mixture of :data:`probface.face.degrade.MIXTURES` that each aligned face goes through; None: as it
            is. What an image goes through depends on its name and the seed alone.
        seed: of the degradation.
        mirror: embed each face left for right, too.
        crops: keep the aligned faces, as the network saw them.
        max_pixels: limit on an image's size.
    """

    aligned: bool = False
    policy: Literal["largest", "central"] = "central"
    degrade: str | None = None
    seed: int = 0
    mirror: bool = False
    crops: bool = True
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.degrade is not None and self.degrade not in MIXTURES:
            raise InvalidValue(f"degradation {self.degrade!r}: must be one of {', '.join(MIXTURES)}")
        if self.seed < 0:
            raise InvalidValue(f"seed {self.seed}: must be 0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class SeenFace:
    """An aligned face, as the network will see it, and what was measured on it.

    Attributes:
        name: of the image.
        crop: RGB uint8 (height, width, 3).
        sharpness: see :func:`probface.face.sharpness.sharpness`.
        detector_score: of the photo's face; of the face in the crop, 0 where none is seen, if the image came aligned
            or the crop is degraded.
    """

    name: str
    crop: Image
    sharpness: float
    detector_score: float


class FaceSource:
    """From an image to its aligned face, degraded if that is asked for. Safe to share between threads.

    Args:
        spec: size and template of the faces.
        options: of the export.
        shared: faces to take instead of looking for them.
        given: where a protocol's lists have the faces, by the names of the images.
    """

    def __init__(
        self,
        spec: InputSpec,
        options: ExportOptions,
        shared: ExportedFaces | None,
        given: Mapping[str, GivenFace] | None = None,
    ) -> None:
        self._size, self._options, self._shared = (spec.height, spec.width), options, shared
        self._template, self._given = spec.template, given or {}
        self._reasons = {} if shared is None else {one.path: one.error for one in shared.failed}
        self._photos = None
        if shared is None and not options.aligned:
            self._photos = FaceFinder(spec, policy=options.policy, max_pixels=options.max_pixels)
        seen_on_crop = options.degrade is not None or (options.aligned and shared is None)
        self._detector = open_detector() if seen_on_crop else None

    def __call__(self, item: Item) -> tuple[SeenFace]:
        """The face of an image, alone in a tuple.

        Raises:
            NoFace: none was found.
            ImageError: the image cannot be used.
            InvalidValue: an aligned image of other proportions.
        """
        crop, score = self._aligned(item)
        options = self._options
        if options.degrade is not None:
            crop = MIXTURES[options.degrade](crop, image_rng(options.seed, options.degrade, 0, item.name))
        if self._detector is not None:
            score = max((face.detector_score for face in self._detector.detect(crop)), default=0.0)
        return (SeenFace(item.name, crop, sharpness(crop), score),)

    def _aligned(self, item: Item) -> tuple[Image, float]:
        if self._shared is not None:
            crop = self._shared.picture(item.name)
            if crop is None:
                raise NoFace(self._reasons[item.name])
            row = self._shared.table.rows([item.name])[0]
            return crop, float(self._shared.table.measures[DETECTOR_SCORE][row])
        if self._photos is None:
            image = read_image(item.source, max_pixels=self._options.max_pixels, name=item.name)
            return resize_aligned(image, self._size, item.name), 0.0
        source: ImageSource = item.source
        given = self._given.get(item.name)
        if given is not None:
            image = read_image(source, max_pixels=self._options.max_pixels, name=item.name)
            if isinstance(given, GivenLandmarks):
                return align(image, given.points, self._template, self._size), given.detector_score
            source = around(image, given, item.name)
        (found,) = self._photos(source, item.name)
        return found.crop, 0.0 if found.face is None else found.face.detector_score


def check_shared(shared: ExportedFaces, images: str, spec: InputSpec, options: ExportOptions) -> None:
    """Raise InvalidValue unless the faces of one export are what another, of ``images``, would find."""
    if shared.images != images:
        raise InvalidValue(f"shared faces {shared.folder}: of other images; export without them")
    if shared.crops is None or shared.options["degrade"] is not None:
        raise InvalidValue(f"shared faces {shared.folder}: must be kept, and not degraded; export them so")
    found_by = {name: getattr(options, name) for name in ("aligned", "policy", "max_pixels")}
    if {name: shared.options[name] for name in found_by} != found_by:
        raise InvalidValue(f"shared faces {shared.folder}: found otherwise than {found_by}; export without them")
    theirs = shared.contract.input
    if theirs.cut != spec.cut:
        raise InvalidValue(
            f"shared faces {shared.folder}: {theirs.height} x {theirs.width} pixels by template {theirs.template!r}, "
            f"the model takes {spec.height} x {spec.width} by {spec.template!r}; export without them"
        )


def face_columns(encoder: Encoder, options: ExportOptions) -> tuple[Column, ...]:
    """What the file has beside ``mu``, ``sigma_sq`` and quality."""
    contract = encoder.contract
    norm = [Column("norm", "<f4")] if encoder.gives_norm else []
    mirror = [Column("mu", "<f4", (contract.dim,)), Column("sigma_sq", "<f4", (contract.sigma_sq_width,)), *norm]
    mirrored = [Column(MIRROR + each.name, each.dtype, each.each) for each in mirror] if options.mirror else []
    return (Column("sharpness", "<f8"), Column("detector_score", "<f8"), *norm, *mirrored)


def encode_faces(encoder: Encoder, options: ExportOptions, faces: list[SeenFace]) -> EmbeddingRows:
    """The rows of some faces; ModelError where the network gives nothing usable, naming the images."""
    crops = np.stack([face.crop for face in faces])
    try:
        columns = _embedded(encoder, crops)
        if options.mirror:
            mirrored = _embedded(encoder, np.ascontiguousarray(crops[:, :, ::-1]))
            columns |= {MIRROR + name: values for name, values in mirrored.items()}
    except ModelError as error:
        names = ", ".join(face.name for face in faces[:3])
        raise ModelError(f"batch of {len(faces)} faces ({names} ...): {error}") from error
    mu, sigma_sq, scale = columns.pop("mu"), columns.pop("sigma_sq"), encoder.contract.quality
    columns["sharpness"] = np.array([face.sharpness for face in faces])
    columns["detector_score"] = np.array([face.detector_score for face in faces])
    columns[CROP] = crops
    grades = np.full(len(faces), -1, np.int64) if scale is None else quality(sigma_sq, scale)
    return EmbeddingRows(tuple(face.name for face in faces), mu, sigma_sq, grades, columns)


def _embedded(encoder: Encoder, crops: Image) -> dict[str, NDArray[Any]]:
    """What the network gives, by the names of the columns."""
    encoded = encoder.encode_with_norm(crops, batch_size=len(crops))
    norm = {} if encoded.norm is None else {"norm": encoded.norm}
    return {"mu": encoded.embeddings.mu, "sigma_sq": encoded.embeddings.sigma_sq, **norm}
