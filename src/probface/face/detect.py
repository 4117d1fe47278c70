"""Faces and their five landmarks, by YuNet through OpenCV.

YuNet sees faces from about 10 pixels up to a few hundred. A photo of up to 640 pixels is looked at once, as it is. A
larger one is looked at shrunk to 640 pixels, where large faces have a size that the network knows, and again at full
size (at most 2000 pixels), where small ones have. What both find is merged by non-maximum suppression. An image below
64 pixels, a thumbnail or a tight crop, is first enlarged to 64 (at most fourfold).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from probface.errors import InvalidValue, ModelError
from probface.face.image import check_image
from probface.types import Face, Image

FacePolicy: TypeAlias = Literal["largest", "central", "all"]
"""Which faces of an image count."""

MIN_FACE_PIXELS = 20
"""Below this a face is found at times, and never told apart reliably."""

COARSE_EDGE = 640
FINE_EDGE = 2000
SMALLEST_EDGE = 64
"""What is enlarged to it by its longer edge; an edge still shorter is filled with black: the strides need some room."""

LARGEST_ENLARGEMENT = 4.0
"""Beyond it, YuNet finds faces in a few blurred blocks of nothing."""

LOG_FATAL_ONLY = 1
"""OpenCV's LOG_LEVEL_FATAL, the same number in versions 4 and 5."""


class Detector:
    """A face detector that threads may share.

    Args:
        weights: YuNet's ONNX file.
        score_threshold: keep faces with at least this detector score, in [0, 1].
        nms_threshold: of two boxes that overlap by more (intersection over union), the surer one stays.

    Raises:
        ModelError: a file that OpenCV cannot load as YuNet.
        InvalidValue: a threshold outside [0, 1].
    """

    def __init__(self, weights: Path, *, score_threshold: float = 0.6, nms_threshold: float = 0.3) -> None:
        for name, value in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
            if not 0 <= value <= 1:
                raise InvalidValue(f"{name} {value}: must be in [0, 1]")
        self._weights, self._score, self._nms = weights, score_threshold, nms_threshold
        self._local = threading.local()
        self._net()

    def detect(self, image: Image, *, every: bool = True) -> tuple[Face, ...]:
        """Find faces.

        Args:
            image: RGB uint8, (height, width, 3).
            every: find the small faces of a large photo, too. Otherwise a photo that shows a face when it is shrunk
                is not looked at again: its largest face is known then, at a tenth of the cost.

        Returns:
            The faces, largest first, in pixels of ``image``.

        Raises:
            InvalidValue: not RGB uint8, or empty.
        """
        image = check_image(image)
        rows = np.empty((0, 15), np.float32)
        for ratio in _ratios(max(image.shape[:2])):
            if every or len(rows) == 0:
                rows = np.concatenate([rows, self._look(image, ratio)])
        if len(rows) == 0:
            return ()
        boxes, scores = rows[:, :4].astype(np.float64), rows[:, 14].astype(np.float64)
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), self._score, self._nms)
        faces = [_face(rows[int(index)]) for index in np.asarray(kept).ravel()]
        alone = [face for face in faces if not any(_within(face, other) for other in faces)]
        return tuple(sorted(alone, key=lambda face: -face.box[2] * face.box[3]))

    def _look(self, image: Image, ratio: float) -> NDArray[np.float32]:
        """One pass at ``ratio`` of the size: (N, 15) rows of box, landmarks and score, in pixels of ``image``."""
        seen = image
        if ratio != 1:
            size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
            kind = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
            seen = np.asarray(cv2.resize(image, size, interpolation=kind), np.uint8)
        stretch = np.array([image.shape[1] / seen.shape[1], image.shape[0] / seen.shape[0]])
        below, right = (max(0, SMALLEST_EDGE - edge) for edge in seen.shape[:2])
        if below or right:
            seen = np.asarray(cv2.copyMakeBorder(seen, 0, below, 0, right, cv2.BORDER_CONSTANT), np.uint8)
        net = self._net()
        net.setInputSize((seen.shape[1], seen.shape[0]))
        _, found = net.detect(np.ascontiguousarray(seen[..., ::-1]))
        if found is None:
            return np.empty((0, 15), np.float32)
        rows = np.asarray(found, np.float32)
        rows[:, :14] *= np.tile(stretch, 7).astype(np.float32)
        sound = np.isfinite(rows).all(axis=1) & (rows[:, 2] > 0) & (rows[:, 3] > 0)
        return rows[sound]

    def _net(self) -> Any:
        """This thread's own network: OpenCV's keeps the input size as state."""
        if not hasattr(self._local, "net"):
            try:
                self._local.net = _quietly_created(str(self._weights), self._score, self._nms)
            except cv2.error as error:
                reason = " ".join(error.err.split())  # some of OpenCV's are of several lines
                raise ModelError(
                    f"detector {self._weights}: OpenCV {cv2.__version__} cannot load it as YuNet ({reason}); "
                    "give YuNet's ONNX file (a block-quantised one needs OpenCV 4.11 or later)"
                ) from error
        return self._local.net


