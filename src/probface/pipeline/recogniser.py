"""A detector and an encoder that belong together: from an image to faces with their Gaussians."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from probface.contract import InputSpec, ModelContract
from probface.defaults import DEFAULT_MODEL, MAX_PIXELS
from probface.encoder.onnx import Encoder
from probface.errors import InvalidValue, NoFace
from probface.face.align import align
from probface.face.detect import MIN_FACE_PIXELS, Detector, FacePolicy, choose_faces
from probface.face.image import ImageSource, read_image, source_name
from probface.models.registry import list_models, resolve_model
from probface.models.weights import find_weights
from probface.score.quality import quality
from probface.types import EmbeddedFace, Embeddings, Face, Image


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFace:
    """One face cut out as the network wants it.

    Attributes:
        source: what the caller named as the image.
        face: where it was found; None when the input was an aligned crop.
        crop: RGB uint8, (height, width, 3).
        warnings: one sentence each.
    """

    source: str
    face: Face | None
    crop: Image
    warnings: tuple[str, ...] = ()


def open_detector() -> Detector:
    """The default face detector (YuNet), its weights found offline."""
    return Detector(find_weights(next(record for record in list_models() if record.kind == "detector")))


class FaceFinder:
    """Reads images and cuts out their faces. Safe to share between threads.

    Args:
        spec: the size and template of the model that will see the faces.
        aligned: the images are aligned faces already: no detection, resized by nothing, and of the right size.
        policy: which faces of an image: the ``largest``, the most ``central``, or ``all``.
        max_pixels: limit on an image's size.
        detector: a detector to use instead of the default.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        aligned: bool = False,
        policy: FacePolicy = "largest",
        max_pixels: int = MAX_PIXELS,
        detector: Detector | None = None,
    ) -> None:
        self._spec, self._aligned, self._policy, self._max_pixels = spec, aligned, policy, max_pixels
        self._detector = None if aligned else (detector or open_detector())

    def __call__(self, source: ImageSource, name: str | None = None) -> tuple[AlignedFace, ...]:
        """The chosen faces of one image, cut out, the largest first.

        Args:
            source: the image.
            name: what to call it; its path, or a label such as ``<bytes>``, if not given.

        Raises:
            NoFace: none was found.
            ImageError: the image cannot be used.
            InvalidValue: an "aligned" image of the wrong size.
        """
        label = source_name(source) if name is None else name
        image = read_image(source, max_pixels=self._max_pixels, name=label)
        size = (self._spec.height, self._spec.width)
        if self._detector is None:
            if image.shape[:2] != size:
                raise InvalidValue(
                    f"aligned image {label}: {image.shape[0]} x {image.shape[1]} pixels (height x width), the model "
                    f"takes {size[0]} x {size[1]}; cut it to that size, or let the face be detected"
                )
            return (AlignedFace(label, None, image),)
        found = self._detector.detect(image, every=self._policy != "largest")
        faces = choose_faces(found, self._policy, (image.shape[0], image.shape[1]))
        if not faces:
            raise NoFace(f"image {label}: no face found; give a photo in which a face is to be seen")
        return tuple(
            AlignedFace(label, face, align(image, face.landmarks, self._spec.template, size), _warnings(face))
            for face in faces
        )


class Recogniser:
    """The whole road from an image to ``(mu, sigma_sq)``; make one and keep it.

    Args:
        model: a name from ``probface models list``, an .onnx file with a model contract, or a training output folder.
        provider: where the network runs, ``cpu`` by default; a provider that is absent is an error.
        threads: of the network; 0 for all cores.
        aligned, policy, max_pixels: as :class:`FaceFinder`.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        provider: str = "cpu",
        threads: int = 0,
        aligned: bool = False,
        policy: FacePolicy = "largest",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.encoder = Encoder(resolve_model(model), provider=provider, threads=threads)
        self.find = FaceFinder(self.contract.input, aligned=aligned, policy=policy, max_pixels=max_pixels)

    @property
    def contract(self) -> ModelContract:
        """The model contract."""
        return self.encoder.contract

    def __call__(self, source: ImageSource, name: str | None = None) -> tuple[EmbeddedFace, ...]:
        """Read, find, align and embed the chosen faces of one image; raises as :class:`FaceFinder`."""
        return self.embed(self.find(source, name))

    def embed(self, faces: tuple[AlignedFace, ...] | list[AlignedFace]) -> tuple[EmbeddedFace, ...]:
        """Embed faces that are cut out already, in one batch."""
        if not faces:
            return ()
        embeddings = self.encoder.encode(np.stack([face.crop for face in faces]))
        grades = self.grade(embeddings)
        return tuple(
            EmbeddedFace(face.source, face.face, face.crop, embeddings[i : i + 1], int(grades[i]), face.warnings)
            for i, face in enumerate(faces)
        )

    def grade(self, embeddings: Embeddings) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """(N,) quality 0..100 as the contract says; refused where the contract has no quality scale."""
        if self.contract.quality is None:
            raise InvalidValue(
                f"model {self.contract.name!r} has no quality scale in its contract; train or calibrate it on held-out "
                "people so that it gets one"
            )
        return quality(embeddings.sigma_sq, self.contract.quality)


def _warnings(face: Face) -> tuple[str, ...]:
    if face.size >= MIN_FACE_PIXELS:
        return ()
    return (
        f"face of {face.size:.0f} pixels, below {MIN_FACE_PIXELS}: too small to be told apart reliably; "
        "use a larger photo",
    )
