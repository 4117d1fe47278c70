"""What every torch backbone is: a module that gives its stages and the raw embedding."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class FaceFeatures(NamedTuple):
    """What a backbone gives for a batch of B faces.

    Attributes:
        embedding: (B, D), not of unit length; ``mu`` is its direction.
        stages: the last activation of each resolution, (B, C_i, H_i, W_i), from high to low; the embedding is computed
            from the last.
    """

    embedding: Tensor
    stages: tuple[Tensor, ...]


class FaceNetwork(Protocol):
    """A torch backbone; each one is a file of :mod:`probface.nn.backbones`.

    Attributes:
        dim: D, the length of the embedding.
        channels: C of each stage.
        size: (height, width) of the faces that it takes; the network's input is (B, 3, height, width) float32, RGB.
    """

    @property
    def dim(self) -> int: ...  # noqa: D102

    @property
    def channels(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def size(self) -> tuple[int, int]: ...  # noqa: D102

    def __call__(self, images: Tensor) -> FaceFeatures:
        """(B, 3, height, width) scaled faces to stages and embedding."""
        ...
