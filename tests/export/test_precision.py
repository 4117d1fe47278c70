import logging
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from probface.contract import METADATA_KEY, InputSpec, ModelContract, Threshold
from probface.encoder.onnx import Encoder
from probface.errors import InvalidValue, ModelError
from probface.export.accuracy import random_crops
from probface.export.precision import converted_contract, to_float16, to_int8
from probface.models.backbone import Backbone
from probface.models.graft import graft, read_contract
from probface.models.head_weights import HeadWeights
from probface.models.registry import ResolvedModel
from probface.models.taps import find_taps
from probface.types import Embeddings, Image

Make = Callable[[str], ModelProto]


@pytest.fixture(scope="session")
def grafted(backbones: dict[str, Backbone], make_head: Callable[..., HeadWeights]) -> Make:
    """A small network with a head of random weights."""

    def make(name: str) -> ModelProto:
        backbone = backbones[name]
        head = make_head(backbone, find_taps(backbone.model, backbone.face))
        return graft(backbone.model, head, backbone_digest=backbone.digest)

    return make


def _contract(model: ModelProto) -> ModelContract:
    contract = read_contract(model)
    assert contract is not None
    return contract


def _crops(model: ModelProto, count: int = 12) -> Image:
    return random_crops(_contract(model).input, count)


def _embed(model: ModelProto, crops: Image) -> Embeddings:
    """Through the checks of the encoder: unit length, positive and finite variances, the contract's widths."""
    return Encoder(ResolvedModel("test", model.SerializeToString(), _contract(model)), threads=1).encode(crops)


def _largest_angle(a: Embeddings, b: Embeddings) -> float:
    return float(np.degrees(np.arccos(np.clip((a.mu.astype(float) * b.mu).sum(1), -1, 1))).max())


def _floats(model: ModelProto, kind: int) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == kind}


def _head(model: ModelProto) -> list[bytes]:
    """The grafted nodes, to the last bit, and their weights."""
    nodes = [node for node in model.graph.node if node.name.startswith("probface/")]
    weights = [tensor for tensor in model.graph.initializer if tensor.name.startswith("probface/")]
    return [part.SerializeToString() for part in (*nodes, *sorted(weights, key=lambda tensor: tensor.name))]


@pytest.mark.parametrize("name", ["resnet", "mobilefacenet", "pinned"])
def test_float16_moves_the_outputs_little(grafted: Make, name: str) -> None:
    model = grafted(name)
    half = to_float16(model)
    crops = _crops(model)
    before, after = _embed(model, crops), _embed(half, crops)
    assert 0 < _largest_angle(before, after) < 0.5
    assert np.abs(np.log(before.sigma_sq / after.sigma_sq)).max() < 0.02
    assert half.ByteSize() < model.ByteSize()
    assert _head(half) == _head(model)
    for value, given in zip(
        (*half.graph.input, *half.graph.output), (*model.graph.input, *model.graph.output), strict=True
    ):
        assert value == given
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        assert value.type.tensor_type.shape.dim[0].dim_param == "N"
    weights = _floats(model, TensorProto.FLOAT)
    rounded = _floats(half, TensorProto.FLOAT16)
    assert rounded
    for key, value in rounded.items():
        np.testing.assert_array_equal(value, weights[key].astype(np.float16))
    assert all(key.startswith("probface/") for key in _floats(half, TensorProto.FLOAT))


