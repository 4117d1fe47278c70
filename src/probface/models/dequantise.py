"""Quantised weights into float32, so that ONNX Runtime takes the graph and runs it at full speed.

OpenCV Zoo's block-quantised files keep each weight as int8 with one scale and zero point per block,

    weight = (quantised - zero_point) * scale,

behind DequantizeLinear and Reshape nodes, and list all weights as graph inputs, which ONNX Runtime rejects for
these nodes. Folding them is exact: it computes what the nodes would.
"""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from probface.errors import ModelError
from probface.models.wiring import Array, Wiring
from probface.types import FloatArray

_FIRST_IR_WITH_FREE_INITIALISERS = 4


def dequantise(model: ModelProto) -> ModelProto:
    """A copy with float32 weights in place of quantised ones, and with the image as its only graph input.

    Quantised *activations* stay as they are. A model without quantised weights only loses the needless inputs.

    Raises:
        ModelError: the blocks of a weight do not fit its shape.
    """
    folded = ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    wiring = Wiring(folded)
    weights: dict[str, Array] = {}
    kept: list[NodeProto] = []
    for node in graph.node:
        value = _fold(node, wiring, weights)
        if value is None:
            kept.append(node)
        else:
            weights[node.output[0]] = value
    read = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    given = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name in read - given]
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    constants += [numpy_helper.from_array(value, name) for name, value in weights.items() if name in read]
    clean = GraphProto(name=graph.name, node=kept, input=inputs, output=graph.output, initializer=constants)
    folded.graph.CopyFrom(clean)
    folded.ir_version = max(folded.ir_version, _FIRST_IR_WITH_FREE_INITIALISERS)
    return folded


def _fold(node: NodeProto, wiring: Wiring, weights: dict[str, Array]) -> Array | None:
    """The constant that a node computes, if it is one of those folded here; else None."""
    if node.op_type not in ("DequantizeLinear", "Reshape"):
        return None
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    axis, block_size = attributes.get("axis", 1), attributes.get("block_size", 0)
    try:
        operands = [weights[name] if name in weights else wiring.value(name) for name in node.input if name]
        known = [operand for operand in operands if operand is not None]
        if len(known) < len(operands):
            return None
        if node.op_type == "Reshape":
            return _reshape(known[0], known[1].astype(np.int64).ravel().tolist()) if node.input[0] in weights else None
        if known[1].dtype != np.float32:
            return None
        zero_point = known[2] if len(known) > 2 else np.zeros_like(known[1])
        return dequantise_weight(known[0], known[1], zero_point, axis, block_size)
    except (ValueError, IndexError) as error:
        raise ModelError(
            f"weight {node.input[0]!r}: its scales or shape do not fit ({error}); get the model file again"
        ) from error


def _reshape(array: Array, shape: list[int]) -> Array:
    """ONNX's Reshape: 0 keeps a size, -1 is what is left."""
    return array.reshape([array.shape[i] if size == 0 and i < array.ndim else size for i, size in enumerate(shape)])


def dequantise_weight(quantised: Array, scale: Array, zero_point: Array, axis: int, block_size: int) -> FloatArray:
    """``(quantised - zero_point) * scale``, ONNX's DequantizeLinear.

    Args:
        quantised: integers of any shape.
        scale: one number; or one for each index along ``axis``; or, with ``block_size`` above 0, one for each run of
            ``block_size`` elements along ``axis``, the last run perhaps shorter.
        zero_point: of the shape of ``scale``.
        axis: counted from the end where negative.
        block_size: 0 for scales that are not per block.

    Raises:
        ValueError: the shapes do not fit.
        IndexError: there is no such axis.
    """

    def spread(parameter: Array) -> FloatArray:
        values = parameter.astype(np.float32)
        if block_size:
            if values.shape[axis] != -(-quantised.shape[axis] // block_size):
                raise ValueError(f"{values.shape[axis]} blocks of {block_size} for {quantised.shape[axis]}")
            return np.take(values, np.arange(quantised.shape[axis]) // block_size, axis=axis)
        if values.ndim == 1 and values.size > 1 and quantised.ndim:
            return values.reshape([-1 if i == axis % quantised.ndim else 1 for i in range(quantised.ndim)])
        return values

    result: FloatArray = (quantised.astype(np.float32) - spread(zero_point)) * spread(scale)
    if result.shape != quantised.shape:
        raise ValueError(f"{scale.shape} against {quantised.shape}")
    return result
