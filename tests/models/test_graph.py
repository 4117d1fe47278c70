from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from probface.errors import ModelError, ModelNotFound, NotAFaceModel
from probface.models.backbone import Backbone
from probface.models.graph import guess_input_spec, inspect_face_graph, load_graph, make_batch_dynamic


def face_graph(
    tail: list[onnx.NodeProto] | None = None,
    *,
    shape: tuple[int | str, ...] = (1, 3, 16, 16),
    outputs: tuple[str, ...] = ("out",),
    front: str = "",
    opset: int = 17,
) -> ModelProto:
    """Image - [scaling] - global average - (N, 3) "raw" - tail."""
    nodes = [helper.make_node(front, ["image", "c"], ["scaled"])] if front else []
    nodes += [
        helper.make_node("GlobalAveragePool", ["scaled" if front else "image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["raw"]),
        *(tail if tail is not None else [helper.make_node("Relu", ["raw"], ["out"])]),
    ]
    constants = {"c": np.float32(2), "two": np.float32(2), "tiny": np.float32(1e-9)}
    constants |= {"half": np.float32(0.5), "axes": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "face",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_a_file_that_is_not_onnx_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photo.onnx"
    path.write_bytes(b"\xff\xd8\xff\xe0 not a model")
    with pytest.raises(ModelError, match=r"photo\.onnx: not an ONNX file; give a model"):
        load_graph(path)


def test_an_empty_file_has_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    with pytest.raises(ModelError, match=r"empty\.onnx: .* holds a graph, and this one has none"):
        load_graph(path)


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load_graph(tmp_path)
    with pytest.raises(ModelNotFound, match=r"gone\.onnx: no such model file"):
        load_graph(tmp_path / "gone.onnx")


def external_model(folder: Path, location: str) -> Path:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["w"], ["y"])],
        "external",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [weight],
    )
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_external_weights_are_read_from_the_models_folder(tmp_path: Path) -> None:
    values = np.arange(4, dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(values.tobytes())
    model = load_graph(external_model(tmp_path, "weights.bin"))
    np.testing.assert_array_equal(numpy_helper.to_array(model.graph.initializer[0]), values)


@pytest.mark.parametrize("kind", ["parent", "absolute", "link"])
def test_external_weights_elsewhere_are_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(secret)
    location = {"parent": "../secret.bin", "absolute": str(secret), "link": "link.bin"}[kind]
    with pytest.raises(ModelError, match="lie outside the model's folder"):
        load_graph(external_model(folder, location))


def test_missing_external_weights_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"external weights cannot be read") as caught:
        load_graph(external_model(tmp_path, "gone.bin"))
    assert "\n" not in str(caught.value)


