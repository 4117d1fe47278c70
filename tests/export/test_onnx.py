"""Narrow backbones as ONNX, run by ONNX Runtime against torch."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto

import probface
from probface.contract import InputSpec
from probface.errors import ModelError
from probface.export.onnx import OPSET, check_parity, export_backbone
from probface.models.backbone import Backbone, load_backbone
from probface.models.taps import find_taps, with_features
from probface.nn.architecture import Architecture, as_module, build_backbone
from probface.nn.face_network import FaceNetwork

SPECS = {
    "resface20": InputSpec(96, 96, mean=128.0, scale=128.0),
    "iresnet18": InputSpec(channels="bgr", mean=100.0, scale=64.0),  # not what would be guessed
    "mobilefacenet": InputSpec(),
}
STAGES = ("stage_1", "stage_2", "stage_3", "stage_4")
every_network = pytest.mark.parametrize("name", SPECS)


@dataclass
class Exported:
    network: FaceNetwork
    model: ModelProto
    backbone: Backbone


@pytest.fixture(scope="module")
def exported() -> dict[str, Exported]:
    """With the statistics of a batch, as training leaves them; exported in training mode."""
    made = {}
    for name, spec in SPECS.items():
        torch.manual_seed(8)
        network = build_backbone(Architecture(name, 1 / 16, 12))
        for module in as_module(network).modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.momentum = 0.9
        as_module(network).train()(faces(network, 8))
        model = export_backbone(network, spec)
        made[name] = Exported(network, model, load_backbone(model.SerializeToString()))
    return made


def faces(network: FaceNetwork, count: int) -> torch.Tensor:
    return torch.rand(count, 3, *network.size, generator=torch.Generator().manual_seed(2)) * 2 - 1


@every_network
@pytest.mark.parametrize("count", [1, 2, 5])
def test_onnx_runtime_computes_what_torch_computes(name: str, count: int, exported: dict[str, Exported]) -> None:
    made = exported[name]
    assert not as_module(made.network).training
    images = faces(made.network, count)
    session = ort.InferenceSession(made.model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["embedding", *STAGES]
    found = session.run(None, {"image": images.numpy()})
    with torch.no_grad():
        embedding, stages = made.network(images)
    for ours, theirs in zip(found, (embedding, *stages), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@every_network
def test_the_graph(name: str, exported: dict[str, Exported]) -> None:
    made = exported[name]
    onnx.checker.check_model(made.model, full_check=True)
    assert [(entry.domain, entry.version) for entry in made.model.opset_import] == [("", OPSET)]
    assert not made.model.functions
    (image,) = made.model.graph.input
    batch, *rest = image.type.tensor_type.shape.dim
    assert (image.name, batch.dim_param) == ("image", "N")
    assert [dim.dim_value for dim in rest] == [3, *made.network.size]
    for output in made.model.graph.output:
        batch, *rest = output.type.tensor_type.shape.dim
        assert batch.dim_param == "N"
        assert all(dim.dim_value > 0 for dim in rest)
    assert "Dropout" not in {node.op_type for node in made.model.graph.node}


@every_network
def test_nothing_of_this_machine_is_in_the_file(name: str, exported: dict[str, Exported]) -> None:
    data = exported[name].model.SerializeToString()
    places = {
        Path(probface.__file__).parent,
        Path(torch.__file__).parent,
        Path(__file__).parent,
        Path.cwd(),
        Path.home(),
    }
    assert [place for place in places if str(place).encode() in data and len(place.parts) > 1] == []
    for trace in (rb"\.py\b", rb"site-packages", rb"Traceback", rb"stack_trace", rb"_AsOutputs"):
        assert re.search(trace, data) is None, trace
    assert not any(node.doc_string or node.metadata_props for node in exported[name].model.graph.node)


@every_network
def test_it_is_read_back_as_a_backbone(name: str, exported: dict[str, Exported]) -> None:
    made = exported[name]
    backbone = made.backbone
    assert backbone.input == SPECS[name]
    assert (backbone.face.embedding, backbone.face.dim) == ("embedding", 12)
    assert (backbone.face.input, backbone.face.height, backbone.face.width) == ("image", *made.network.size)
    taps = find_taps(backbone.model, backbone.face)
    assert (taps.names, taps.channels) == (STAGES, made.network.channels)
    model = with_features(backbone.model, taps)
    images = faces(made.network, 3)
    (found,) = ort.InferenceSession(model.SerializeToString()).run(["features"], {"image": images.numpy()})
    with torch.no_grad():
        embedding, stages = made.network(images)
    expected = np.concatenate([*(stage.double().numpy().mean(axis=(2, 3)) for stage in stages), embedding], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_what_it_says_of_its_input_must_be_readable(exported: dict[str, Exported]) -> None:
    model = ModelProto()
    model.CopyFrom(exported["resface20"].model)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "probface.input")
    for said in ("{", "[1]", '{"height": 96, "wide": 96}', '{"height": 1}'):
        entry.value = said
        with pytest.raises(ModelError, match=r"what it says of its input cannot be read .*; export it again"):
            load_backbone(model.SerializeToString())
    del model.metadata_props[:]
    assert load_backbone(model.SerializeToString()).input == InputSpec(96, 96)  # the guess


def test_parity_is_measured(exported: dict[str, Exported]) -> None:
    made = exported["resface20"]
    assert 0 <= check_parity(made.model, made.network, SPECS["resface20"]) < 1e-5


@pytest.mark.parametrize(
    ("name", "factor", "message"),
    [
        (
            "stages.2.1.first.0.weight",
            1.1,
            r"its ONNX form differs by .* of the largest entry, must be 0\.0001 at most",
        ),
        (
            "stages.2.1.first.0.weight",
            float("nan"),
            "gives embeddings of zeros or not finite, must give numbers; train",
        ),
        ("bottleneck_norm.weight", 0.0, "gives embeddings of zeros or not finite"),
    ],
    ids=["changed", "not a number", "zeros"],
)
def test_another_network_is_refused(name: str, factor: float, message: str, exported: dict[str, Exported]) -> None:
    made = exported["resface20"]
    weight = as_module(made.network).get_parameter(name)
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight *= factor
        with pytest.raises(ModelError, match=message):
            check_parity(made.model, made.network, SPECS["resface20"])
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_the_exporter_is_silent_and_leaves_the_log_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        export_backbone(build_backbone(Architecture("resface20", 1 / 16, 8)), SPECS["resface20"])
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)
    assert capfd.readouterr() == ("", "")