@pytest.mark.parametrize("name", ["resnet", "mobilefacenet", "pinned"])
def test_int8(grafted: Make, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    model = grafted(name)
    crops = _crops(model, 20)
    seen: list[int] = []
    handlers = list(logging.getLogger().handlers)
    small = to_int8(model, crops, _contract(model).input, progress=seen.append)
    assert sum(seen) == 20
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers
    before, after = _embed(model, crops), _embed(small, crops)
    assert 0 < _largest_angle(before, after) < 30
    assert np.abs(np.log(before.sigma_sq / after.sigma_sq)).max() < 1.5
    assert _head(small) == _head(model)
    assert [value.type.tensor_type.shape.dim[0].dim_param for value in small.graph.output] == ["N", "N"]
    assert not any(node.op_type == "BatchNormalization" for node in small.graph.node[:2])
    shapes = {tensor.name: tuple(tensor.dims) for tensor in small.graph.initializer}
    produced = {node.output[0]: node for node in small.graph.node}
    convolutions = [node for node in small.graph.node if node.op_type == "Conv"]
    assert convolutions
    for node in convolutions:  # one scale for each output channel
        source = produced[node.input[1]]
        assert source.op_type == "DequantizeLinear"
        assert shapes[source.input[1]] == shapes[source.input[0]][:1]
        assert produced[node.input[0]].op_type == "DequantizeLinear"


def test_int8_of_an_old_operator_set(grafted: Make) -> None:
    model = grafted("resnet")
    for entry in model.opset_import:
        entry.version = 12
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            kept = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
            node.ClearField("attribute")
            node.attribute.extend(kept)
        if node.op_type == "ReduceL2" and len(node.input) == 2:  # its axes were an attribute then
            del node.input[1]
            node.attribute.extend([onnx.helper.make_attribute("axes", [1])])
    crops = _crops(model)
    small = to_int8(model, crops, _contract(model).input)
    assert small.opset_import[0].version >= 13
    assert _largest_angle(_embed(model, crops), _embed(small, crops)) < 30


def test_sface_in_float16(backbones: dict[str, Backbone], grafted: Make) -> None:
    model = grafted("sface")
    half = to_float16(model)
    assert half.ByteSize() < 0.56 * model.ByteSize()
    assert _largest_angle(_embed(model, _crops(model, 2)), _embed(half, _crops(model, 2))) < 1


def test_the_contract_says_what_the_model_is(grafted: Make) -> None:
    threshold = Threshold("cosine", 1e-2, 0.3, 0.02, 5000, 40, "folk")
    contract = ModelContract(
        name="small",
        dim=64,
        sigma_sq_width=1,
        input=InputSpec(),
        backbone_digest="0" * 64,
        thresholds=(threshold,),
        data={"folk": "all pairs of 100 people"},
    )
    converted = converted_contract(contract, "int8")
    assert converted.name == "small (int8)"
    assert converted.thresholds == (threshold,)
    assert converted.data == {
        "folk": "all pairs of 100 people; measured in float32, before the conversion to int8",
    }
    half = to_float16(grafted("resnet"))
    assert _contract(half) == converted_contract(_contract(grafted("resnet")), "float16")
    assert [entry.key for entry in half.metadata_props] == [METADATA_KEY]


def test_what_is_refused(grafted: Make, backbones: dict[str, Backbone]) -> None:
    model = grafted("resnet")
    spec = _contract(model).input
    with pytest.raises(InvalidValue, match="0 faces to calibrate"):
        to_int8(model, _crops(model, 0), spec)
    with pytest.raises(InvalidValue, match="must be RGB uint8"):
        to_int8(model, _crops(model)[:, :50], spec)
    with pytest.raises(ModelError, match=r"holds FLOAT16 .* must be all float32"):
        to_int8(to_float16(model), _crops(model), spec)
    with pytest.raises(ModelError, match=r"holds U?INT8 .* must be all float32"):
        to_float16(to_int8(model, _crops(model), spec))
    with pytest.raises(ModelError, match="no nodes named probface"):
        to_float16(backbones["resnet"].model)
    del model.metadata_props[:]
    with pytest.raises(ModelError, match="no model contract"):
        to_float16(model)


def test_torch_is_not_needed() -> None:
    code = (
        "import sys\n"
        "import probface.cli.export, probface.export.one_file, probface.export.precision as precision\n"
        "precision._float16_converter()\n"
        "import onnxruntime.quantization.shape_inference\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
