"""Aligned faces to Gaussians: ``mu`` and ``sigma_sq`` from one ONNX file."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from probface.contract import ModelContract
from probface.encoder.session import DEFAULT_BATCH, Network
from probface.errors import ModelError
from probface.models.graft import MU, SIGMA_SQ
from probface.models.graph import load_graph
from probface.models.norm_output import add_norm_output
from probface.models.registry import ResolvedModel, resolve_model
from probface.types import UNIT_TOLERANCE, Embeddings, FloatArray, Image


@dataclass(frozen=True, slots=True, eq=False)
class EncodedFaces:
    """N faces with the length of their raw embeddings.

    Attributes:
        embeddings: N rows.
        norm: (N,) float32, above 0, the length of the embedding before it was brought to length 1; None where the
            encoder was not asked for it, or the model's graph does not have it.
    """

    embeddings: Embeddings
    norm: FloatArray | None


class Encoder:
    """A model with an uncertainty head, loaded. Safe to share between threads.

    Args:
        model: what :func:`probface.models.registry.resolve_model` gives, or takes.
        provider: where it runs: cpu, cuda, tensorrt, coreml, directml or openvino; an absent one is an error.
        threads: on the processor; 0 for all cores.
        norm: give the lengths of raw embeddings, too, in :meth:`encode_with_norm`.

    Raises:
        ModelNotFound, ModelError: the model is not there, or cannot be used.
        ProviderUnavailable: the provider is not there.
    """

    def __init__(
        self,
        model: ResolvedModel | str | os.PathLike[str],
        *,
        provider: str = "cpu",
        threads: int = 0,
        norm: bool = False,
    ) -> None:
        resolved = model if isinstance(model, ResolvedModel) else resolve_model(model)
        self._contract, self._digest = resolved.contract, resolved.digest
        source, extended = resolved.onnx, add_norm_output(load_graph(resolved.onnx)) if norm else None
        outputs: tuple[str, ...] = (MU, SIGMA_SQ)
        if extended is not None:
            source, outputs = extended.model.SerializeToString(), (*outputs, extended.name)
        self._gives_norm = extended is not None
        self._network = Network(source, resolved.contract.input, outputs, provider=provider, threads=threads)

    @property
    def contract(self) -> ModelContract:
        """The model contract."""
        return self._contract

    @property
    def digest(self) -> str:
        """SHA-256 that tells this model from any other."""
        return self._digest

    @property
    def gives_norm(self) -> bool:
        """Whether :meth:`encode_with_norm` gives lengths."""
        return self._gives_norm

    def encode(self, crops: Image, batch_size: int = DEFAULT_BATCH) -> Embeddings:
        """Embed aligned faces.

        Args:
            crops: RGB uint8 (N, height, width, 3), of the contract's size and template; N may be 0.
            batch_size: how many go through the network at once, 1 or more.

        Returns:
            N rows: ``mu`` (N, D) of unit length, ``sigma_sq`` (N, 1) or (N, D), positive.

        Raises:
            InvalidValue: crops of another shape or type.
            ModelError: the network fails, or gives a zero or non-finite embedding or variance for some row.
        """
        return self.encode_with_norm(crops, batch_size).embeddings

    def encode_with_norm(self, crops: Image, batch_size: int = DEFAULT_BATCH) -> EncodedFaces:
        """As :meth:`encode`, with the lengths of the raw embeddings where the encoder was made with ``norm``."""
        mu, sigma_sq, *norm = self._network.run(crops, batch_size)
        widths = (self._contract.dim, self._contract.sigma_sq_width)
        if (mu.shape[1], sigma_sq.shape[1]) != widths:
            raise ModelError(
                f"model {self._contract.name!r}: gives mu and sigma_sq of widths {mu.shape[1]} and "
                f"{sigma_sq.shape[1]}, its contract says {widths[0]} and {widths[1]}; export it again"
            )
        self._refuse_bad_rows(mu, sigma_sq)
        return EncodedFaces(Embeddings(mu, sigma_sq), norm[0][:, 0] if norm else None)

    def _refuse_bad_rows(self, mu: FloatArray, sigma_sq: FloatArray) -> None:
        unit = np.abs(np.linalg.norm(mu, axis=1) - 1) <= UNIT_TOLERANCE
        bad = np.flatnonzero(~(unit & (np.isfinite(sigma_sq) & (sigma_sq > 0)).all(axis=1)))
        if len(bad):
            what = "variance that is not positive and finite" if unit[bad[0]] else "zero or non-finite embedding"
            raise ModelError(
                f"crop {bad[0]} of {len(mu)}: model {self._contract.name!r} gives a {what}; leave the image out, or "
                "get the model file again if many images fail"
            )
