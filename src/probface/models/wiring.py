"""ONNX graphs as wiring: who makes and reads each tensor, of what shape, and how to add to a graph or cut it down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper, shape_inference

from probface.errors import ModelError, NotAFaceModel

Array: TypeAlias = NDArray[np.generic]
Shape: TypeAlias = tuple[int, ...]

BATCH = "N"
"""Name of the first dimension of every input and output."""

OLDEST_OPSET = 7
"""The first operator set with numpy's broadcasting, which the grafted nodes rely on; ONNX Runtime starts there, too."""

_OPSET_AXES_AS_INPUT = 18

_CONSTANT_TYPES = MappingProxyType(
    {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
)


class Wiring:
    """Who makes and who reads each tensor of a graph, and which tensors are constants."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.producer: dict[str, NodeProto] = {}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.output:
                self.producer[name] = node
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.name == "value":
                    self.constants[node.output[0]] = attribute.t
                elif attribute.name in _CONSTANT_TYPES:
                    value = np.array(helper.get_attribute_value(attribute), _CONSTANT_TYPES[attribute.name])
                    self.constants[node.output[0]] = numpy_helper.from_array(value, node.output[0])

    def made_by(self, name: str) -> str:
        """The operator that makes a tensor; empty for an input or a constant."""
        return self.producer[name].op_type if name in self.producer else ""

    def varying(self, node: NodeProto) -> list[str]:
        """The inputs of a node that are not constants."""
        return [name for name in node.input if name and name not in self.constants]

    def value(self, name: str) -> Array | None:
        """The value of a constant; None for any other tensor."""
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def ancestors(self, names: Sequence[str]) -> set[str]:
        """All tensors that the named ones are computed from, themselves included."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name and name not in found:
                found.add(name)
                waiting.extend(self.producer[name].input if name in self.producer else ())
        return found


def free_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """The graph inputs that a caller must feed: those that some node reads and that have no value of their own."""
    weights = {tensor.name for tensor in model.graph.initializer}
    read = {name for node in model.graph.node for name in node.input}
    return [value for value in model.graph.input if value.name in read and value.name not in weights]


def infer_shapes(model: ModelProto) -> dict[str, Shape]:
    """Shapes of all tensors at batch 1; an unknown size is 0. Tensors of unknown rank are left out.

    Raises:
        ModelError: the shapes in the graph contradict each other.
    """
    graph = model.graph
    # Weights stand in as inputs of their shape: copying their values would take longer than the inference.
    sizes = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT64]
    weights = [tensor for tensor in graph.initializer if tensor.data_type != TensorProto.INT64]
    images = [ValueInfoProto.FromString(value.SerializeToString()) for value in free_inputs(model)]
    for value in images:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    single = GraphProto(
        name=graph.name,
        node=graph.node,
        input=[*images, *(helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in weights)],
        output=[ValueInfoProto(name=value.name) for value in graph.output],
        initializer=sizes,
    )
    try:
        inferred = shape_inference.infer_shapes(
            helper.make_model(single, opset_imports=model.opset_import), strict_mode=True, data_prop=True
        ).graph
    except (shape_inference.InferenceError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"model: shapes cannot be inferred ({reason}); export the model again") from error
    return {
        value.name: tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }


def default_opset(model: ModelProto) -> int:
    """Version of the default operator set.

    Raises:
        NotAFaceModel: too old for the nodes that are added here, or not declared.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise NotAFaceModel(
            f"model: operator set {opset}, must be {OLDEST_OPSET} or later; convert it with onnx.version_converter"
        )
    return opset


def append_node(model: ModelProto, operator: str, operands: Sequence[str], name: str, **attributes: Any) -> str:
    """Append a node with one output in place; the output's name, which is ``probface/`` and ``name``."""
    result = f"probface/{name}"
    model.graph.node.append(helper.make_node(operator, operands, [result], result, **attributes))
    return result


def append_reduction(
    model: ModelProto, operator: str, tensor: str, name: str, *, axes: Sequence[int], keepdims: bool
) -> str:
    """Append a reduction (ReduceL2 ...), as the model's operator set writes it; see :func:`append_node`."""
    operands = [tensor]
    attributes: dict[str, Any] = {"keepdims": int(keepdims)}
    if default_opset(model) >= _OPSET_AXES_AS_INPUT:
        operands.append(f"probface/{name}.axes")
        model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), operands[-1]))
    else:
        attributes["axes"] = tuple(axes)
    return append_node(model, operator, operands, name, **attributes)


def set_outputs(model: ModelProto, outputs: Mapping[str, tuple[str, int]]) -> None:
    """Replace the outputs in place, and drop what no longer serves any.

    Args:
        model: changed in place.
        outputs: name of the output -> the (N, width) float32 tensor that becomes it, and its width. The tensor takes
            the output's name; another tensor of that name moves out of the way.
    """
    graph = model.graph
    for name, (tensor, _) in outputs.items():
        if name != tensor:
            _rename(graph, name, f"backbone/{name}")
            _rename(graph, tensor, name)
    needed = Wiring(model).ancestors(list(outputs))
    graph.CopyFrom(
        GraphProto(
            name=graph.name,
            node=[node for node in graph.node if needed.intersection(node.output)],
            input=[value for value in graph.input if value.name in needed],
            output=[
                helper.make_tensor_value_info(name, TensorProto.FLOAT, (BATCH, width))
                for name, (_, width) in outputs.items()
            ],
            initializer=[tensor for tensor in graph.initializer if tensor.name in needed],
        )
    )


def _rename(graph: GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for declared in (*graph.input, *graph.initializer):
        if declared.name == old:
            declared.name = new
