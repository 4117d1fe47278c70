"""From a frozen face network and a folder of faces to one ONNX file with ``mu`` and ``sigma_sq``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from probface.contract import InputSpec, ModelContract
from probface.encoder.features import FeatureExtractor
from probface.eval.calibrate import calibrate
from probface.face.degrade import MIXTURES
from probface.models.backbone import Backbone
from probface.models.graft import graft
from probface.models.head_weights import HeadWeights, save_head
from probface.models.registry import resolve_backbone
from probface.models.taps import Taps, find_taps
from probface.models.weights import writable_cache_folder
from probface.nn.uncertainty_head import UncertaintyHead
from probface.readers.item import Item
from probface.storage import replacing, storage_errors, write_bytes
from probface.train.config import HeadRecipe, Variant, read_recipe
from probface.train.data import Split, split
from probface.train.features import Faces, Progress, cache_faces, cache_features
from probface.train.fit import StepLog, TrainingFeatures, fit_head
from probface.types import Embeddings, FloatArray

CALIBRATION_SEED = 8
"""Apart from training's seed, so that held-out images are degraded by draws of their own."""


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """What :func:`train_head` made.

    Attributes:
        model: the grafted ONNX file.
        weights: the head alone, safetensors.
        contract: what the model says of itself.
        images: how many images trained.
        failed: how many images had no usable face.
    """

    model: Path
    weights: Path
    contract: ModelContract
    images: int
    failed: int


def train_head(
    backbone: str | os.PathLike[str],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] | HeadRecipe | None = None,
    resume: bool = False,
    cache: str | os.PathLike[str] | None = None,
    input_spec: InputSpec | None = None,
    embedding: str | None = None,
    licence: str = "unknown",
    provider: str = "cpu",
    progress: Progress | None = None,
    on_log: Callable[[StepLog], None] | None = None,
) -> TrainedHead:
    """Train an uncertainty head for any ONNX face model, and graft it on.

    Args:
        backbone: a name from ``probface models list`` or an .onnx file; its weights stay as they are.
        data: the folder of images, laid out as the recipe says (one folder a person, by default).
        out: folder for ``model.onnx``, ``head.safetensors``, ``recipe.json``, ``log.jsonl`` and checkpoints.
        recipe: a TOML file or a recipe; the default recipe if not given.
        resume: go on from the last checkpoint in ``out``.
        cache: folder of cached features; the user's cache folder if not given.
        input_spec: how the backbone takes a face, where the guess from its graph is wrong.
        embedding: name of the backbone's output that is the embedding, where several could be.
        licence: SPDX name of the backbone's licence, for the contract.
        provider: where the backbone runs.
        progress: called as faces are found and features computed.
        on_log: called with each line of the training log.

    Raises:
        NotAFaceModel, ModelError: the backbone cannot be used.
        DataError, InsufficientData: the data are not as the recipe needs them.
        StorageError: ``out`` or the cache cannot be written.
        TrainingError: training cannot go on.
    """
    config = _recipe(recipe)
    frozen = resolve_backbone(backbone, embedding=embedding)
    workshop = _Workshop.open(
        frozen, config, Path(cache) if cache else writable_cache_folder() / "train", input_spec, provider
    )
    people, folder = split(Path(data), config.data), Path(out)
    with storage_errors(folder):  # told now, and not when the features are there
        folder.mkdir(parents=True, exist_ok=True)
    faces = workshop.faces(people.training, progress)
    features = TrainingFeatures(
        [copy for variant in config.variants for copy in workshop.features(faces, variant, config.seed, progress)],
        [variant.share / variant.copies for variant in config.variants for _ in range(variant.copies)],
        faces.people,
        workshop.dim,
    )
    head = fit_head(features, config, folder, resume=resume, progress=on_log)
    weights = _weights(head, workshop.contract(people, licence))
    weights = workshop.calibrated(weights, people, progress)
    write_bytes(folder / "recipe.json", config.to_json().encode())
    save_head(weights, folder / "head.safetensors")
    model = graft(frozen.model, weights, backbone_digest=frozen.digest)
    with replacing(folder / "model.onnx") as temporary:
        onnx.save(model, temporary)
    return TrainedHead(
        folder / "model.onnx", folder / "head.safetensors", weights.contract, len(faces.names), len(faces.failed)
    )


@dataclass(frozen=True, slots=True)
class _Workshop:
    """The backbone with its fused tensors, and the cache of what it gave.

    The cache always holds the fused vector, which ends with the embedding: a head without fusion reads that alone.
    """

    backbone: Backbone
    recipe: HeadRecipe
    spec: InputSpec
    taps: Taps
    extractor: FeatureExtractor
    cache: Path

    @property
    def dim(self) -> int:
        return self.taps.dim

    @classmethod
    def open(
        cls, backbone: Backbone, recipe: HeadRecipe, cache: Path, spec: InputSpec | None, provider: str
    ) -> _Workshop:
        taps = find_taps(
            backbone.model,
            backbone.face,
            flatten_last=recipe.head.fusion and recipe.head.flatten_last,
            names=recipe.head.taps,
        )
        chosen = spec or backbone.input
        extractor = FeatureExtractor(backbone.model, taps, chosen, provider=provider, threads=1)
        return cls(backbone, recipe, chosen, taps, extractor, cache)

    def faces(self, items: Sequence[Item], progress: Progress | None) -> Faces:
        return cache_faces(items, self.spec, self.cache, aligned=self.recipe.data.aligned, progress=progress)

    def features(self, faces: Faces, variant: Variant, seed: int, progress: Progress | None) -> list[FloatArray]:
        key: dict[str, object] = {"backbone": self.backbone.digest, "features": self.taps.spelling}
        copies = cache_features(faces, self.extractor, variant, self.cache, model_key=key, seed=seed, progress=progress)
        return copies if self.recipe.head.fusion else [np.ascontiguousarray(copy[:, -self.dim :]) for copy in copies]

    def contract(self, people: Split, licence: str) -> ModelContract:
        return ModelContract(
            name=self.recipe.name,
            dim=self.dim,
            sigma_sq_width=1 if self.recipe.head.outputs == "scalar" else self.dim,
            input=self.spec,
            backbone_digest=self.backbone.digest,
            backbone_licence=self.backbone.licence if licence == "unknown" else licence,
            head_licence="MIT",
            trained_on=people.trained_on,
            features=self.taps.spelling if self.recipe.head.fusion else self.taps.spelling[-1:],
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
        return Embeddings(mu, np.exp(weights.log_sigma_sq(features)).astype(np.float32))


def _recipe(recipe: str | os.PathLike[str] | HeadRecipe | None) -> HeadRecipe:
    if isinstance(recipe, HeadRecipe):
        return recipe
    return HeadRecipe("head") if recipe is None else read_recipe(Path(recipe))


def _weights(head: UncertaintyHead, contract: ModelContract) -> HeadWeights:
    arrays: dict[str, NDArray[np.float32]] = {
        name: tensor.detach().cpu().numpy() for name, tensor in head.state_dict().items()
    }
    return HeadWeights.of(arrays, contract)
