"""A model in half precision or in whole numbers: the backbone is converted, what follows it stays float32.

    image -> [ backbone: float16, or 8-bit weights and activations ] -> embedding, layers -> [ norm, head: float32 ]

The cut lies where the nodes of :mod:`probface.models.graft` begin. They are a hundredth of the work, ``mu`` must have
unit length, and ``exp`` in the head would turn small steps of half precision into large ones.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Literal, TypeAlias

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, shape_inference, version_converter
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from probface.contract import METADATA_KEY, InputSpec, ModelContract
from probface.encoder.preprocess import check_crops, to_input
from probface.errors import InvalidValue, MissingExtra, ModelError
from probface.models.graft import read_contract
from probface.models.wiring import Wiring, default_opset, free_inputs
from probface.types import FloatArray, Image

Precision: TypeAlias = Literal["float32", "float16", "int8"]

ACTIVATION_PERCENTILE = 99.999
"""An 8-bit activation spans this share of its values in calibration. On SFace and LFW, mu moves by 6 degrees on average
with it, and by 9 where the span reaches to the extremes. Unsigned or signed makes no difference; symmetric is worse."""

_GRAFTED = "probface/"
"""What the names of all nodes begin with that a graft adds."""
_OPSET_WITH_CHANNELS = 13
"""The first operator set whose DequantizeLinear takes a scale for each channel."""
_CONVERSION_ERRORS = (
    *(ValueError, RuntimeError, shape_inference.InferenceError, version_converter.ConvertError),
    *(runtime.Fail, runtime.InvalidArgument, runtime.InvalidGraph, runtime.NotImplemented, runtime.RuntimeException),
)


def to_float16(model: ModelProto) -> ModelProto:
    """A copy whose backbone computes in float16; input and outputs stay float32.

    Weights beyond float16's range are clipped to it. Activations beyond 65504 overflow, but hardly on a processor:
    ONNX Runtime computes most operators in float32 there. Measure the copy on the provider that it is for.

    Args:
        model: float32, with a model contract; see :func:`probface.models.graft.graft`.

    Raises:
        ModelError: it is converted already, was not made by a graft, or cannot be converted.
        MissingExtra: this ONNX Runtime came without its converter.
    """
    convert = _float16_converter()
    backbone = _backbone(model)
    try:
        half: ModelProto = convert(backbone, keep_io_types=True)
    except _CONVERSION_ERRORS as error:
        raise ModelError(
            f"model: cannot be converted to float16 ({_first_line(error)}); export it in float32"
        ) from error
    return _rejoin(half, model, "float16")


def to_int8(
    model: ModelProto, crops: Image, spec: InputSpec, *, progress: Callable[[int], None] | None = None
) -> ModelProto:
    """A copy whose backbone computes with 8-bit weights (one scale a channel) and activations.

    Static quantisation: quantise and dequantise nodes around the operators, their ranges from calibration faces.

    Args:
        model: float32, with a model contract; see :func:`probface.models.graft.graft`.
        crops: aligned faces to calibrate with, RGB uint8 (N, height, width, 3); a hundred or so.
        spec: how a face becomes the model's input.
        progress: called with the number of faces seen since its last call.

    Raises:
        InvalidValue: no crops, or of another shape or type.
        ModelError: the model is converted already, was not made by a graft, or cannot be converted.
    """
    check_crops(crops, spec)
    if len(crops) == 0:
        raise InvalidValue("0 faces to calibrate int8 with: need one or more, better a hundred")
    try:
        model = _with_channel_scales(model)
        quantised = _quantise(_backbone(model), crops, spec, progress)
    except _CONVERSION_ERRORS as error:
        raise ModelError(f"model: cannot be converted to int8 ({_first_line(error)}); export it in float32") from error
    return _rejoin(quantised, model, "int8")


def converted_contract(contract: ModelContract, precision: Precision) -> ModelContract:
    """The contract of the converted model: its name says what it is, its data that they were measured before."""
    return dataclasses.replace(
        contract,
        name=f"{contract.name} ({precision})",
        data={
            name: f"{description}; measured in float32, before the conversion to {precision}"
            for name, description in contract.data.items()
        },
    )


class _CalibrationFaces:
    """Faces one by one, as ONNX Runtime asks for them; it takes ranges of one, so that memory stays flat."""

    def __init__(self, crops: Image, spec: InputSpec, image: str, progress: Callable[[int], None] | None) -> None:
        self._crops, self._spec, self._image, self._progress = crops, spec, image, progress
        self._next = self._end = 0

    def __len__(self) -> int:
        return len(self._crops)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._next, self._end = start_index, end_index

    def get_next(self) -> dict[str, FloatArray] | None:
        if self._next >= self._end:
            return None
        self._next += 1
        if self._progress is not None:
            self._progress(1)
        return {self._image: to_input(self._crops[self._next - 1 : self._next], self._spec)}


def _quantise(
    backbone: ModelProto, crops: Image, spec: InputSpec, progress: Callable[[int], None] | None
) -> ModelProto:
    with _needing_tools("int8"):
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    faces = _CalibrationFaces(crops, spec, free_inputs(backbone)[0].name, progress)
    with tempfile.TemporaryDirectory(prefix="probface-") as folder, _quiet_quantiser():
        given, folded, quantised = (str(Path(folder, f"{name}.onnx")) for name in ("given", "folded", "quantised"))
        onnx.save(backbone, given)
        quant_pre_process(given, folded, skip_symbolic_shape=True)  # batch norms into convolutions
        quantization.quantize_static(
            folded,
            quantised,
            faces,
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": ACTIVATION_PERCENTILE, "CalibStridedMinMax": 1},
        )
        return onnx.load(quantised)


def _with_channel_scales(model: ModelProto) -> ModelProto:
    """The model in an operator set that has scales for each channel."""
    if default_opset(model) >= _OPSET_WITH_CHANNELS:
        return model
    return version_converter.convert_version(model, _OPSET_WITH_CHANNELS)


def _backbone(model: ModelProto) -> ModelProto:
    """What comes before the grafted nodes, its outputs the tensors that these read."""
    nodes = [node for node in model.graph.node if not node.name.startswith(_GRAFTED)]
    if len(nodes) == len(model.graph.node):
        raise ModelError("model: has no nodes named probface/..., so head and backbone cannot be told; train it again")
    _refuse_converted(model)
    made = {name for node in nodes for name in node.output}
    read = dict.fromkeys(name for node in _grafted(model) for name in node.input if name in made)
    needed = Wiring(model).ancestors(list(read))
    backbone = ModelProto()
    backbone.CopyFrom(model)
    backbone.graph.CopyFrom(
        GraphProto(
            name=model.graph.name,
            node=nodes,
            input=[value for value in model.graph.input if value.name in needed],
            output=[helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in read],
            initializer=[tensor for tensor in model.graph.initializer if tensor.name in needed],
        )
    )
    return backbone


def _rejoin(backbone: ModelProto, model: ModelProto, precision: Precision) -> ModelProto:
    """The grafted nodes of ``model`` behind the converted backbone, with the contract."""
    joined = ModelProto()
    joined.CopyFrom(backbone)
    grafted = _grafted(model)
    read = {name for node in grafted for name in node.input}
    joined.graph.CopyFrom(
        GraphProto(
            name=model.graph.name,
            node=_in_order([*backbone.graph.node, *grafted]),
            input=model.graph.input,
            output=model.graph.output,
            initializer=[
                *backbone.graph.initializer,
                *(tensor for tensor in model.graph.initializer if tensor.name in read),
            ],
        )
    )
    contract = read_contract(model)
    if contract is None:
        raise ModelError("model: carries no model contract; train a head on it: probface train head")
    del joined.metadata_props[:]
    helper.set_model_props(joined, {METADATA_KEY: converted_contract(contract, precision).to_json()})
    try:
        onnx.checker.check_model(joined)
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"model: not a valid graph once converted to {precision} ({_first_line(error)}); export it in float32"
        ) from error
    return joined


def _grafted(model: ModelProto) -> list[NodeProto]:
    return [node for node in model.graph.node if node.name.startswith(_GRAFTED)]


def _refuse_converted(model: ModelProto) -> None:
    reduced = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.UINT8}
    tensor = next((tensor for tensor in model.graph.initializer if tensor.data_type in reduced), None)
    if tensor is not None:
        kind = TensorProto.DataType.Name(tensor.data_type)
        raise ModelError(f"model: holds {kind} ({tensor.name!r}), must be all float32; export the model it came from")


def _in_order(nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes, each behind those that it reads; converters put new ones at the end."""
    missing = {name for node in nodes for name in node.output}
    ordered: list[NodeProto] = []
    while nodes:
        waiting = []
        for node in nodes:
            if missing.isdisjoint(node.input):
                ordered.append(node)
                missing.difference_update(node.output)
            else:
                waiting.append(node)
        if len(waiting) == len(nodes):
            raise ModelError(f"model: node {nodes[0].name!r} reads its own output; export the model again")
        nodes = waiting
    return ordered


def _float16_converter() -> Callable[..., ModelProto]:
    with _needing_tools("float16"):
        from onnxruntime.transformers.float16 import convert_float_to_float16
    convert: Callable[..., ModelProto] = convert_float_to_float16
    return convert


@contextmanager
def _needing_tools(precision: Precision) -> Iterator[None]:
    """Say in one line what ONNX Runtime's tools lack, where they cannot be imported."""
    try:
        yield
    except ImportError as error:
        raise MissingExtra(
            f"precision {precision}: ONNX Runtime's tools do not load ({error}); pip install onnx onnxruntime ml_dtypes"
        ) from error


@contextmanager
def _quiet_quantiser() -> Iterator[None]:
    """Keep to itself what the quantiser prints, and what it logs by the root logger."""
    root, silent = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(silent)  # without any handler, its first message would set up one for good
    root.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(silent)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
