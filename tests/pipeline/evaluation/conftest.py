"""A network small enough to embed many images in no time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from probface.contract import QualityScale
from probface.models.backbone import Backbone
from probface.models.graft import graft, set_contract
from probface.models.head_weights import HeadWeights
from probface.models.taps import find_taps


@pytest.fixture(scope="session")
def small_model(
    backbones: dict[str, Backbone], make_head: Callable[..., HeadWeights], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A ResNet with a head of random weights, and a quality scale."""
    backbone = backbones["resnet"]
    head = make_head(backbone, find_taps(backbone.model, backbone.face))
    grafted = graft(backbone.model, head, backbone_digest=backbone.digest)
    set_contract(grafted, replace(head.contract, name="small", quality=QualityScale(-3.0, 3.0)))
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(grafted, path)
    return path
