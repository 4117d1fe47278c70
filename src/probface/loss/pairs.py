"""The genuine pairs of a labelled batch, found once and shared by the losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Genuine pairs of a batch of B faces.

    Attributes:
        same: (B, B) bool, whether two faces are of one person; True on the diagonal.
        anchor, positive: (P,) indices of every ordered genuine pair, anchor != positive.
    """

    same: Tensor
    anchor: Tensor
    positive: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> Pairs:
        """Find the pairs of (B,) integer labels."""
        same = labels[:, None] == labels[None, :]
        genuine = same.clone().fill_diagonal_(False)
        anchor, positive = torch.nonzero(genuine, as_tuple=True)
        return cls(same, anchor, positive)

    def to(self, device: torch.device) -> Pairs:
        """The same pairs on another device."""
        return Pairs(self.same.to(device), self.anchor.to(device), self.positive.to(device))

    @property
    def upper(self) -> tuple[Tensor, Tensor]:
        """The unordered pairs, each once, with i < j."""
        keep = self.anchor < self.positive
        return self.anchor[keep], self.positive[keep]
