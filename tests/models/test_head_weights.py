from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from probface.contract import Rescaling
from probface.errors import ModelError, ModelNotFound, StorageError
from probface.models.backbone import Backbone
from probface.models.head_weights import ARRAYS, HeadWeights, load_head, save_head
from probface.models.taps import find_taps
from probface.nn.uncertainty_head import UncertaintyHead


@pytest.fixture
def head(backbones: dict[str, Backbone], make_head: Callable[..., HeadWeights]) -> HeadWeights:
    backbone = backbones["mobilefacenet"]
    return make_head(backbone, find_taps(backbone.model, backbone.face), width=32)


def test_a_head_is_read_as_it_was_written(head: HeadWeights, tmp_path: Path) -> None:
    save_head(head, tmp_path / "deep" / "head.safetensors")
    again = load_head(tmp_path / "deep" / "head.safetensors")
    assert again.contract == head.contract
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(head, name))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["head.safetensors"]


def test_the_tensors_have_torchs_names(head: HeadWeights, tmp_path: Path) -> None:
    save_head(head, tmp_path / "head.safetensors")
    names = set(safetensors.numpy.load_file(tmp_path / "head.safetensors"))
    torch_names = set(UncertaintyHead(head.fc1_weight.shape[1], 32).state_dict())
    assert names == {name for name in torch_names if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize("rescaling", [Rescaling(), Rescaling(1.7, -0.4)])
def test_numpy_agrees_with_torch(head: HeadWeights, rescaling: Rescaling) -> None:
    head = replace(head, contract=replace(head.contract, rescaling=rescaling))
    module = UncertaintyHead(head.fc1_weight.shape[1], 32).double().eval()
    counts = {name: t for name, t in module.state_dict().items() if name.endswith("num_batches_tracked")}
    names = [name for name in module.state_dict() if name not in counts]
    arrays = {name: getattr(head, name.replace(".", "_")) for name in names}
    module.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()} | counts)
    features = np.random.default_rng(0).normal(size=(9, head.fc1_weight.shape[1]))
    with torch.no_grad():
        raw = module(torch.tensor(features)).numpy()
    np.testing.assert_allclose(
        head.log_sigma_sq(features), rescaling.gain * raw + rescaling.offset, rtol=1e-9, atol=1e-9
    )


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"gone\.safetensors: no such head file"):
        load_head(tmp_path / "gone.safetensors")
    (tmp_path / "text.safetensors").write_text("not tensors at all")
    with pytest.raises(ModelError, match=r"text\.safetensors: not a safetensors file"):
        load_head(tmp_path / "text.safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        load_head(tmp_path)


def test_a_missing_contract_or_tensor_is_named(head: HeadWeights) -> None:
    tensors = {"fc1.weight": head.fc1_weight}
    with pytest.raises(ModelError, match="'contract' is missing"):
        load_head(safetensors.numpy.save(tensors))
    with pytest.raises(ModelError, match="'feature_mean' is missing"):
        load_head(safetensors.numpy.save(tensors, {"contract": head.contract.to_json()}))


def test_a_type_that_numpy_lacks_is_named() -> None:
    with pytest.raises(ModelError, match="a tensor of type 'BF16' is in it, must be float32"):
        load_head(safetensors.torch.save({"shift": torch.zeros((), dtype=torch.bfloat16)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc1_weight": np.zeros(5, np.float32)}, r"fc1\.weight has shape \(5,\)"),
        ({"bn1_bias": np.zeros(5, np.float32)}, r"bn1\.bias is float32 \(5,\), must be float32 \(256,\)"),
        ({"fc2_weight": np.zeros((2, 256), np.float32)}, r"fc2\.weight is float32 \(2, 256\), must be float32 \(32,"),
        ({"scale": np.float64(1)}, r"scale is float64 \(\), must be float32"),
        ({"shift": np.float32("nan")}, r"shift has values that are not finite"),
        ({"bn2_running_var": np.full(32, -1, np.float32)}, r"bn2\.running_var has values below its range"),
    ],
)
def test_arrays_of_another_shape_are_refused(head: HeadWeights, change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(head, **change)


def test_a_feature_scale_of_zero_is_refused(head: HeadWeights) -> None:
    scale = head.feature_scale.copy()
    scale[3] = 0
    with pytest.raises(ModelError, match="feature_scale has values below its range"):
        replace(head, feature_scale=scale)


def test_a_place_that_cannot_be_written_is_a_storage_error(head: HeadWeights, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        save_head(head, tmp_path / "file" / "head.safetensors")
