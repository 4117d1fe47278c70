"""Conversion against networks that TensorFlow computed (tests/golden/make_resface_tf1.py), in torch and in ONNX."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from probface.encoder.onnx import Encoder
from probface.encoder.preprocess import to_input
from probface.encoder.session import Network
from probface.errors import ModelError, ModelNotFound
from probface.export.model_folder import HEAD_WEIGHTS, write_backbone, write_paper_head
from probface.export.onnx import EMBEDDING
from probface.export.tf1 import Tf1Model, read_tf1
from probface.models.backbone import Backbone
from probface.models.head_weights import load_head
from probface.models.registry import TRAINED_MODEL
from probface.models.taps import FEATURES, find_taps, with_features
from probface.nn.architecture import RESFACE_INPUT, Architecture, as_module
from probface.nn.layer_fusion import fuse_layers
from probface.nn.network_file import load_network
from probface.nn.uncertainty_head import UncertaintyHead

GOLDEN = Path(__file__).parents[1] / "golden" / "resface_tf1"
ORACLE = Path(__file__).parents[2] / ".." / "shared" / "oracle" / "resface64_half_tf1"
with np.load(GOLDEN / "io.npz") as arrays:
    VALUES = {name: arrays[name] for name in arrays.files}
IMAGES = VALUES["images"]

# Architecture, fusion, outputs, hidden width of the head.
KNOWN = {
    "fused-1": (Architecture("resface20", 1 / 16, 16), True, 1, 16),
    "plain-1": (Architecture("resface20", 1 / 32, 12), False, 1, 10),
    "pfe-1": (Architecture("resface20", 1 / 32, 12), True, 12, 10),
    "trained-7": (Architecture("resface64", 1 / 32, 12), True, 1, 10),
    "base-1": (Architecture("resface36", 1 / 32, 12), False, 0, 0),
}
with_head = pytest.mark.parametrize(
    "name", ["fused-1", "plain-1", "pfe-1", pytest.param("trained-7", marks=pytest.mark.slow)]
)


@dataclass
class Converted:
    model: Tf1Model
    backbone: Backbone
    folder: Path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Converted]:
    """Converts a network when it is first asked for."""
    return functools.cache(lambda name: convert(GOLDEN / name, tmp_path_factory.mktemp(name)))


def convert(checkpoint: Path, folder: Path) -> Converted:
    model = read_tf1(checkpoint)
    backbone = write_backbone(model.network, model.architecture, model.architecture.input, folder)
    if model.head is not None:
        write_paper_head(backbone, model.head, name="converted", fusion=model.fusion, trained_on="", folder=folder)
    return Converted(model, backbone, folder)


def in_torch(model: Tf1Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the network and its head give for (N, 3, 96, 96) inputs."""
    with torch.no_grad():
        features = model.network(torch.from_numpy(images))
        fused = fuse_layers(features, fusion=model.fusion or model.head is None)
        found = {"feat": fused, "mu": torch.nn.functional.normalize(features.embedding)}
        if model.head is not None:
            tensors = {name: torch.from_numpy(value) for name, value in model.head.items()}
            head = UncertaintyHead(fused.shape[1], model.outputs, hidden=len(tensors["fc1.weight"]))
            head.load_state_dict(tensors)
            found["sigma_sq"] = head.eval()(fused).exp()
    return {name: tensor.numpy() for name, tensor in found.items()}


