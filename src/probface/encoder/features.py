"""The frozen backbone run for training: aligned faces to the fused features that the head reads."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from probface.contract import InputSpec
from probface.encoder.session import DEFAULT_BATCH, Network
from probface.errors import InvalidValue, ModelError
from probface.models.taps import FEATURES, Taps, with_features
from probface.types import FloatArray, Image


class FeatureExtractor:
    """A backbone whose output is the fused vector. Safe to share between threads.

    Args:
        backbone: float32 weights, dynamic batch; see :func:`probface.models.backbone.load_backbone`.
        taps: the points to fuse.
        spec: how a face becomes the backbone's input.
        provider: where it runs; see :class:`probface.encoder.session.Network`.
        threads: on the processor; 0 for all cores.

    Raises:
        InvalidValue: taps that leave the embedding out.
        ModelError: ONNX Runtime cannot load the backbone.
        ProviderUnavailable: the provider is not there.
    """

    def __init__(
        self, backbone: ModelProto, taps: Taps, spec: InputSpec, *, provider: str = "cpu", threads: int = 0
    ) -> None:
        if not taps.reads_embedding:
            raise InvalidValue("taps: the features must end with the embedding; extract with reads_embedding=True")
        self._taps = taps
        tapped = with_features(backbone, taps).SerializeToString()
        self._network = Network(tapped, spec, (FEATURES,), provider=provider, threads=threads)

    @property
    def width(self) -> int:
        """F, the length of the fused vector."""
        return self._taps.width

    @property
    def dim(self) -> int:
        """D: the last D numbers of the fused vector are the raw embedding."""
        return self._taps.dim

    def extract(self, crops: Image, batch_size: int = DEFAULT_BATCH) -> FloatArray:
        """The fused features, (N, F) float32, finite.

        Args:
            crops: aligned faces, RGB uint8 (N, height, width, 3).
            batch_size: how many go through the network at once, 1 or more.

        Raises:
            InvalidValue: crops of another shape or type.
            ModelError: the network fails, or gives a feature that is not finite or an embedding of zeros.
        """
        (features,) = self._network.run(crops, batch_size)
        good = np.isfinite(features).all(axis=1) & features[:, -self.dim :].any(axis=1)
        bad = np.flatnonzero(~good)
        if len(bad):
            raise ModelError(
                f"crop {bad[0]} of {len(crops)}: the backbone gives a zero or non-finite embedding; leave the image "
                "out, or check the input scaling"
            )
        return features
