"""Backbones and heads that several rooms are tested with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from probface.contract import ModelContract, Rescaling
from probface.models.backbone import Backbone, load_backbone
from probface.models.graft import graft
from probface.models.head_weights import HeadWeights
from probface.models.record import SFACE
from probface.models.taps import Taps, find_taps
from probface.models.weights import find_weights


@pytest.fixture(scope="session")
def sface_file() -> Path:
    return find_weights(SFACE)


@pytest.fixture(scope="session")
def network_files(tmp_path_factory: pytest.TempPathFactory, sface_file: Path) -> dict[str, Path]:
    """ONNX files: SFace; a ResNet without names; a MobileFaceNet with unit output; a ResNet for batch 1 alone."""
    from face_networks import export_all  # torch, and only for the tests that need it

    folder = tmp_path_factory.mktemp("networks")
    exported = export_all()
    for name, data in exported.items():
        (folder / f"{name}.onnx").write_bytes(data)
    return {"sface": sface_file, **{name: folder / f"{name}.onnx" for name in exported}}


@pytest.fixture(scope="session")
def backbones(network_files: dict[str, Path]) -> dict[str, Backbone]:
    return {name: load_backbone(path) for name, path in network_files.items()}


@pytest.fixture(scope="session")
def make_head() -> Callable[..., HeadWeights]:
    """A head with random weights for a backbone and its taps."""

    def make(
        backbone: Backbone,
        taps: Taps,
        *,
        width: int = 1,
        rescaling: Rescaling | None = None,
        features: Sequence[str] | None = None,
    ) -> HeadWeights:
        rng = np.random.default_rng(5)

        def normal(*shape: int) -> np.ndarray:
            return rng.normal(size=shape).astype(np.float32)

        def positive(*shape: int) -> np.ndarray:
            return rng.uniform(0.5, 2, shape).astype(np.float32)

        contract = ModelContract(
            name="random",
            dim=backbone.face.dim,
            sigma_sq_width=width,
            input=backbone.input,
            backbone_digest=backbone.digest,
            features=tuple(features or taps.spelling),
            rescaling=rescaling or Rescaling(),
        )
        return HeadWeights(
            feature_mean=normal(taps.width),
            feature_scale=positive(taps.width),
            fc1_weight=normal(256, taps.width) / np.float32(np.sqrt(taps.width)),
            bn1_weight=positive(256),
            bn1_bias=normal(256),
            bn1_running_mean=normal(256),
            bn1_running_var=positive(256),
            fc2_weight=normal(width, 256) / np.float32(16),
            bn2_running_mean=normal(width),
            bn2_running_var=positive(width),
            scale=np.float32(0.7),
            shift=np.float32(-1.0),
            contract=contract,
        )

    return make


@pytest.fixture(scope="session")
def write_model(backbones: dict[str, Backbone], make_head: Callable[..., HeadWeights]) -> Callable[..., Path]:
    """A small network with a head of random weights, as an ONNX file; what its contract says besides can be given."""

    def write(path: Path, network: str = "resnet", **says: Any) -> Path:
        backbone = backbones[network]
        head = make_head(backbone, find_taps(backbone.model, backbone.face))
        head = replace(head, contract=replace(head.contract, **says))
        onnx.save(graft(backbone.model, head, backbone_digest=backbone.digest), path)
        return path

    return write