def agree(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Features to 1e-5 of the largest, mu to 1e-5, variances to 1e-4 of themselves."""
    assert {name: array.shape for name, array in found.items()} == {name: wanted[name].shape for name in found}
    limits = {"feat": (0, 1e-5 * np.abs(wanted["feat"]).max()), "mu": (0, 1e-5), "sigma_sq": (1e-4, 0)}
    for name, array in found.items():
        relative, absolute = limits[name]
        np.testing.assert_allclose(array, wanted[name], rtol=relative, atol=absolute, err_msg=name)


def golden(name: str) -> dict[str, np.ndarray]:
    return {key: VALUES[f"{name}/{key}"] for key in ("feat", "mu", "sigma_sq") if f"{name}/{key}" in VALUES}


@pytest.mark.parametrize("name", KNOWN)
def test_what_it_is(name: str) -> None:
    architecture, fusion, outputs, hidden = KNOWN[name]
    model = read_tf1(GOLDEN / name)
    assert (model.architecture, model.fusion, model.outputs) == (architecture, fusion, outputs)
    assert (model.head is not None) == (outputs > 0)
    if model.head is not None:
        assert model.head["fc1.weight"].shape == (hidden, golden(name)["feat"].shape[1])
    assert not as_module(model.network).training


@pytest.mark.parametrize("name", KNOWN)
def test_what_finds_no_place_is_named(name: str) -> None:
    # Not the slots of two optimisers, their powers, nor the step counter.
    expected = ("AMSoftmax/weights",) if name == "trained-7" else ()
    assert read_tf1(GOLDEN / name).unmapped == expected


@pytest.mark.parametrize("name", KNOWN)
def test_torch_computes_what_tensorflow_computes(name: str) -> None:
    model = read_tf1(GOLDEN / name)
    wanted, images = golden(name), to_input(IMAGES, RESFACE_INPUT)
    whole = in_torch(model, images)
    assert whole.keys() == wanted.keys()
    agree(whole, wanted)
    one_by_one = [in_torch(model, image[None]) for image in images]
    agree({key: np.concatenate([each[key] for each in one_by_one]) for key in wanted}, wanted)


@pytest.mark.parametrize("batch_size", [1, len(IMAGES)])
@with_head
def test_onnx_computes_what_tensorflow_computes(
    name: str, batch_size: int, converted: Callable[[str], Converted]
) -> None:
    wanted, made = golden(name), converted(name)
    encoder = Encoder(made.folder / TRAINED_MODEL)
    contract = encoder.contract
    widths = (contract.dim, contract.sigma_sq_width)
    assert (widths, contract.input) == ((wanted["mu"].shape[1], wanted["sigma_sq"].shape[1]), RESFACE_INPUT)
    found = encoder.encode(IMAGES, batch_size)
    backbone = made.backbone
    taps = find_taps(backbone.model, backbone.face, fusion=made.model.fusion, flatten_last=True, embedding=False)
    tapped = with_features(backbone.model, taps).SerializeToString()
    (features,) = Network(tapped, backbone.input, (FEATURES,)).run(IMAGES, batch_size)
    agree({"feat": features, "mu": found.mu, "sigma_sq": found.sigma_sq}, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, len(IMAGES)])
def test_the_base_in_onnx(batch_size: int, converted: Callable[[str], Converted]) -> None:
    made = converted("base-1")
    assert sorted(path.name for path in made.folder.iterdir()) == ["backbone.onnx", "backbone.safetensors"]
    network = Network(made.folder / "backbone.onnx", made.backbone.input, (EMBEDDING,))
    (embedding,) = network.run(IMAGES, batch_size)
    wanted = golden("base-1")
    agree({"mu": embedding / np.linalg.norm(embedding, axis=1, keepdims=True)}, wanted)


@with_head
def test_what_is_written_is_read_back(name: str, converted: Callable[[str], Converted]) -> None:
    made = converted(name)
    saved = load_network(made.folder / "backbone.safetensors", made.model.architecture)
    state = as_module(made.model.network).state_dict()
    assert all(torch.equal(value, state[key]) for key, value in as_module(saved.network).state_dict().items())
    head = load_head(made.folder / HEAD_WEIGHTS)
    assert made.model.head is not None
    np.testing.assert_array_equal(head.fc1_weight, made.model.head["fc1.weight"])
    assert head.contract.backbone_digest == made.backbone.digest
    fused = head.log_sigma_sq(golden(name)["feat"])
    agree({"sigma_sq": np.exp(fused)}, golden(name))


BROKEN = {
    "missing-1": r"'Resface/Conv3/Conv_3/Conv_3_2/Conv_1/BatchNorm/moving_mean' is missing; give a checkpoint of a",
    "blocks-1": r"\(1, 2, 3, 1\) residual blocks in the stages, must be one of 20: \(1, 2, 4, 1\); 36: .*; give a",
    "head-1": r"the head reads 302 features and gives 1, must be 288 \(no fusion\) or 303 \(fusion\), and 1 or D = 2",
    "outputs-1": r"the head reads 303 features and gives 3, must be 288 .* and 1 or D = 2; give",
    "infinite-1": r"'Resface/Conv3/Conv_3/Conv_3_2/Conv/weights' has values that are not finite; get another",
    "two-1": r"2 variables named \.\.\./Conv1/Conv1_pre/weights, must be one; give the checkpoint of one ResFace",
    "shape-1": r"'stages\.2\.2\.first\.0\.weight' has shape \(4, 4, 2, 3\), must be \(4, 4, 3, 3\); give weights",
    "rank-1": r"'Resface/Bottleneck/weights' has shape \(576,\), must have 2 axes; give a ResFace",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_converted(name: str) -> None:
    with pytest.raises(ModelError, match=BROKEN[name]) as caught:
        read_tf1(GOLDEN / "broken" / name)
    message = str(caught.value)
    assert message.startswith(str(GOLDEN / "broken" / name))
    assert "\n" not in message


def test_a_checkpoint_of_something_else() -> None:
    with pytest.raises(
        ModelError, match=r"mixed-7\.index: 0 variables named \.\.\./Conv1/Conv1_pre/weights, must be one"
    ):
        read_tf1(GOLDEN.parent / "tf1_bundle" / "mixed-7")
    with pytest.raises(ModelNotFound, match=re.escape(f"{GOLDEN / 'none-1'}.index: no such file")):
        read_tf1(GOLDEN / "none-1")


@pytest.mark.slow
def test_the_authors_network(tmp_path: Path) -> None:
    if not (ORACLE / "io.npz").is_file():
        pytest.skip("the authors' network (oracle/resface64_half_tf1) is not beside this checkout")
    with np.load(ORACLE / "io.npz") as file:
        wanted = {name: file[name] for name in file.files}
    made = convert(ORACLE, tmp_path)
    assert made.model.architecture == Architecture("resface64", 0.5, 256)
    assert (made.model.fusion, made.model.outputs, made.model.unmapped) == (True, 1, ())
    images = np.ascontiguousarray(wanted["images"].transpose(0, 3, 1, 2), np.float32)
    agree(in_torch(made.model, images), wanted)
