"""Faces into a torch network's input, on the device where the network is: bytes travel there, not floats."""

from __future__ import annotations

import torch
from torch import Tensor

from probface.contract import InputSpec


def scaled(crops: Tensor, spec: InputSpec) -> Tensor:
    """As :func:`probface.encoder.preprocess.to_input`, in torch.

    Args:
        crops: (N, height, width, 3) uint8, RGB.
        spec: channel order and scaling that the network wants.

    Returns:
        (N, 3, height, width) float32; in memory the channels stay last, as convolutions like them.
    """
    ordered = crops if spec.channels == "rgb" else crops.flip(-1)
    return (ordered.permute(0, 3, 1, 2).float() - spec.mean) / spec.scale


def mirrored_where(images: Tensor, which: Tensor) -> Tensor:
    """(N, C, H, W) images, left for right where the (N,) bool ``which`` says so."""
    return torch.where(which[:, None, None, None], images.flip(3), images)
