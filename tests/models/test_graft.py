from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto

from probface.contract import METADATA_KEY, Rescaling
from probface.errors import DigestMismatch, ModelError
from probface.models.backbone import Backbone
from probface.models.graft import graft, read_contract
from probface.models.head_weights import HeadWeights
from probface.models.taps import find_taps, with_features

MakeHead = Callable[..., HeadWeights]


def run(model: ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))


def head_by_hand(head: HeadWeights, features: np.ndarray) -> np.ndarray:
    """The head layer by layer in float64, nothing folded: sigma^2."""
    w = {name: np.asarray(getattr(head, name), np.float64) for name in HeadWeights.__slots__ if name != "contract"}
    x = (features.astype(np.float64) - w["feature_mean"]) / w["feature_scale"]
    x = x @ w["fc1_weight"].T
    x = (x - w["bn1_running_mean"]) / np.sqrt(w["bn1_running_var"] + 1e-3) * w["bn1_weight"] + w["bn1_bias"]
    x = np.where(x > 0, x, 0) @ w["fc2_weight"].T
    x = (x - w["bn2_running_mean"]) / np.sqrt(w["bn2_running_var"] + 1e-3)
    raw = np.log(1e-6 + np.exp(w["scale"] * x + w["shift"]))
    return np.exp(head.contract.rescaling.gain * raw + head.contract.rescaling.offset)


def images_for(backbone: Backbone) -> np.ndarray:
    pixels = np.random.default_rng(2).integers(0, 256, (4, 3, backbone.face.height, backbone.face.width))
    return ((pixels - backbone.input.mean) / backbone.input.scale).astype(np.float32)


@pytest.mark.parametrize("rescaling", [Rescaling(), Rescaling(0.6, 0.3)], ids=["as it is", "rescaled"])
@pytest.mark.parametrize("wide", [False, True], ids=["one variance", "D variances"])
@pytest.mark.parametrize("network", ["sface", "resnet", "mobilefacenet"])
def test_the_grafted_model_computes_the_head(
    backbones: dict[str, Backbone], make_head: MakeHead, network: str, wide: bool, rescaling: Rescaling
) -> None:
    backbone = backbones[network]
    taps = find_taps(backbone.model, backbone.face)
    head = make_head(backbone, taps, width=taps.dim if wide else 1, rescaling=rescaling)
    if network == "sface":  # grey levels go in, so its features are far from standard
        features = run(with_features(backbone.model, taps), images_for(backbone))["features"]
        spread = np.maximum(features.std(axis=0), 1e-2)
        head = replace(head, feature_mean=features.mean(axis=0), feature_scale=spread)
    images = images_for(backbone)
    model = graft(backbone.model, head, backbone_digest=backbone.digest)
    onnx.checker.check_model(model, full_check=True)
    found = run(model, images)
    features = run(with_features(backbone.model, taps), images)["features"]
    raw = features[:, -taps.dim :].astype(np.float64)
    np.testing.assert_allclose(found["mu"], raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(found["sigma_sq"], head_by_hand(head, features), rtol=1e-4)


def test_the_contract_travels_in_the_file(backbones: dict[str, Backbone], make_head: MakeHead) -> None:
    backbone = backbones["resnet"]
    head = make_head(backbone, find_taps(backbone.model, backbone.face), rescaling=Rescaling(1.2, 0.1))
    model = graft(backbone.model, head, backbone_digest=backbone.digest)
    assert read_contract(onnx.load_model_from_string(model.SerializeToString())) == head.contract
    assert read_contract(backbone.model) is None


def test_a_contract_that_cannot_be_read_is_an_error(backbones: dict[str, Backbone]) -> None:
    model = ModelProto()
    model.metadata_props.add(key=METADATA_KEY, value="{}")
    with pytest.raises(ModelError, match="key 'name' is missing"):
        read_contract(model)


def test_grafting_leaves_the_backbone_alone(backbones: dict[str, Backbone], make_head: MakeHead) -> None:
    backbone = backbones["mobilefacenet"]
    before = backbone.model.SerializeToString(deterministic=True)
    head = make_head(backbone, find_taps(backbone.model, backbone.face))
    graft(backbone.model, head, backbone_digest=backbone.digest)
    assert backbone.model.SerializeToString(deterministic=True) == before


def test_the_head_of_another_backbone_is_refused(backbones: dict[str, Backbone], make_head: MakeHead) -> None:
    resnet, other = backbones["resnet"], backbones["mobilefacenet"]
    head = make_head(resnet, find_taps(resnet.model, resnet.face))
    with pytest.raises(DigestMismatch, match=f"SHA-256 {other.digest[:16]}.* was trained on {resnet.digest[:16]}"):
        graft(other.model, head, backbone_digest=other.digest)


def test_a_head_of_another_width_is_refused(backbones: dict[str, Backbone], make_head: MakeHead) -> None:
    backbone = backbones["resnet"]
    taps = find_taps(backbone.model, backbone.face)
    head = make_head(backbone, taps, features=taps.spelling[1:])
    with pytest.raises(ModelError, match=r"reads 124 features .* the backbone gives 116 and 64"):
        graft(backbone.model, head, backbone_digest=backbone.digest)


@pytest.mark.parametrize("name", ["mu", "sigma_sq", "embedding", "features"])
def test_tensors_named_like_our_outputs_do_no_harm(
    backbones: dict[str, Backbone], make_head: MakeHead, name: str
) -> None:
    """An inner tensor, and the embedding itself, may bear the name of an output."""
    backbone = backbones["resnet"]
    taps = find_taps(backbone.model, backbone.face)
    images = images_for(backbone)
    expected = run(graft(backbone.model, make_head(backbone, taps), backbone_digest=backbone.digest), images)
    for old in (taps.names[1], taps.embedding):
        model = ModelProto()
        model.CopyFrom(backbone.model)
        for node in model.graph.node:
            node.input[:] = [name if tensor == old else tensor for tensor in node.input]
            node.output[:] = [name if tensor == old else tensor for tensor in node.output]
        for output in model.graph.output:
            output.name = name if output.name == old else output.name
        spelling = [feature.replace(f":{old}", f":{name}") for feature in taps.spelling]
        head = make_head(backbone, taps, features=spelling)
        found = run(graft(model, head, backbone_digest=backbone.digest), images)
        np.testing.assert_array_equal(found["mu"], expected["mu"])
        np.testing.assert_array_equal(found["sigma_sq"], expected["sigma_sq"])


def test_a_backbone_that_breaks_onnxs_rules_is_one_line(backbones: dict[str, Backbone], make_head: MakeHead) -> None:
    backbone = backbones["resnet"]
    head = make_head(backbone, find_taps(backbone.model, backbone.face))
    model = ModelProto()
    model.CopyFrom(backbone.model)
    model.graph.node.append(model.graph.node[-1])
    with pytest.raises(ModelError, match="backbone: not a valid ONNX graph") as caught:
        graft(model, head, backbone_digest=backbone.digest)
    assert "\n" not in str(caught.value)
