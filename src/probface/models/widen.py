"""Networks stored in half precision, computed in float32: the same function, rounded less.

Half-precision files (float16 or bfloat16, inside alone or at both ends) save disk and suit some accelerators; on a
processor they are slow, and the head is float32. Widening a weight is exact.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, ValueInfoProto, numpy_helper

from probface.errors import ModelError

_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
"""Integer attributes that name a tensor's type, as of Cast."""


def widen(model: ModelProto) -> ModelProto:
    """A copy with float32 wherever the model says float16 or bfloat16; other types stay.

    Args:
        model: graphs within a node (of If or Loop) stay as they are.

    Raises:
        ModelError: a weight has more or fewer numbers than its shape says.
    """
    wide = ModelProto()
    wide.CopyFrom(model)
    graph = wide.graph
    _widen_tensors(graph.initializer)
    _widen_values((*graph.input, *graph.output, *graph.value_info))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _widen_tensors([attribute.t])
            elif attribute.name in _TYPE_ATTRIBUTES and attribute.i in _HALF:
                attribute.i = TensorProto.FLOAT
    return wide


def _widen_tensors(tensors: Iterable[TensorProto]) -> None:
    for tensor in tensors:
        if tensor.data_type in _HALF:
            try:
                array = numpy_helper.to_array(tensor).astype(np.float32)
            except ValueError as error:
                raise ModelError(
                    f"weight {tensor.name!r}: does not fill its shape ({error}); get the model file again"
                ) from error
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _widen_values(values: Iterable[ValueInfoProto]) -> None:
    for value in values:
        if value.type.tensor_type.elem_type in _HALF:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
