"""Multi-layer feature fusion (section 5 of the paper): what the uncertainty head reads.

    fused = concat( flatten(Conv4)?, GAP(Conv1), GAP(Conv2), GAP(Conv3), GAP(Conv4) )

GAP is global average pooling. Without fusion the head reads the flattened last stage alone, as in PFE.
"""

from __future__ import annotations

import torch
from torch import Tensor

from probface.nn.face_network import FaceFeatures


def fuse_layers(features: FaceFeatures, *, fusion: bool = True) -> Tensor:
    """The head's input as the paper has it.

    Args:
        features: from a backbone.
        fusion: False leaves the flattened last stage alone.

    Returns:
        (B, F): ``F = H W C`` of the last stage, plus the channels of all stages with fusion.
    """
    flat = flatten_stage(features.stages[-1])
    if not fusion:
        return flat
    return torch.cat([flat, *(stage.mean(dim=(2, 3)) for stage in features.stages)], dim=1)


def flatten_stage(stage: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H W C), in height, width, channel order as TensorFlow flattens."""
    return stage.permute(0, 2, 3, 1).flatten(start_dim=1)
