from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from probface.encoder.features import FeatureExtractor
from probface.encoder.onnx import Encoder
from probface.encoder.session import PROVIDERS, Network, available_providers
from probface.errors import InvalidValue, ModelError, ProviderUnavailable
from probface.models.backbone import Backbone
from probface.models.graft import graft
from probface.models.head_weights import HeadWeights
from probface.models.registry import ResolvedModel
from probface.models.taps import find_taps

Resolve = Callable[[str], ResolvedModel]


@pytest.fixture(scope="session")
def resolve(backbones: dict[str, Backbone], make_head: Callable[..., HeadWeights]) -> Resolve:
    """A backbone with a random head."""

    def grafted(network: str) -> ResolvedModel:
        backbone = backbones[network]
        head = make_head(backbone, find_taps(backbone.model, backbone.face))
        model = graft(backbone.model, head, backbone_digest=backbone.digest)
        return ResolvedModel(network, model.SerializeToString(), head.contract)

    return grafted


def crops_for(model: ResolvedModel, count: int) -> np.ndarray:
    size = (count, model.contract.input.height, model.contract.input.width, 3)
    return np.random.default_rng(4).integers(0, 256, size, dtype=np.uint8)


@pytest.mark.parametrize("network", ["sface", "resnet", "mobilefacenet", "pinned"])
def test_the_batch_size_changes_nothing(resolve: Resolve, network: str) -> None:
    model = resolve(network)
    crops = crops_for(model, 5)
    one, two, all_at_once = (Encoder(model, threads=1).encode(crops, batch_size=size) for size in (1, 2, 32))
    assert one.mu.shape == (5, model.contract.dim)
    for other in (two, all_at_once):
        np.testing.assert_allclose(other.mu, one.mu, atol=1e-5)
        np.testing.assert_allclose(other.sigma_sq, one.sigma_sq, rtol=1e-4)


@pytest.mark.parametrize("network", ["sface", "resnet", "mobilefacenet"])
def test_encoder_and_extractor_see_the_same_faces(
    resolve: Resolve, backbones: dict[str, Backbone], network: str
) -> None:
    model, backbone = resolve(network), backbones[network]
    extractor = FeatureExtractor(backbone.model, find_taps(backbone.model, backbone.face), backbone.input)
    crops = crops_for(model, 3)
    features = extractor.extract(crops)
    assert (features.shape, features.dtype) == ((3, extractor.width), np.float32)
    raw = features[:, -extractor.dim :]
    np.testing.assert_allclose(
        Encoder(model).encode(crops).mu, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6
    )


def test_no_crops_give_no_rows(resolve: Resolve) -> None:
    model = resolve("mobilefacenet")
    nothing = Encoder(model).encode(crops_for(model, 0))
    assert (nothing.mu.shape, nothing.sigma_sq.shape) == ((0, 32), (0, 1))


def test_a_path_is_a_model(resolve: Resolve, tmp_path: Path) -> None:
    model = resolve("resnet")
    (tmp_path / "model.onnx").write_bytes(model.onnx)
    crops = crops_for(model, 2)
    encoder = Encoder(tmp_path)
    assert encoder.contract == model.contract
    np.testing.assert_array_equal(encoder.encode(crops).mu, Encoder(model).encode(crops).mu)


def test_threads_may_share_an_encoder(resolve: Resolve) -> None:
    model = resolve("resnet")
    crops = crops_for(model, 16)
    encoder = Encoder(model, threads=1)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: encoder.encode(crops[start : start + 4]).mu, range(0, 16, 4)))
    np.testing.assert_allclose(np.concatenate(parts), encoder.encode(crops).mu, atol=1e-5)


def test_an_absent_provider_is_an_error(resolve: Resolve) -> None:
    absent = sorted(set(PROVIDERS) - set(available_providers()))
    assert "cpu" in available_providers()
    for provider in absent:
        with pytest.raises(ProviderUnavailable, match=rf"'{provider}': is not in this ONNX Runtime; choose one of cpu"):
            Encoder(resolve("resnet"), provider=provider)
    with pytest.raises(ProviderUnavailable, match="'gpu': is no known name"):
        Encoder(resolve("resnet"), provider="gpu")
    for provider in ("cpu:0", "cuda:", "cuda:one"):
        with pytest.raises(
            ProviderUnavailable, match=f"'{provider}': a device's number follows cuda, directml, tensor"
        ):
            Encoder(resolve("resnet"), provider=provider)


