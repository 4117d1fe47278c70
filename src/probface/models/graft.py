"""The uncertainty head onto a backbone: one ONNX file with the outputs ``mu`` and ``sigma_sq``.

Nothing here needs torch. Standardisation, both batch norms, scale and shift are folded into two matrix products
(in float64, then rounded once), so the grafted model costs the backbone, a few means, and 0.5 M multiplications.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import ModelProto, helper, numpy_helper

from probface.contract import METADATA_KEY, SIGMA_SQ_FLOOR, ModelContract, Rescaling
from probface.errors import DigestMismatch, ModelError
from probface.models.head_weights import FoldedHead, HeadWeights
from probface.models.taps import add_features, read_taps
from probface.models.wiring import append_node, append_reduction, set_outputs

MU, SIGMA_SQ = "mu", "sigma_sq"
"""Names of the two outputs."""


def graft(backbone: ModelProto, head: HeadWeights, *, backbone_digest: str) -> ModelProto:
    """Join a backbone and a head.

    Args:
        backbone: float32 weights, dynamic batch; see :func:`probface.models.backbone.load_backbone`.
        head: its contract names the backbone's digest and the features that the head reads.
        backbone_digest: SHA-256 of the backbone's file as it was found.

    Returns:
        A model with the outputs ``mu`` (N, D), of unit length, and ``sigma_sq`` (N, W), both float32, and the
        contract in its metadata.

    Raises:
        DigestMismatch: the head was trained on another backbone.
        ModelError: the head does not fit the features.
    """
    contract = head.contract
    if backbone_digest != contract.backbone_digest:
        raise DigestMismatch(
            f"backbone with SHA-256 {backbone_digest[:16]}...: head {contract.name!r} was trained on "
            f"{contract.backbone_digest[:16]}...; use that backbone, or train a head on this one"
        )
    taps = read_taps(backbone, contract.features)
    fused, given = head.fc1_weight.shape[1], (taps.width, taps.dim)
    if given != (fused, contract.dim):
        raise ModelError(
            f"head {contract.name!r}: reads {fused} features and says D = {contract.dim}, the backbone gives "
            f"{given[0]} and {given[1]}; train the head again"
        )
    model = ModelProto()
    model.CopyFrom(backbone)
    features = add_features(model, taps)
    norm = append_reduction(model, "ReduceL2", taps.embedding, "norm", axes=(1,), keepdims=True)
    mu = append_node(model, "Div", [taps.embedding, norm], "mu")
    sigma_sq = _add_head(model, head.folded, features, contract.rescaling)
    set_outputs(model, {MU: (mu, taps.dim), SIGMA_SQ: (sigma_sq, contract.sigma_sq_width)})
    del model.metadata_props[:]
    set_contract(model, contract)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"backbone: not a valid ONNX graph ({reason}); export it again") from error
    return model


def read_contract(model: ModelProto) -> ModelContract | None:
    """The contract that a model carries, or None.

    Raises:
        ModelError: there is one, and it cannot be read.
    """
    found = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    return ModelContract.from_json(found[0]) if found else None


def set_contract(model: ModelProto, contract: ModelContract) -> None:
    """Give a model a contract, in place of the one it has; changes nothing else."""
    others = {entry.key: entry.value for entry in model.metadata_props if entry.key != METADATA_KEY}
    del model.metadata_props[:]
    helper.set_model_props(model, {**others, METADATA_KEY: contract.to_json()})


def _add_head(model: ModelProto, head: FoldedHead, features: str, rescaling: Rescaling) -> str:
    hidden = append_node(model, "Relu", [_add_linear(model, head.weight1, head.bias1, features, "fc1")], "relu")
    s = _add_linear(model, head.weight2, head.bias2, hidden, "fc2")
    exponential = append_node(model, "Exp", [s], "exp")
    raw = append_node(model, "Add", [exponential, _constant(model, SIGMA_SQ_FLOOR, "floor")], "sigma_sq_raw")
    if rescaling == Rescaling():
        return raw
    log_raw = append_node(model, "Log", [raw], "log_sigma_sq_raw")
    gained = append_node(model, "Mul", [log_raw, _constant(model, rescaling.gain, "gain")], "gained")
    log_sigma_sq = append_node(model, "Add", [gained, _constant(model, rescaling.offset, "offset")], "log_sigma_sq")
    return append_node(model, "Exp", [log_sigma_sq], "sigma_sq")


def _add_linear(model: ModelProto, weight: ArrayLike, bias: ArrayLike, x: str, name: str) -> str:
    operands = [x, _constant(model, weight, f"{name}.weight"), _constant(model, bias, f"{name}.bias")]
    return append_node(model, "Gemm", operands, name, transB=1)


def _constant(model: ModelProto, value: ArrayLike, name: str) -> str:
    tensor = numpy_helper.from_array(np.asarray(value, np.float32), f"probface/{name}")
    model.graph.initializer.append(tensor)
    return str(tensor.name)
