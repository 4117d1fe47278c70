"""ONNX graphs read as face networks: load them, make their batch dynamic, find their ends.

A face network takes one image, (N, 3, H, W) float32, and gives one embedding, (N, D) float32. Node and tensor names
mean nothing here; only the operators and the shapes do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, external_data_helper, inliner

from probface.contract import InputSpec
from probface.errors import ModelError, ModelNotFound, NotAFaceModel
from probface.models.wiring import BATCH, Shape, Wiring, default_opset, free_inputs, infer_shapes

_CLASSIFIER_ENDS = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax")
_PASSING = ("Identity", "Cast")
_SCALING = ("Sub", "Add", "Mul", "Div", "BatchNormalization")


@dataclass(frozen=True, slots=True)
class FaceGraph:
    """The two ends of a face network.

    Attributes:
        input: name of the image input, (N, 3, height, width) float32.
        height, width: in pixels.
        embedding: name of the raw embedding's tensor, (N, dim) float32, before any final L2 normalisation.
        dim: D.
        opset: version of the default operator set.
    """

    input: str
    height: int
    width: int
    embedding: str
    dim: int
    opset: int


def load_graph(source: str | os.PathLike[str] | bytes) -> ModelProto:
    """Read an ONNX file, or the bytes of one.

    Functions that the file defines for itself are written out, so that only operators are left. Weights in external
    files are read only from the model's own folder.

    Raises:
        ModelNotFound: no such file.
        ModelError: unreadable, not ONNX, or external weights that are missing or outside the folder.
    """
    data = source if isinstance(source, bytes) else read_model_file(Path(source))
    return parse_graph(data, source)


def parse_graph(data: bytes, source: str | os.PathLike[str] | bytes) -> ModelProto:
    """:func:`load_graph` of a file that was read already: its content, and its path (or the bytes again)."""
    where = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(f"{where}: not an ONNX file; give a model in ONNX format") from error
    if not _has_readable_text(model):
        raise ModelError(f"{where}: damaged, a name in it is not UTF-8; get the model file again")
    if not model.graph.node:
        raise ModelError(f"{where}: an ONNX file holds a graph, and this one has none; give a model in ONNX format")
    external = [tensor for tensor in model.graph.initializer if external_data_helper.uses_external_data(tensor)]
    if external:
        if isinstance(source, bytes):
            raise ModelError(f"{where}: weights lie in external files, which bytes cannot have; give the path instead")
        _load_external(model, external, Path(source))
    return inliner.inline_local_functions(model) if model.functions else model


def _has_readable_text(message: Message) -> bool:
    """Whether all text is UTF-8. Protobuf gives other text as bytes, which fail much later, far from the cause."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            texts = (value,) if isinstance(value, str | bytes) else value
            if any(isinstance(text, bytes) for text in texts):
                return False
        elif field.type == field.TYPE_MESSAGE:
            parts = (value,) if isinstance(value, Message) else value
            if not all(_has_readable_text(part) for part in parts):
                return False
    return True


def read_model_file(path: Path) -> bytes:
    """The bytes of a model file.

    Raises:
        ModelNotFound: no such file.
        ModelError: a folder, or unreadable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path}: no such model file; check the path") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give a readable ONNX file") from error


def _load_external(model: ModelProto, tensors: Sequence[TensorProto], path: Path) -> None:
    folder = path.parent.resolve()
    for tensor in tensors:
        location = external_data_helper.ExternalDataInfo(tensor).location
        if not (folder / location).resolve().is_relative_to(folder):
            raise ModelError(
                f"{path}: weights at {location!r} lie outside the model's folder; put them beside the model"
            )
    try:
        external_data_helper.load_external_data_for_model(model, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path}: its external weights cannot be read ({reason}); put them beside it") from error


@contextmanager
def naming(source: str | os.PathLike[str] | bytes) -> Iterator[None]:
    """Put the file's name into what the block finds wrong with its graph."""
    try:
        yield
    except ModelError as error:
        text = str(error)
        if isinstance(source, bytes) or not text.startswith("model: "):
            raise
        raise type(error)(f"model {os.fspath(source)}: {text.removeprefix('model: ')}") from error


def make_batch_dynamic(model: ModelProto) -> ModelProto:
    """A copy whose inputs and outputs take any batch: the first dimension is named, inner shapes are forgotten.

    A graph that fixes the batch inside, such as by a Reshape to 1, still runs only one by one.
    """
    dynamic = ModelProto()
    dynamic.CopyFrom(model)
    del dynamic.graph.value_info[:]
    for value in [*free_inputs(dynamic), *dynamic.graph.output]:
        dimensions = value.type.tensor_type.shape.dim
        if dimensions:
            dimensions[0].dim_param = BATCH
    return dynamic


