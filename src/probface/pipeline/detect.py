"""Where are the faces?"""

from __future__ import annotations

from probface.defaults import MAX_PIXELS
from probface.face.detect import FacePolicy, choose_faces
from probface.face.image import ImageSource, read_image
from probface.pipeline.recogniser import open_detector
from probface.types import Face


def detect(image: ImageSource, *, policy: FacePolicy = "all", max_pixels: int = MAX_PIXELS) -> tuple[Face, ...]:
    """Find faces in one image, the largest first; an empty tuple where there is none.

    Args:
        image: a path, bytes, a file object, or an RGB uint8 array (height, width, 3).
        policy: ``all``, the ``largest`` or the most ``central``.
        max_pixels: limit on the image's size.

    Raises:
        ImageError: the image cannot be used.
    """
    pixels = read_image(image, max_pixels=max_pixels)
    return choose_faces(open_detector().detect(pixels), policy, (pixels.shape[0], pixels.shape[1]))
