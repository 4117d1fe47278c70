from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, helper

from probface.encoder.onnx import Encoder
from probface.models.backbone import Backbone
from probface.models.graft import graft, set_contract
from probface.models.head_weights import HeadWeights
from probface.models.norm_output import add_norm_output
from probface.models.registry import ResolvedModel, resolve_model
from probface.models.taps import find_taps, with_features

MakeHead = Callable[..., HeadWeights]


def crops_for(backbone: Backbone, count: int = 5) -> np.ndarray:
    shape = (count, backbone.face.height, backbone.face.width, 3)
    return np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)


def resolved(model: ModelProto, head: HeadWeights) -> ResolvedModel:
    return ResolvedModel("test", model.SerializeToString(), head.contract)


@pytest.mark.parametrize("network", ["resnet", "mobilefacenet", "pinned"])
def test_the_norm_is_that_of_the_raw_embedding(
    backbones: dict[str, Backbone], make_head: MakeHead, network: str
) -> None:
    backbone = backbones[network]
    taps = find_taps(backbone.model, backbone.face)
    head = make_head(backbone, taps)
    model = graft(backbone.model, head, backbone_digest=backbone.digest)
    before = model.SerializeToString(deterministic=True)
    crops = crops_for(backbone)
    encoder = Encoder(resolved(model, head), threads=1, norm=True)
    encoded = encoder.encode_with_norm(crops, batch_size=2)
    assert encoder.gives_norm
    assert model.SerializeToString(deterministic=True) == before

    session = ort.InferenceSession(with_features(backbone.model, taps).SerializeToString())
    pixels = (crops.transpose(0, 3, 1, 2) - np.float32(backbone.input.mean)) / np.float32(backbone.input.scale)
    (image,) = session.get_inputs()
    raw = np.concatenate([session.run(["features"], {image.name: one[None].astype(np.float32)})[0] for one in pixels])
    expected = np.linalg.norm(raw[:, -taps.dim :].astype(np.float64), axis=1)
    assert encoded.norm is not None
    assert encoded.norm.shape == (5,)
    np.testing.assert_allclose(encoded.norm, expected, rtol=1e-4)

    plain = Encoder(resolved(model, head), threads=1)
    assert plain.encode_with_norm(crops).norm is None
    np.testing.assert_array_equal(plain.encode(crops).mu, encoded.embeddings.mu)
    np.testing.assert_array_equal(plain.encode(crops).sigma_sq, encoded.embeddings.sigma_sq)


def test_the_default_model_gives_its_norm() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    plain, encoder = Encoder("sface", threads=1), Encoder("sface", threads=1, norm=True)
    encoded = encoder.encode_with_norm(crops)
    assert encoded.norm is not None
    assert (encoded.norm > 1).all()  # the raw embedding is far from unit length
    np.testing.assert_array_equal(plain.encode(crops).mu, encoded.embeddings.mu)
    assert encoder.digest == plain.digest
    assert encoder.encode_with_norm(crops[:0]).norm is not None


def test_a_model_that_makes_mu_otherwise_goes_without(backbones: dict[str, Backbone], make_head: MakeHead) -> None:
    backbone = backbones["resnet"]
    head = make_head(backbone, find_taps(backbone.model, backbone.face))
    model = graft(backbone.model, head, backbone_digest=backbone.digest)
    (division,) = (node for node in model.graph.node if "mu" in node.output)
    embedding = division.input[0]
    division.CopyFrom(helper.make_node("LpNormalization", [embedding], ["mu"], axis=1, p=2))
    onnx.checker.check_model(model)
    assert add_norm_output(model) is None
    crops = crops_for(backbone)
    encoder = Encoder(resolved(model, head), threads=1, norm=True)
    assert not encoder.gives_norm
    assert encoder.encode_with_norm(crops).norm is None
    assert len(encoder.encode(crops)) == 5


def test_a_division_by_something_else_is_no_norm(backbones: dict[str, Backbone], make_head: MakeHead) -> None:
    backbone = backbones["resnet"]
    head = make_head(backbone, find_taps(backbone.model, backbone.face))
    model = graft(backbone.model, head, backbone_digest=backbone.digest)
    (length,) = (node for node in model.graph.node if node.op_type == "ReduceL2")
    length.op_type = "ReduceL1"
    assert add_norm_output(model) is None
    del model.graph.node[:]
    assert add_norm_output(model) is None


def test_another_contract_changes_nothing_else() -> None:
    given = resolve_model("sface")
    assert isinstance(given.onnx, bytes)
    model = onnx.load_model_from_string(given.onnx)
    model.metadata_props.add(key="author", value="somebody")
    before = model.graph.SerializeToString(deterministic=True)
    set_contract(model, given.contract)
    set_contract(model, given.contract)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "author": "somebody",
        "probface": given.contract.to_json(),
    }
    assert model.graph.SerializeToString(deterministic=True) == before