def test_functions_of_the_file_are_written_out() -> None:
    model = face_graph([helper.make_node("Act", ["raw"], ["out"], domain="own")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Act", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], opsets[:1])
    model = helper.make_model(model.graph, functions=[function], opset_imports=opsets, ir_version=8)
    read = load_graph(model.SerializeToString())
    assert [node.op_type for node in read.graph.node] == ["GlobalAveragePool", "Flatten", "Relu"]
    assert inspect_face_graph(read).embedding == "out"


def test_external_weights_in_bytes_are_refused(tmp_path: Path) -> None:
    data = external_model(tmp_path, "weights.bin").read_bytes()
    with pytest.raises(ModelError, match="give the path instead"):
        load_graph(data)


@pytest.mark.parametrize(
    ("network", "size", "dim"),
    [("sface", (112, 112), 128), ("resnet", (112, 112), 64), ("mobilefacenet", (112, 96), 32)],
)
def test_the_ends_of_real_networks(
    backbones: dict[str, Backbone], network: str, size: tuple[int, int], dim: int
) -> None:
    face = backbones[network].face
    assert ((face.height, face.width), face.dim) == (size, dim)


def test_sface_gives_its_batch_norm(backbones: dict[str, Backbone]) -> None:
    face = backbones["sface"].face
    assert (face.input, face.embedding, face.opset) == ("data", "fc1", 21)


NORMALISATIONS = {
    "LpNormalization": [helper.make_node("LpNormalization", ["raw"], ["out"], axis=1, p=2)],
    "torch normalize": [
        helper.make_node("ReduceL2", ["raw"], ["n"], axes=[1], keepdims=1),
        helper.make_node("Clip", ["n", "tiny"], ["clipped"]),
        helper.make_node("Shape", ["raw"], ["shape"]),
        helper.make_node("Expand", ["clipped", "shape"], ["wide"]),
        helper.make_node("Div", ["raw", "wide"], ["out"]),
    ],
    "Mul, Sqrt": [
        helper.make_node("Mul", ["raw", "raw"], ["square"]),
        helper.make_node("ReduceSum", ["square", "axes"], ["sum"]),
        helper.make_node("Sqrt", ["sum"], ["n"]),
        helper.make_node("Add", ["n", "tiny"], ["safe"]),
        helper.make_node("Div", ["raw", "safe"], ["out"]),
    ],
    "Pow, Pow": [
        helper.make_node("Pow", ["raw", "two"], ["square"]),
        helper.make_node("ReduceSum", ["square", "axes"], ["sum"]),
        helper.make_node("Pow", ["sum", "half"], ["n"]),
        helper.make_node("Div", ["raw", "n"], ["out"]),
    ],
    "tensorflow l2_normalize": [
        helper.make_node("ReduceSumSquare", ["raw"], ["sum"], axes=[1], keepdims=1),
        helper.make_node("Max", ["sum", "tiny"], ["safe"]),
        helper.make_node("Sqrt", ["safe"], ["n"]),
        helper.make_node("Reciprocal", ["n"], ["inverse"]),
        helper.make_node("Mul", ["inverse", "raw"], ["scaled_raw"]),
        helper.make_node("Identity", ["scaled_raw"], ["out"]),
    ],
}


@pytest.mark.parametrize("tail", NORMALISATIONS.values(), ids=NORMALISATIONS.keys())
def test_a_final_normalisation_is_walked_back(tail: list[onnx.NodeProto]) -> None:
    assert inspect_face_graph(face_graph(tail)).embedding == "raw"


@pytest.mark.parametrize(
    "tail",
    [
        [helper.make_node("Div", ["raw", "c"], ["out"])],
        [helper.make_node("Sqrt", ["two"], ["n"]), helper.make_node("Div", ["raw", "n"], ["out"])],
        [helper.make_node("Mul", ["raw", "raw"], ["out"])],
        [helper.make_node("ReduceMax", ["raw"], ["n"], axes=[1]), helper.make_node("Div", ["raw", "n"], ["out"])],
        [
            helper.make_node("Relu", ["raw"], ["other"]),
            helper.make_node("ReduceL2", ["other"], ["n"], axes=[1]),
            helper.make_node("Div", ["raw", "n"], ["out"]),
        ],
    ],
    ids=["by a constant", "by a constant root", "square", "by the maximum", "by another tensor's length"],
)
def test_other_divisions_stay(tail: list[onnx.NodeProto]) -> None:
    assert inspect_face_graph(face_graph(tail)).embedding == "out"


def test_one_of_several_outputs_is_chosen_by_name() -> None:
    tail = [helper.make_node("Relu", ["raw"], ["a"]), helper.make_node("Neg", ["raw"], ["b"])]
    model = face_graph(tail, outputs=("a", "b"))
    assert inspect_face_graph(model, "b").embedding == "b"
    with pytest.raises(NotAFaceModel, match=r"outputs of shape \(N, D\): 'a', 'b'; there must be one"):
        inspect_face_graph(model)
    with pytest.raises(NotAFaceModel, match=r"no output 'c' .*: 'a', 'b'"):
        inspect_face_graph(model, "c")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (face_graph(shape=(1, 112, 112, 3)), r"'image' of shape \(1, 112, 112, 3\) has its channels last"),
        (face_graph(shape=(1, 1, 28, 28)), r"has shape \(1, 1, 28, 28\)"),
        (face_graph(shape=("N", 3, "H", "W")), r"has shape \(0, 3, 0, 0\) \(0: not fixed\)"),
        (face_graph([helper.make_node("Softmax", ["raw"], ["out"])]), r"output 'out' \(Softmax, 3 wide\) is no embed"),
        (face_graph([helper.make_node("Relu", ["pooled"], ["out"])]), r"outputs of shape \(N, D\): none"),
        (face_graph(opset=6), r"operator set 6, must be 7 or later"),
    ],
    ids=["NHWC", "grey", "free size", "classifier", "rank 4", "old"],
)
def test_other_graphs_are_refused(model: ModelProto, message: str) -> None:
    with pytest.raises(NotAFaceModel, match=message):
        inspect_face_graph(model)


def test_a_second_input_is_refused() -> None:
    model = face_graph([helper.make_node("Add", ["raw", "extra"], ["out"])])
    model.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1, 3]))
    with pytest.raises(NotAFaceModel, match=r"2 inputs \('image', 'extra'\), must be one image"):
        inspect_face_graph(model)


def test_the_detector_is_no_face_network(sface_file: Path) -> None:
    with pytest.raises(NotAFaceModel, match="must be"):
        inspect_face_graph(load_graph(sface_file.with_name("face_detection_yunet_2023mar_int8bq.onnx")))


def test_the_batch_is_named_in_a_copy() -> None:
    model = face_graph()
    dynamic = make_batch_dynamic(model)
    assert dynamic.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


@pytest.mark.parametrize("front", ["Sub", "Mul", "Div", "Add"])
def test_scaling_in_front_means_grey_levels_go_in(front: str) -> None:
    spec = guess_input_spec(face_graph(front=front))
    assert (spec.mean, spec.scale) == (0, 1)


def test_without_scaling_in_front_the_usual_scaling_is_guessed() -> None:
    spec = guess_input_spec(face_graph())
    assert (spec.mean, spec.scale, spec.channels) == (127.5, 127.5, "rgb")


def test_templates_follow_the_size(backbones: dict[str, Backbone]) -> None:
    assert backbones["sface"].input.template == backbones["resnet"].input.template == "arcface"
    assert backbones["mobilefacenet"].input.template == "arcface-96"
    assert (backbones["sface"].input.mean, backbones["sface"].input.scale) == (0, 1)
