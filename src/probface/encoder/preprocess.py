"""Aligned faces into the network's input tensor: the only place where that is done."""

from __future__ import annotations

import numpy as np

from probface.contract import InputSpec
from probface.errors import InvalidValue
from probface.types import FloatArray, Image


def to_input(crops: Image, spec: InputSpec) -> FloatArray:
    """``(pixel - mean) / scale``, channels first.

    Args:
        crops: aligned faces, RGB uint8 (N, height, width, 3).
        spec: size, channel order and scaling that the network wants.

    Returns:
        (N, 3, height, width) float32, contiguous, channels in the network's order.

    Raises:
        InvalidValue: another shape or type.
    """
    check_crops(crops, spec)
    ordered = crops if spec.channels == "rgb" else crops[..., ::-1]
    tensor = np.ascontiguousarray(ordered.transpose(0, 3, 1, 2), np.float32)
    if spec.mean != 0:
        tensor -= np.float32(spec.mean)
    if spec.scale != 1:
        tensor /= np.float32(spec.scale)
    return tensor


def check_crops(crops: Image, spec: InputSpec) -> None:
    """Raise InvalidValue unless ``crops`` is RGB uint8 of shape (N, height, width, 3)."""
    size = (spec.height, spec.width, 3)
    if not isinstance(crops, np.ndarray) or crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != size:
        found = f"{crops.dtype} {crops.shape}" if isinstance(crops, np.ndarray) else type(crops).__name__
        raise InvalidValue(f"crops {found}: must be RGB uint8 of shape (N, {spec.height}, {spec.width}, 3)")
