"""The folder that a model of ours lives in.

backbone.safetensors   torch's weights, with the architecture
backbone.onnx          the same network; outputs embedding, stage_1 .. stage_K
head.safetensors       the uncertainty head, with the model contract
model.onnx             both grafted together: mu and sigma_sq. This file is enough to run
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from probface.contract import InputSpec, ModelContract
from probface.export.onnx import check_graft, export_backbone
from probface.models.backbone import Backbone, load_backbone
from probface.models.graft import graft
from probface.models.head_weights import HeadWeights, save_head
from probface.models.registry import TRAINED_BACKBONE, TRAINED_MODEL
from probface.models.taps import find_taps
from probface.nn.architecture import Architecture
from probface.nn.face_network import FaceNetwork
from probface.nn.network_file import save_network
from probface.storage import replacing, storage_errors, write_bytes
from probface.types import FloatArray

BACKBONE_WEIGHTS = "backbone.safetensors"
HEAD_WEIGHTS = "head.safetensors"


def write_backbone(network: FaceNetwork, architecture: Architecture, spec: InputSpec, folder: Path) -> Backbone:
    """Write a backbone as weights and as ONNX, and read it back as any other tool would.

    A head and a model that lie in the folder belonged to another backbone, and are removed.

    Raises:
        ModelError: the ONNX form computes something else.
        StorageError: the folder cannot be written.
    """
    exported = export_backbone(network, spec).SerializeToString()
    for stale in (HEAD_WEIGHTS, TRAINED_MODEL):  # of another backbone, which this one takes the place of
        with storage_errors(folder / stale):
            (folder / stale).unlink(missing_ok=True)
    save_network(network, architecture, spec, folder / BACKBONE_WEIGHTS)
    write_bytes(folder / TRAINED_BACKBONE, exported)
    return load_backbone(folder / TRAINED_BACKBONE)


def write_paper_head(
    backbone: Backbone, head: Mapping[str, FloatArray], *, name: str, fusion: bool, trained_on: str, folder: Path
) -> ModelContract:
    """Graft a head that reads the layers as the paper does, and write it and the model.

    Args:
        backbone: from :func:`write_backbone`.
        head: its tensors by torch's names.
        name: of the model.
        fusion: the pooled stages are part of what the head reads; the flattened last one always is.
        trained_on: the head's training data, in one sentence.
        folder: where to.

    Raises:
        ModelError: the head does not fit the backbone.
        StorageError: the folder cannot be written.
    """
    taps = find_taps(backbone.model, backbone.face, fusion=fusion, flatten_last=True, embedding=False)
    contract = ModelContract(
        name=name,
        dim=taps.dim,
        sigma_sq_width=len(head["fc2.weight"]),
        input=backbone.input,
        backbone_digest=backbone.digest,
        trained_on=trained_on,
        features=taps.spelling,
    )
    write_head(backbone, HeadWeights.of(head, contract), folder)
    return contract


def write_head(backbone: Backbone, head: HeadWeights, folder: Path) -> Path:
    """Write a head, and the model with it grafted on; the model's file.

    Raises:
        DigestMismatch, ModelError: the head belongs to another backbone, does not fit, or the graft computes something
            else.
        StorageError: the folder cannot be written.
    """
    model = graft(backbone.model, head, backbone_digest=backbone.digest)
    check_graft(model, backbone, head)
    save_head(head, folder / HEAD_WEIGHTS)
    with replacing(folder / TRAINED_MODEL) as temporary:
        onnx.save(model, temporary)
    return folder / TRAINED_MODEL
