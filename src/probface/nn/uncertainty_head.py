"""The uncertainty head: fused features to ``log sigma^2`` (Fig. 2 of the paper and the reference code).

    FC 256 - BatchNorm - ReLU - FC to 1 or D - BatchNorm without scale and shift - one learnt scale and shift
    log sigma^2 = log(1e-6 + exp(scale * x + shift))

The linear layers have no bias: BatchNorm follows them. Features of different layers differ in size by orders of
magnitude, so each is standardised first with its mean and spread over the training set; at export all of this folds
into two matrix products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probface.contract import BATCH_NORM_EPSILON, SIGMA_SQ_FLOOR
from probface.errors import InvalidValue

BATCH_NORM_MOMENTUM = 0.005
"""The reference's decay of 0.995, in torch's convention."""
INITIAL_SCALE = 0.1
INITIAL_SHIFT = {"scalar": -1.0, "diagonal": -7.0}


class UncertaintyHead(nn.Module):
    """One head for ProbFace (``outputs=1``) and for PFE (``outputs=D``).

    Args:
        features: F, the length of the fused vector.
        outputs: 1, the variance of the whole vector, or D, one for each dimension.
        hidden: width of the first layer.
        feature_mean: (F,) subtracted from the features; zeros if not given.
        feature_scale: (F,) they are then divided by; ones if not given.
        initial_scale: of the learnt scalar; 0.1 in the authors' code, 1e-4 in PFE's.
    """

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(
        self,
        features: int,
        outputs: int = 1,
        *,
        hidden: int = 256,
        feature_mean: Tensor | None = None,
        feature_scale: Tensor | None = None,
        initial_scale: float = INITIAL_SCALE,
    ) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(features) if feature_mean is None else feature_mean.float())
        self.register_buffer("feature_scale", torch.ones(features) if feature_scale is None else feature_scale.float())
        if self.feature_mean.shape != (features,) or self.feature_scale.shape != (features,):
            raise InvalidValue(f"feature mean and scale must be of shape ({features},), one number for each feature")
        if not bool((self.feature_scale > 0).all()):
            raise InvalidValue("feature scale: must be positive everywhere; use 1 for a feature that never varies")
        self.fc1 = nn.Linear(features, hidden, bias=False)
        self.bn1 = nn.BatchNorm1d(hidden, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)
        self.fc2 = nn.Linear(hidden, outputs, bias=False)
        self.bn2 = nn.BatchNorm1d(outputs, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, affine=False)
        self.scale = nn.Parameter(torch.tensor(initial_scale))
        self.shift = nn.Parameter(torch.tensor(INITIAL_SHIFT["scalar" if outputs == 1 else "diagonal"]))
        nn.init.xavier_uniform_(self.fc1.weight)
        nn.init.xavier_uniform_(self.fc2.weight)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) fused features to (B, outputs) ``log sigma^2``."""
        hidden = self.fc1((features - self.feature_mean).div_(self.feature_scale))
        out = self.scale * self.bn2(self.fc2(torch.relu(self.bn1(hidden)))) + self.shift
        return torch.log(SIGMA_SQ_FLOOR + torch.exp(out))
