"""A torch backbone as one ONNX file, and the proof that both compute the same."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from probface.contract import InputSpec
from probface.encoder.preprocess import to_input
from probface.encoder.session import Network
from probface.errors import ModelError
from probface.export.accuracy import random_crops
from probface.models.backbone import Backbone, declare_input
from probface.models.graft import MU, SIGMA_SQ
from probface.models.graph import inspect_face_graph
from probface.models.head_weights import HeadWeights
from probface.models.taps import FEATURES, find_taps, read_taps, with_features
from probface.nn.architecture import as_module
from probface.nn.face_network import FaceNetwork
from probface.nn.layer_fusion import fuse_layers

OPSET = 18
EMBEDDING = "embedding"
LARGEST_DIFFERENCE = 1e-4
"""Between torch and ONNX Runtime, relative to the largest entry; an export that differs more is refused."""


class _AsOutputs(nn.Module):
    """Embedding and stages as a flat tuple, as ONNX wants its outputs."""

    def __init__(self, network: FaceNetwork) -> None:
        super().__init__()
        self.network = as_module(network)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        embedding, stages = self.network(images)
        return (embedding, *stages)


def export_backbone(network: FaceNetwork, spec: InputSpec) -> ModelProto:
    """Write a backbone as an ONNX graph.

    The outputs are ``embedding``, raw, (N, D), and ``stage_1`` .. ``stage_K``, which a head fuses; the first dimension
    is free. Batch norms are folded by the exporter, and ``spec`` goes into the metadata.

    Args:
        network: in any mode; it is exported in evaluation mode and left so.
        spec: how a face becomes its input.

    Raises:
        ModelError: the graph computes something else than the network; see :func:`check_parity`.
    """
    module = _AsOutputs(network).eval()
    example = torch.zeros(2, 3, spec.height, spec.width)
    names = [EMBEDDING, *(f"stage_{i}" for i in range(1, len(network.channels) + 1))]
    with _quiet_exporter():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    if program is None:
        raise ModelError("backbone: torch gave no ONNX program; install another version of torch")
    model: ModelProto = program.model_proto
    _forget_the_exporter(model)
    declare_input(model, spec)
    onnx.checker.check_model(model)
    check_parity(model, network, spec)
    return model


def check_parity(model: ModelProto, network: FaceNetwork, spec: InputSpec) -> float:
    """The largest difference on random images, of the embedding and of the stages as a head reads them.

    Each is relative to its largest entry.

    Raises:
        ModelError: it is above :data:`LARGEST_DIFFERENCE`, or the network gives zeros or numbers that are not finite.
    """
    crops = random_crops(spec, 4)
    taps = find_taps(model, inspect_face_graph(model, EMBEDDING), flatten_last=True)
    (found,) = Network(with_features(model, taps).SerializeToString(), spec, (FEATURES,)).run(crops)
    with torch.no_grad():
        wanted = as_module(network).eval()(torch.from_numpy(to_input(crops, spec)))
        parts = [part.cpu().numpy() for part in (fuse_layers(wanted), wanted.embedding)]
    if not all(np.isfinite(part).all() and part.any() for part in parts):
        raise ModelError("backbone: gives embeddings of zeros or not finite, must give numbers; train it again")
    pairs = zip(np.split(found, [-taps.dim], axis=1), parts, strict=True)
    difference = max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs)
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"backbone: its ONNX form differs by {difference:.1e} of the largest entry, must be "
            f"{LARGEST_DIFFERENCE:g} at most; export with another version of torch"
        )
    return difference


def check_graft(model: ModelProto, backbone: Backbone, head: HeadWeights) -> float:
    """The largest difference, on random images, between a grafted model and the head on the backbone's features.

    Of ``mu`` as it is, of ``sigma_sq`` relative to it.

    Raises:
        ModelError: it is above :data:`LARGEST_DIFFERENCE`.
    """
    spec = head.contract.input
    crops = random_crops(spec, 4)
    taps = replace(read_taps(backbone.model, head.contract.features), reads_embedding=True)
    (features,) = Network(with_features(backbone.model, taps).SerializeToString(), spec, (FEATURES,)).run(crops)
    raw = np.asarray(features[:, -taps.dim :], np.float64)
    variance = np.exp(head.log_sigma_sq(features[:, : head.fc1_weight.shape[1]]))
    mu, sigma_sq = Network(model.SerializeToString(), spec, (MU, SIGMA_SQ)).run(crops)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    difference = max(float(np.abs(mu - unit).max()), float(np.abs(sigma_sq / variance - 1).max()))
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"model {head.contract.name!r}: its ONNX form differs by {difference:.1e}, must be "
            f"{LARGEST_DIFFERENCE:g} at most; train the head again, and look at its largest variances"
        )
    return difference


def _forget_the_exporter(model: ModelProto) -> None:
    """Drop the traces of source lines and paths that the exporter leaves on every node."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep to itself what the exporter has to say of torchvision and of its own old names."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(before)
