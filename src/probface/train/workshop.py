"""A frozen backbone set up to train a head on: its fused tensors, its cache, and the calibration afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from probface.contract import InputSpec, ModelContract, person_digests
from probface.encoder.features import FeatureExtractor
from probface.errors import InvalidValue
from probface.eval.calibrate import calibrate
from probface.face.degrade import MIXTURES
from probface.models.backbone import Backbone
from probface.models.head_weights import HeadWeights
from probface.models.taps import Taps, find_taps
from probface.readers.item import Item
from probface.train.config import HeadConfig, HeadRecipe, Variant
from probface.train.data import Split, crops_of
from probface.train.feature_source import FeatureSource, TrainingFeatures
from probface.train.features import Faces, Progress, cache_faces, cache_features
from probface.train.live import LiveFeatures
from probface.train.log import told
from probface.train.processes import threads_here
from probface.types import Embeddings, FloatArray

DEVICE_THREADS = 2
"""That keep a GPU busy: one embeds while the other reads."""
CALIBRATION_SEED = 8
"""Apart from training's seed, so that held-out images are degraded by draws of their own."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """The backbone with its fused tensors, and the cache of what it gave.

    The cache always holds the whole fused vector, which ends with the embedding: recipes that read less share it.
    """

    backbone: Backbone
    recipe: HeadRecipe
    spec: InputSpec
    taps: Taps
    extractor: FeatureExtractor
    cache: Path
    provider: str

    @property
    def dim(self) -> int:
        """D."""
        return self.taps.dim

    @classmethod
    def open(
        cls, backbone: Backbone, recipe: HeadRecipe, cache: Path, spec: InputSpec | None, provider: str
    ) -> Workshop:
        """Find the tensors to fuse, and load the backbone.

        Raises:
            NotAFaceModel: there are none.
            ModelError, ProviderUnavailable: ONNX Runtime cannot load it.
        """
        taps = find_taps(backbone.model, backbone.face, flatten_last=recipe.head.flatten_last, names=recipe.head.taps)
        if recipe.features == "live":  # nothing is kept for other recipes
            taps = _less(taps, recipe.head)
        chosen = spec or backbone.input
        extractor = FeatureExtractor(backbone.model, taps, chosen, provider=provider, threads=1)
        return cls(backbone, recipe, chosen, taps, extractor, cache, provider)

    def faces(self, items: Sequence[Item], progress: Progress | None) -> Faces:
        """Aligned faces, from the cache or into it."""
        return cache_faces(items, self.spec, self.cache, aligned=self.recipe.data.aligned, progress=progress)

    def features(self, faces: Faces, variant: Variant, seed: int, progress: Progress | None) -> list[FloatArray]:
        """(N, F) fused features of all copies of a variant, from the cache or into it."""
        key: dict[str, object] = {"backbone": self.backbone.digest, "features": self.taps.spelling}
        copies = cache_features(faces, self.extractor, variant, self.cache, model_key=key, seed=seed, progress=progress)
        return copies if self.recipe.head.fusion else [self._unpooled(copy) for copy in copies]

    def _unpooled(self, fused: FloatArray) -> FloatArray:
        """The fused vector without the pooled layers."""
        flat = self.taps.flatten_width
        if flat == 0:
            return np.ascontiguousarray(fused[:, -self.dim :])
        return np.concatenate([fused[:, :flat], fused[:, -self.dim :]], axis=1)

    @property
    def read(self) -> Taps:
        """The taps that the head reads, of all those extracted."""
        return replace(_less(self.taps, self.recipe.head), reads_embedding=self.recipe.head.embedding)

    @property
    def digest(self) -> str:
        """Of the backbone, its input and what is read of it."""
        return f"{self.backbone.digest} {self.spec} {' '.join(self.read.spelling)}"

    def source(self, people: Split, fabric: Any, progress: Progress | None) -> tuple[FeatureSource, tuple[str, ...]]:
        """The features of the training people, and why images were left out."""
        recipe = self.recipe
        if recipe.features == "live":
            with fabric.rank_zero_first():
                crops, missing = crops_of(people.training, recipe.data, self.spec, self.cache, progress)
            threads = threads_here() if self.provider == "cpu" else DEVICE_THREADS
            live = LiveFeatures(crops, self.extractor, fabric.global_rank, fabric.world_size, threads, self.digest)
            return live, told(missing)
        if fabric.world_size > 1:
            raise InvalidValue(
                f"recipe {recipe.name!r}: cached features train in one process, not {fabric.world_size}; set "
                'features = "live", or start one process'
            )
        faces = self.faces(people.training, progress)
        copies = [c for variant in recipe.variants for c in self.features(faces, variant, recipe.seed, progress)]
        shares = [variant.share / variant.copies for variant in recipe.variants for _ in range(variant.copies)]
        features = TrainingFeatures(copies, shares, faces.people, self.dim, f"{faces.digest} {self.digest}")
        return features, told(people.training.left_out + faces.failed)

    def contract(self, people: Split, licence: str) -> ModelContract:
        """What the model will say of itself, before calibration."""
        return ModelContract(
            name=self.recipe.name,
            dim=self.dim,
            sigma_sq_width=1 if self.recipe.head.outputs == "scalar" else self.dim,
            input=self.spec,
            backbone_digest=self.backbone.digest,
            backbone_licence=self.backbone.licence if licence == "unknown" else licence,
            head_licence="MIT",
            trained_on=people.trained_on,
            training_people=person_digests(people.training.identities),
            features=self.read.spelling,
            rescaling=self.recipe.rescaling,
        )

    def calibrated(self, weights: HeadWeights, people: Split, progress: Progress | None) -> HeadWeights:
        """Measure thresholds, quality and histograms on people who did not train."""
        faces = self.faces(people.calibration, progress)
        clean, moderate, extreme = (
            self._embed(weights, self.features(faces, Variant(state), CALIBRATION_SEED, progress)[0])
            for state in ("clean", "moderate", "extreme")
        )
        images = np.arange(len(faces.names))
        contract = calibrate(
            weights.contract,
            Embeddings.concatenate([clean, moderate]),
            np.tile(faces.people, 2),
            np.tile(images, 2),
            clean_sigma_sq=clean.sigma_sq,
            extreme_sigma_sq=extreme.sigma_sq,
            data="held-out people, clean and degraded",
            description=f"all cross-identity pairs of {people.calibrated_on}, each image clean and once "
            f"degraded ({', '.join(step.kind for step in MIXTURES['moderate'].steps)}), never against its own copy",
        )
        return replace(weights, contract=contract)

    def _embed(self, weights: HeadWeights, features: FloatArray) -> Embeddings:
        raw = np.asarray(features[:, -self.dim :], np.float64)
        mu = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
        reads = features[:, : weights.fc1_weight.shape[1]]
        return Embeddings(mu, np.exp(weights.log_sigma_sq(reads)).astype(np.float32))


def _less(taps: Taps, head: HeadConfig) -> Taps:
    """The taps without the pooled layers where the head does not fuse; with the embedding, for ``mu``."""
    return taps if head.fusion else replace(taps, names=(), channels=())