def choose_faces(faces: tuple[Face, ...], policy: FacePolicy, size: tuple[int, int]) -> tuple[Face, ...]:
    """The faces that count.

    Args:
        faces: all that were found.
        policy: the ``largest`` box, the one whose centre is nearest to the image's (``central``), or ``all``.
        size: (height, width) of the image.

    Raises:
        InvalidValue: unknown policy.
    """
    if policy not in get_args(FacePolicy):
        raise InvalidValue(f"face policy {policy!r}: must be one of {', '.join(get_args(FacePolicy))}")
    if policy == "all" or not faces:
        return faces
    if policy == "largest":
        return (max(faces, key=lambda face: face.box[2] * face.box[3]),)
    height, width = size

    def from_centre(face: Face) -> float:
        x, y, w, h = face.box
        return (x + w / 2 - width / 2) ** 2 + (y + h / 2 - height / 2) ** 2

    return (min(faces, key=from_centre),)


_creation = threading.Lock()


def _quietly_created(weights: str, score: float, nms: float) -> Any:
    """Make the network without OpenCV's remarks: errors come as exceptions anyhow. Its log level is put back."""
    # OpenCV 5 keeps in cv2.utils.logging what OpenCV 4 has in cv2 itself.
    logging: Any = getattr(cv2.utils, "logging", cv2)
    with _creation:
        level = logging.getLogLevel()
        logging.setLogLevel(min(level, LOG_FATAL_ONLY))
        try:
            return cv2.FaceDetectorYN.create(weights, "", (320, 320), score, nms, 5000)
        finally:
            logging.setLogLevel(level)


def _ratios(edge: int) -> tuple[float, ...]:
    """The scales at which an image with this longer edge is looked at."""
    if edge < SMALLEST_EDGE:
        return (min(SMALLEST_EDGE / edge, LARGEST_ENLARGEMENT),)
    if edge <= COARSE_EDGE:
        return (1.0,)
    return (COARSE_EDGE / edge, min(1.0, FINE_EDGE / edge))


def _within(face: Face, other: Face) -> bool:
    """Whether a face is but a part of a larger, surer one: at full size YuNet takes a large mouth or eye for a face."""
    if not (other.box[2] * other.box[3] > face.box[2] * face.box[3] and other.detector_score > face.detector_score):
        return False
    (x, y, width, height), (ox, oy, ow, oh) = face.box, other.box
    inside = max(0.0, min(x + width, ox + ow) - max(x, ox)) * max(0.0, min(y + height, oy + oh) - max(y, oy))
    return inside > 0.8 * width * height


def _face(row: NDArray[np.float32]) -> Face:
    x, y, width, height = (float(value) for value in row[:4])
    points = tuple((float(px), float(py)) for px, py in row[4:14].reshape(5, 2))
    return Face((x, y, width, height), points, float(np.clip(row[14], 0, 1)))
