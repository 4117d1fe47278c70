from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from face_networks import export
from probface.errors import InvalidValue, NotAFaceModel
from probface.models.backbone import Backbone, load_backbone
from probface.models.graph import inspect_face_graph
from probface.models.taps import Taps, find_taps, read_taps, with_features

LAST_OF_SFACE = ("conv_2_relu", "conv_4_relu", "conv_6_relu", "conv_12_relu", "conv_14_relu")


def test_sface_gives_2112_numbers(backbones: dict[str, Backbone]) -> None:
    taps = find_taps(backbones["sface"].model, backbones["sface"].face)
    assert taps == Taps(LAST_OF_SFACE, (64, 128, 256, 512, 1024), "fc1", 128)
    assert taps.width == 2112


@pytest.mark.parametrize(
    ("network", "channels", "dim"),
    [("resnet", (8, 12, 16, 24), 64), ("mobilefacenet", (24, 40, 40), 32)],
)
def test_networks_from_torch(backbones: dict[str, Backbone], network: str, channels: tuple[int, ...], dim: int) -> None:
    taps = find_taps(backbones[network].model, backbones[network].face)
    assert (taps.channels, taps.dim) == (channels, dim)


def values_of(backbone: Backbone, names: list[str], images: np.ndarray) -> list[np.ndarray]:
    """The named tensors, one image at a time, from a copy of the graph with those outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(backbone.model)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(model.SerializeToString())
    rows = [session.run(names, {backbone.face.input: image[None]}) for image in images]
    return [np.concatenate(tensors).astype(np.float64) for tensors in zip(*rows, strict=True)]


@pytest.mark.parametrize("network", ["sface", "resnet", "mobilefacenet"])
@pytest.mark.parametrize("flatten_last", [False, True], ids=["pooled", "flattened"])
def test_the_fused_vector_is_flatten_pools_embedding(
    backbones: dict[str, Backbone], network: str, flatten_last: bool
) -> None:
    backbone = backbones[network]
    taps = find_taps(backbone.model, backbone.face, flatten_last=flatten_last)
    images = np.random.default_rng(1).normal(0, 1, (3, 3, backbone.face.height, backbone.face.width))
    images = (images * backbone.input.scale).astype(np.float32)
    *maps, embedding = values_of(backbone, [*taps.names, taps.embedding], images)
    parts = [tensor.mean(axis=(2, 3)) for tensor in maps] + [embedding]
    if flatten_last:
        parts.insert(0, maps[-1].transpose(0, 2, 3, 1).reshape(len(images), -1))
    expected = np.concatenate(parts, axis=1)

    model = with_features(backbone.model, taps)
    onnx.checker.check_model(model, full_check=True)
    (found,) = ort.InferenceSession(model.SerializeToString()).run(["features"], {backbone.face.input: images})
    assert found.shape == (3, taps.width)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_means_stay_in_the_runtimes_blocked_layout(tmp_path: Path) -> None:
    """Pools that leave it one by one cost a small network 10 % of its time."""
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 16, 28)]
    backbone = load_backbone(export(nn.Sequential(*layers, nn.Flatten()), (112, 112)))
    reorders = []
    for model in (backbone.model, with_features(backbone.model, find_taps(backbone.model, backbone.face))):
        options = ort.SessionOptions()
        options.log_severity_level = 3  # the optimised graph suits this processor only, and the log says so
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        ort.InferenceSession(model.SerializeToString(), options)
        nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
        reorders.append(sum(node.op_type == "ReorderOutput" for node in nodes))
    assert reorders[1] <= reorders[0] + 1


def test_the_normalisation_behind_the_embedding_is_cut_off(backbones: dict[str, Backbone]) -> None:
    backbone = backbones["mobilefacenet"]
    model = with_features(backbone.model, find_taps(backbone.model, backbone.face))
    assert "ReduceL2" in {node.op_type for node in backbone.model.graph.node}
    assert "ReduceL2" not in {node.op_type for node in model.graph.node}


def test_the_flattened_sface_is_as_wide_as_the_paper_has_it(backbones: dict[str, Backbone]) -> None:
    taps = find_taps(backbones["sface"].model, backbones["sface"].face, flatten_last=True)
    assert (taps.flatten, taps.flatten_width) == ("conv_14_relu", 7 * 7 * 1024)
    assert taps.spelling == ("flatten:conv_14_relu", *(f"gap:{name}" for name in LAST_OF_SFACE), "embedding:fc1")


def test_without_fusion_only_the_embedding_is_left(backbones: dict[str, Backbone]) -> None:
    taps = find_taps(backbones["sface"].model, backbones["sface"].face, fusion=False)
    assert (taps.spelling, taps.width) == (("embedding:fc1",), 128)


def test_names_overrule_the_search(backbones: dict[str, Backbone]) -> None:
    backbone = backbones["sface"]
    assert find_taps(backbone.model, backbone.face, names=["conv_3_relu"]).channels == (128,)
    with pytest.raises(NotAFaceModel, match=r"tap 'layer4' is not in the model: must name a tensor"):
        find_taps(backbone.model, backbone.face, names=["layer4"])
    with pytest.raises(NotAFaceModel, match=r"tap 'pre_fc1' has shape \(1, 128\)"):
        find_taps(backbone.model, backbone.face, names=["pre_fc1"])


@pytest.mark.parametrize("flatten_last", [False, True])
@pytest.mark.parametrize("network", ["sface", "resnet", "mobilefacenet"])
def test_the_spelling_is_read_back(backbones: dict[str, Backbone], network: str, flatten_last: bool) -> None:
    backbone = backbones[network]
    taps = find_taps(backbone.model, backbone.face, flatten_last=flatten_last)
    assert read_taps(backbone.model, taps.spelling) == taps


@pytest.mark.parametrize(
    "features",
    [("embedding:fc1", "gap:conv_2_relu"), ("gap:conv_2_relu", "max:conv_2_relu", "embedding:fc1")],
    ids=["order", "kind"],
)
def test_other_spellings_are_refused(backbones: dict[str, Backbone], features: tuple[str, ...]) -> None:
    with pytest.raises(InvalidValue, match="must be at most one flatten:NAME, then gap:NAME"):
        read_taps(backbones["sface"].model, features)


def test_a_missing_embedding_is_named(backbones: dict[str, Backbone]) -> None:
    with pytest.raises(NotAFaceModel, match="no embedding 'fc9'"):
        read_taps(backbones["sface"].model, ("embedding:fc9",))


SWISH = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["act"])]
HARD_SWISH = [
    helper.make_node("Add", ["x", "three"], ["a"]),
    helper.make_node("Clip", ["a", "zero", "six"], ["b"]),
    helper.make_node("Mul", ["x", "b"], ["c"]),
    helper.make_node("Div", ["c", "six"], ["d"]),
]
GELU = [
    helper.make_node("Div", ["x", "six"], ["a"]),
    helper.make_node("Erf", ["a"], ["b"]),
    helper.make_node("Add", ["b", "three"], ["c"]),
    helper.make_node("Mul", ["x", "c"], ["act"]),
]
TANH_GELU = [
    helper.make_node("Mul", ["x", "three"], ["half"]),
    helper.make_node("Mul", ["x", "x"], ["a"]),
    helper.make_node("Mul", ["x", "a"], ["b"]),
    helper.make_node("Mul", ["b", "six"], ["c"]),
    helper.make_node("Add", ["x", "c"], ["d"]),
    helper.make_node("Tanh", ["d"], ["e"]),
    helper.make_node("Add", ["e", "three"], ["f"]),
    helper.make_node("Mul", ["half", "f"], ["act"]),
]
CONSTANT_NODE = [
    helper.make_node("Constant", [], ["four"], value_float=4.0),
    helper.make_node("Add", ["x", "four"], ["a"]),
    helper.make_node("HardSigmoid", ["a"], ["b"]),
    helper.make_node("Mul", ["x", "b"], ["act"]),
]
RELU6 = [helper.make_node("Clip", ["x", "zero", "six"], ["act"])]
SQUEEZE_AND_EXCITE = [
    helper.make_node("Relu", ["x"], ["act"]),
    helper.make_node("GlobalAveragePool", ["act"], ["g"]),
    helper.make_node("Relu", ["g"], ["h"]),
    helper.make_node("Sigmoid", ["h"], ["gate"]),
    helper.make_node("Mul", ["act", "gate"], ["excited"]),
]


@pytest.mark.parametrize(
    ("nodes", "tap"),
    [
        (SWISH, "act"),
        (HARD_SWISH, "c"),
        (GELU, "act"),
        (TANH_GELU, "act"),
        (CONSTANT_NODE, "act"),
        (RELU6, "act"),
        (SQUEEZE_AND_EXCITE, "act"),
    ],
    ids=["swish", "hard swish", "gelu", "tanh gelu", "constant node", "relu6", "squeeze and excite"],
)
def test_activations_written_in_several_nodes(nodes: list[onnx.NodeProto], tap: str) -> None:
    last = nodes[-1].output[0]
    side = [helper.make_node("Relu", ["x"], ["unused"])]  # not on the way to the embedding
    tail = [helper.make_node("GlobalAveragePool", [last], ["p"]), helper.make_node("Flatten", ["p"], ["out"])]
    constants = {"zero": 0.0, "three": 3.0, "six": 6.0, "w": np.ones((4, 3, 3, 3))}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["x"]), *nodes, *side, *tail],
        "activation",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert find_taps(model, inspect_face_graph(model)).names == (tap,)


def test_a_graph_without_activations_asks_for_names() -> None:
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["image"], ["p"]), helper.make_node("Flatten", ["p"], ["out"])],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph)
    with pytest.raises(NotAFaceModel, match=r"no activation .* is found; name the tensors to fuse"):
        find_taps(model, inspect_face_graph(model))


def offering(outputs: dict[str, list[object] | None]) -> onnx.ModelProto:
    """A network of two convolutions and activations that offers some of its tensors as outputs."""
    rng = np.random.default_rng(4)
    weights = {"w1": rng.normal(size=(4, 3, 3, 3)), "w2": rng.normal(size=(5, 4, 3, 3)), "w3": rng.normal(size=(60, 6))}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["x1"], pads=[1, 1, 1, 1], strides=[4, 4]),
        helper.make_node("Relu", ["x1"], ["act1"]),
        helper.make_node("Sub", ["act1", "act1"], ["none"]),
        helper.make_node("Add", ["act1", "none"], ["first"]),  # a layer whose end is no activation
        helper.make_node("Conv", ["first", "w2"], ["x2"], pads=[1, 1, 1, 1], strides=[1, 1]),
        helper.make_node("Relu", ["x2"], ["act2"]),
        helper.make_node("Add", ["act2", "x2"], ["last"]),
        helper.make_node("Flatten", ["last"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w3"], ["raw"]),
    ]
    graph = helper.make_graph(
        nodes,
        "offering",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 16, 12])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


STAGES = {"raw": ["N", 6], "first": ["N", 4, 4, 3], "last": ["N", 5, 4, 3]}


def test_layers_offered_as_outputs_are_fused() -> None:
    backbone = load_backbone(offering(STAGES).SerializeToString())
    assert backbone.face.embedding == "raw"
    taps = find_taps(backbone.model, backbone.face)
    assert taps == Taps(("first", "last"), (4, 5), "raw", 6)
    silent = load_backbone(offering({"raw": ["N", 6]}).SerializeToString())
    assert find_taps(silent.model, silent.face).names == ("act2",)  # the last activation of the one resolution
    assert find_taps(backbone.model, backbone.face, names=["act1"]).names == ("act1",)


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("network", ["offering", "sface", "resnet"])
def test_the_papers_form(backbones: dict[str, Backbone], network: str, fusion: bool) -> None:
    backbone = backbones.get(network) or load_backbone(offering(STAGES).SerializeToString())
    taps = find_taps(backbone.model, backbone.face, fusion=fusion, flatten_last=True, embedding=False)
    layers = find_taps(backbone.model, backbone.face).names
    pooled = layers if fusion else ()
    assert taps.spelling == (
        f"flatten:{layers[-1]}",
        *(f"gap:{name}" for name in pooled),
        f"mu:{backbone.face.embedding}",
    )
    assert read_taps(backbone.model, taps.spelling) == taps

    images = np.random.default_rng(1).normal(0, 1, (3, 3, backbone.face.height, backbone.face.width))
    images = (images * backbone.input.scale).astype(np.float32)
    maps = values_of(backbone, list(layers), images)
    parts = [maps[-1].transpose(0, 2, 3, 1).reshape(3, -1)]
    parts += [tensor.mean(axis=(2, 3)) for tensor in maps] if fusion else []
    expected = np.concatenate(parts, axis=1)
    model = with_features(backbone.model, taps)
    onnx.checker.check_model(model, full_check=True)
    (found,) = ort.InferenceSession(model.SerializeToString()).run(["features"], {backbone.face.input: images})
    assert found.shape == expected.shape == (3, taps.width)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_head_that_reads_nothing(backbones: dict[str, Backbone]) -> None:
    backbone = backbones["sface"]
    message = "the head reads nothing; fuse layers, flatten the last, or read the embedding"
    with pytest.raises(InvalidValue, match=message):
        find_taps(backbone.model, backbone.face, fusion=False, embedding=False)
    with pytest.raises(InvalidValue, match=message):
        read_taps(backbone.model, ("mu:fc1",))


@pytest.mark.parametrize(
    "features",
    [
        ("mu:fc1", "gap:conv_2_relu"),
        ("gap:conv_2_relu", "mu:fc1", "embedding:fc1"),
        ("gap:conv_2_relu", "embedding:fc1", "mu:fc1"),
        ("flatten:conv_14_relu", "flatten:conv_14_relu", "mu:fc1"),
    ],
    ids=["order", "mu and embedding", "embedding and mu", "two flattened"],
)
def test_other_spellings_of_the_papers_form(backbones: dict[str, Backbone], features: tuple[str, ...]) -> None:
    with pytest.raises(InvalidValue, match="then embedding:NAME, or mu:NAME where the head does not read it"):
        read_taps(backbones["sface"].model, features)
