from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from probface.errors import ModelError
from probface.models.backbone import Backbone, load_backbone
from probface.models.taps import find_taps, with_features
from probface.models.widen import widen


def halved(data: bytes, *, ends: bool) -> ModelProto:
    """The network in float16: inside alone, between two Casts, or with its input and output, too."""
    model = onnx.load_model_from_string(data)
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
    image, out = graph.input[0], graph.output[0]
    del graph.value_info[:]
    if ends:
        image.type.tensor_type.elem_type = out.type.tensor_type.elem_type = TensorProto.FLOAT16
        return model
    for node in graph.node:
        node.input[:] = ["image16" if name == image.name else name for name in node.input]
        node.output[:] = ["out16" if name == out.name else name for name in node.output]
    graph.node.insert(0, helper.make_node("Cast", [image.name], ["image16"], to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", ["out16"], [out.name], to=TensorProto.FLOAT))
    return model


@pytest.mark.parametrize("ends", [False, True], ids=["inside", "to its ends"])
@pytest.mark.parametrize("network", ["resnet", "mobilefacenet"])
def test_a_network_in_half_precision_is_read_as_the_full_one(
    network_files: dict[str, Path], backbones: dict[str, Backbone], network: str, ends: bool
) -> None:
    full = backbones[network]
    half = load_backbone(halved(network_files[network].read_bytes(), ends=ends).SerializeToString())
    shape = (3, 3, full.face.height, full.face.width)
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    vectors = []
    for backbone in (full, half):
        taps = find_taps(backbone.model, backbone.face)
        model = with_features(backbone.model, taps)
        onnx.checker.check_model(model, full_check=True)
        vectors.append(ort.InferenceSession(model.SerializeToString()).run(None, {backbone.face.input: images})[0])
        assert (taps.channels, taps.dim) == (find_taps(full.model, full.face).channels, full.face.dim)
    error = np.linalg.norm(vectors[0] - vectors[1], axis=1) / np.linalg.norm(vectors[0], axis=1)
    assert error.max() < 3e-3  # the weights were rounded to 11 bits
    assert half.input == full.input


def test_scaling_behind_a_cast_is_seen() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["half"], to=TensorProto.BFLOAT16),
            helper.make_node("Sub", ["half", "mean"], ["scaled"]),
            helper.make_node("GlobalAveragePool", ["scaled"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["out"]),
        ],
        "face",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("out", TensorProto.BFLOAT16, [1, 3])],
        [helper.make_tensor("mean", TensorProto.BFLOAT16, [], [127.5])],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    backbone = load_backbone(data)
    assert (backbone.input.mean, backbone.input.scale) == (0, 1)
    images = np.full((2, 3, 16, 16), 200, np.float32)
    (found,) = ort.InferenceSession(backbone.model.SerializeToString()).run(None, {"image": images})
    np.testing.assert_array_equal(found, np.full((2, 3), 72.5, np.float32))


def test_widening_leaves_its_argument_and_full_precision_alone(backbones: dict[str, Backbone]) -> None:
    model = backbones["resnet"].model
    before = model.SerializeToString(deterministic=True)
    assert widen(model).SerializeToString(deterministic=True) == before
    assert model.SerializeToString(deterministic=True) == before


def test_a_weight_that_does_not_fill_its_shape_is_named() -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT16, dims=[3], raw_data=bytes(4))
    graph = helper.make_graph([helper.make_node("Relu", ["w"], ["y"])], "short", [], [], [weight])
    with pytest.raises(ModelError, match="weight 'w': does not fill its shape"):
        widen(helper.make_model(graph))