def test_the_device_reaches_the_provider(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without such a device here: what ONNX Runtime is asked for is looked at, and answered by the processor."""
    asked: list[object] = []
    start = ort.InferenceSession

    def session(model: object, options: object, providers: list[object], **_: object) -> ort.InferenceSession:
        asked.extend(providers)
        return start(model, options, providers=[PROVIDERS["cpu"]])

    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(ort, "InferenceSession", session)
    for provider in ("cuda:3", "cuda"):
        with pytest.raises(ProviderUnavailable, match="did not start"):
            Encoder(resolve("resnet"), provider=provider)
    assert asked == [("CUDAExecutionProvider", {"device_id": "3"}), ("CUDAExecutionProvider", {})]


def test_a_silent_fallback_is_an_error(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build may list a provider whose drivers are missing; it then falls back to the processor."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS.values()))
    start = partial(ort.InferenceSession, providers=[PROVIDERS["cpu"]])
    monkeypatch.setattr(ort, "InferenceSession", lambda model, options, **_: start(model, options))
    with pytest.raises(ProviderUnavailable, match="'cuda': did not start, ONNX Runtime fell back to CPUExecution"):
        Encoder(resolve("resnet"), provider="cuda")


@pytest.mark.parametrize(("threads", "batch_size"), [(-1, 1), (1, 0)])
def test_numbers_out_of_range_are_refused(resolve: Resolve, threads: int, batch_size: int) -> None:
    model = resolve("resnet")
    with pytest.raises(InvalidValue, match="or more"):
        Encoder(model, threads=threads).encode(crops_for(model, 1), batch_size=batch_size)


def test_crops_of_another_size_are_refused(resolve: Resolve) -> None:
    with pytest.raises(InvalidValue, match=r"uint8 \(1, 112, 112, 3\): must be RGB uint8 of shape \(N, 112, 96, 3\)"):
        Encoder(resolve("mobilefacenet")).encode(crops_for(resolve("resnet"), 1))


def spoiled(model: ResolvedModel, suffix: str, value: float) -> ResolvedModel:
    """The model with one of its head's or tail's constants overwritten."""
    graph = onnx.load_model_from_string(model.onnx)
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith(suffix))
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.full_like(array, value), tensor.name))
    return replace(model, onnx=graph.SerializeToString())


def test_a_variance_out_of_range_names_its_row(resolve: Resolve) -> None:
    model = resolve("resnet")
    with pytest.raises(ModelError, match=r"crop 0 of 2: model 'random' gives a variance that is not positive and fin"):
        Encoder(spoiled(model, "fc2.bias", 200.0)).encode(crops_for(model, 2))


def test_an_embedding_that_is_not_finite_names_its_row(resolve: Resolve) -> None:
    model = resolve("mobilefacenet")
    with pytest.raises(ModelError, match=r"crop 0 of 2: .* gives a zero or non-finite embedding; leave the image out"):
        Encoder(spoiled(model, "weight", np.nan)).encode(crops_for(model, 2))


def zero_backbone(backbone: Backbone) -> onnx.ModelProto:
    """The MobileFaceNet with its last convolution at zero: the embedding is zero for every face."""
    model = onnx.ModelProto()
    model.CopyFrom(backbone.model)
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    for tensor in model.graph.initializer:
        if tensor.name in last.input:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    return model


def test_a_zero_embedding_is_never_returned(
    backbones: dict[str, Backbone], make_head: Callable[..., HeadWeights]
) -> None:
    backbone = backbones["mobilefacenet"]
    taps = find_taps(backbone.model, backbone.face)
    zero = zero_backbone(backbone)
    head = make_head(backbone, taps)
    model = graft(zero, head, backbone_digest=backbone.digest).SerializeToString()
    crops = np.zeros((1, 112, 96, 3), np.uint8)
    with pytest.raises(ModelError, match=r"crop 0 of 1: .* zero or non-finite embedding"):
        Encoder(ResolvedModel("zero", model, head.contract)).encode(crops)
    with pytest.raises(ModelError, match=r"crop 0 of 1: the backbone gives a zero or non-finite embedding"):
        FeatureExtractor(zero, taps, backbone.input).extract(crops)


@pytest.mark.parametrize("damage", [b"no model", Path("gone.onnx"), "a name"], ids=["not onnx", "no file", "a name"])
def test_a_file_that_onnx_runtime_refuses_is_one_line(
    resolve: Resolve, capfd: pytest.CaptureFixture[str], damage: bytes | Path | str
) -> None:
    model = resolve("resnet")
    renamed = model.onnx.replace(b"probface/relu", b"probface\xffrelu", 1)
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it") as caught:
        Encoder(replace(model, onnx=renamed if damage == "a name" else damage))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [RuntimeError("no driver\nat line 7"), RuntimeError()], ids=["told", "untold"])
def test_a_provider_that_does_not_start_is_one_line(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    def start(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(ort, "InferenceSession", start)
    with pytest.raises(
        ProviderUnavailable, match=r"'cuda': does not start .* \((no driver|RuntimeError)\); check its drivers"
    ):
        Encoder(resolve("resnet"), provider="cuda")


def test_a_contract_that_lies_about_widths_is_found_out(resolve: Resolve) -> None:
    model = resolve("resnet")
    lying = replace(model, contract=replace(model.contract, dim=128))
    with pytest.raises(ModelError, match="widths 64 and 1, its contract says 128 and 1; export it again"):
        Encoder(lying).encode(crops_for(model, 1))


def test_a_missing_output_is_named(backbones: dict[str, Backbone]) -> None:
    backbone = backbones["resnet"]
    with pytest.raises(ModelError, match="has no output 'mu'"):
        Network(backbone.model.SerializeToString(), backbone.input, ("mu",))