def inspect_face_graph(model: ModelProto, embedding: str | None = None) -> FaceGraph:
    """Find the image input and the raw embedding of a face network.

    Args:
        model: any ONNX graph.
        embedding: name of the embedding's output, needed where several outputs could be it.

    Raises:
        NotAFaceModel: there is not exactly one of each.
    """
    opset = default_opset(model)
    image, height, width = _find_image_input(model)
    shapes = infer_shapes(model)
    output = _find_embedding(model, shapes, embedding)
    raw = strip_normalisation(Wiring(model), output)
    shape = shapes.get(raw, ())
    if len(shape) != 2:
        raise NotAFaceModel(f"model: embedding {raw!r} has shape {shape}, must be (N, D); name one with embedding=")
    return FaceGraph(image, height, width, raw, shape[1], opset)


def _find_image_input(model: ModelProto) -> tuple[str, int, int]:
    inputs = free_inputs(model)
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise NotAFaceModel(f"model: {len(inputs)} inputs ({names}), must be one image; give a face recognition model")
    name, kind = inputs[0].name, inputs[0].type.tensor_type
    shape = tuple(dimension.dim_value for dimension in kind.shape.dim)
    if len(shape) == 4 and shape[3] == 3 and shape[1] != 3:
        raise NotAFaceModel(
            f"model: input {name!r} of shape {shape} has its channels last, must be (N, 3, H, W); export it that way"
        )
    if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) < 1:
        raise NotAFaceModel(
            f"model: input {name!r} has shape {shape} (0: not fixed), must be (N, 3, H, W) with H and W fixed; "
            "give a face recognition model"
        )
    if kind.elem_type != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(kind.elem_type)
        raise NotAFaceModel(f"model: input {name!r} is {found}, must be FLOAT; export the model in float32")
    return name, shape[2], shape[3]


def _find_embedding(model: ModelProto, shapes: dict[str, Shape], wanted: str | None) -> str:
    candidates = [value.name for value in model.graph.output if len(shapes.get(value.name, ())) == 2]
    listed = ", ".join(map(repr, candidates)) or "none"
    if wanted is not None and wanted not in candidates:
        raise NotAFaceModel(f"model: no output {wanted!r} of shape (N, D); the outputs of that shape: {listed}")
    if wanted is None and len(candidates) != 1:
        raise NotAFaceModel(
            f"model: outputs of shape (N, D): {listed}; there must be one, the embedding: name it with embedding=, "
            "or give a face recognition model"
        )
    output = wanted or candidates[0]
    last, width = Wiring(model).made_by(output), shapes[output][1]
    if width < 2 or last in _CLASSIFIER_ENDS:
        raise NotAFaceModel(
            f"model: output {output!r} ({last}, {width} wide) is no embedding; give a face recognition model"
        )
    return output


def strip_normalisation(wiring: Wiring, name: str) -> str:
    """Walk back from ``x / ||x||`` to ``x``, however the exporter wrote it; any other tensor is returned as it is."""
    node = wiring.producer.get(name)
    if node is None:
        return name
    if node.op_type in (*_PASSING, "LpNormalization"):
        return strip_normalisation(wiring, node.input[0])
    if node.op_type == "Div" and _norm_of(wiring, node.input[1]) == node.input[0]:
        return strip_normalisation(wiring, node.input[0])
    if node.op_type == "Mul":
        for x, factor in (node.input, reversed(node.input)):
            if wiring.made_by(factor) == "Reciprocal" and _norm_of(wiring, wiring.producer[factor].input[0]) == x:
                return strip_normalisation(wiring, x)
    return name


def _norm_of(wiring: Wiring, name: str) -> str | None:
    """The tensor whose length along its last axis this is, up to clipping and broadcasting; None if it is none."""
    node = wiring.producer.get(name)
    varying = wiring.varying(node) if node is not None else []
    if node is None or not varying:
        return None
    if node.op_type in (*_PASSING, "Expand", "Clip", "Unsqueeze", "Sqrt", "Pow", "Add", "Max"):
        return _norm_of(wiring, varying[0])
    if node.op_type in ("ReduceL2", "ReduceSumSquare"):
        return varying[0]
    if node.op_type == "ReduceSum":
        square = wiring.producer.get(varying[0])
        if square is not None and (square.op_type == "Pow" or list(square.input[:1]) == list(square.input[1:])):
            return str(square.input[0])
    return None


def guess_input_spec(model: ModelProto) -> InputSpec:
    """How faces probably become this network's input. A guess: ONNX does not say, and callers may overrule it.

    Scaling by constants directly behind the input, as in MXNet exports, means 0..255 goes in as it is; otherwise
    ``(pixel - 127.5) / 127.5``. Channels are taken to be RGB. A 112 x 96 input has the narrow template.

    Raises:
        NotAFaceModel: no single image input.
    """
    name, height, width = _find_image_input(model)
    wiring = Wiring(model)
    readers = wiring.consumers.get(name, [])
    while len(readers) == 1 and readers[0].op_type in _PASSING:
        name = readers[0].output[0]
        readers = wiring.consumers.get(name, [])
    inside = any(node.op_type in _SCALING and wiring.varying(node) == [name] for node in readers)
    mean, scale = (0.0, 1.0) if inside else (127.5, 127.5)
    template = "arcface-96" if (height, width) == (112, 96) else "arcface"
    return InputSpec(height, width, mean=mean, scale=scale, template=template)
