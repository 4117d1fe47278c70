from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from probface.errors import ModelError
from probface.models.backbone import Backbone
from probface.models.dequantise import dequantise, dequantise_weight


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 5), st.sampled_from([0, 1, -1]), st.integers(0, 2**32 - 1))
def test_blocks_agree_with_a_loop(rows: int, columns: int, block: int, axis: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    quantised = rng.integers(-128, 128, (rows, columns), dtype=np.int8)
    shape = [rows, columns]
    shape[axis] = -(-shape[axis] // block)
    scale = rng.uniform(0.001, 1, shape).astype(np.float32)
    zero = rng.integers(-128, 128, shape, dtype=np.int8)
    result = dequantise_weight(quantised, scale, zero, axis, block)
    for i in range(rows):
        for j in range(columns):
            place = (i // block, j) if axis == 0 else (i, j // block)
            assert result[i, j] == np.float32(int(quantised[i, j]) - int(zero[place])) * scale[place]


def weight_model(scale: np.ndarray, zero_point: np.ndarray | None, axis: int) -> tuple[ModelProto, np.ndarray]:
    quantised = np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8)
    arrays = {"q": quantised, "s": scale, "shape": np.array([6, 4])} | ({} if zero_point is None else {"z": zero_point})
    nodes = [
        helper.make_node("DequantizeLinear", [name for name in ("q", "s", "z") if name in arrays], ["w"], axis=axis),
        helper.make_node("Reshape", ["w", "shape"], ["r"]),
        helper.make_node("MatMul", ["x", "r"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "weights",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), quantised


@pytest.mark.parametrize(
    ("scale", "zero_point", "axis"),
    [
        (np.float32(0.25), np.uint8(7), 1),
        (np.linspace(0.1, 1, 4, dtype=np.float32), np.arange(4, dtype=np.uint8), 0),
        (np.linspace(0.1, 1, 6, dtype=np.float32), None, 1),
    ],
    ids=["tensor", "rows", "columns"],
)
def test_folding_agrees_with_onnx_runtime(scale: np.ndarray, zero_point: np.ndarray | None, axis: int) -> None:
    model, _ = weight_model(np.asarray(scale), None if zero_point is None else np.asarray(zero_point), axis)
    folded = dequantise(model)
    assert [node.op_type for node in folded.graph.node] == ["MatMul"]
    x = np.eye(6, dtype=np.float32)
    before, after = (ort.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0] for m in (model, folded))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("axis", "block", "blocks"), [(1, 2, 4), (1, -1, 3), (1, 4, 1), (2, 2, 3)])
def test_blocks_that_do_not_fit_are_refused(axis: int, block: int, blocks: int) -> None:
    quantised = np.zeros((4, 6), np.int8)
    scale = np.ones((4, blocks), np.float32)
    with pytest.raises((ValueError, IndexError)):
        dequantise_weight(quantised, scale, np.zeros_like(scale), axis, block)


def test_a_damaged_attribute_names_the_weight() -> None:
    model, _ = weight_model(np.ones((4, 3), np.float32), None, 7)
    model.graph.node[0].attribute.add(name="block_size", i=2, type=onnx.AttributeProto.INT)
    with pytest.raises(ModelError, match=r"weight 'q': its scales or shape do not fit"):
        dequantise(model)


def test_scales_that_do_not_fit_name_the_weight() -> None:
    model, _ = weight_model(np.ones(5, np.float32), None, 1)
    with pytest.raises(ModelError, match=r"weight 'q': its scales or shape do not fit .*; get the model file again"):
        dequantise(model)


@pytest.mark.parametrize(("shape", "fits"), [([0, 6], True), ([-1, 2], True), ([5, 5], False)])
def test_reshapes_follow_onnx(shape: list[int], fits: bool) -> None:
    model, quantised = weight_model(np.ones(1, np.float32), None, 1)
    place = next(tensor for tensor in model.graph.initializer if tensor.name == "shape")
    place.CopyFrom(numpy_helper.from_array(np.array(shape), "shape"))
    if not fits:
        with pytest.raises(ModelError, match="weight 'w': its scales or shape do not fit"):
            dequantise(model)
        return
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in dequantise(model).graph.initializer}
    np.testing.assert_array_equal(weights["r"].ravel(), quantised.ravel())


def test_quantised_activations_stay() -> None:
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["x", "s"], ["y"])],
        "activation",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.float32(0.5), "s")],
    )
    folded = dequantise(helper.make_model(graph))
    assert [node.op_type for node in folded.graph.node] == ["DequantizeLinear"]


def test_sface_keeps_the_image_as_its_only_input(backbones: dict[str, Backbone]) -> None:
    graph = backbones["sface"].model.graph
    assert [value.name for value in graph.input] == ["data"]
    assert not graph.value_info
    assert {"DequantizeLinear", "Reshape"}.isdisjoint(node.op_type for node in graph.node)


def test_sface_agrees_with_opencv_on_the_quantised_file(sface_file: Path, backbones: dict[str, Backbone]) -> None:
    rng = np.random.default_rng(3)
    images = cv2.GaussianBlur(rng.integers(0, 256, (112, 112 * 9), dtype=np.uint8), (0, 0), 3)
    faces = images.reshape(112, 112, 3, 3).transpose(2, 3, 0, 1).astype(np.float32)
    reference = cv2.dnn.readNetFromONNX(str(sface_file))
    expected = []
    for face in faces:
        reference.setInput(face[None], "data")
        expected.append(reference.forward()[0].copy())
    session = ort.InferenceSession(backbones["sface"].model.SerializeToString())
    (found,) = session.run(["fc1"], {"data": faces})
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 2e-6
