"""Backbones on disk: bit for bit, and what is said of files that are none or are another's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from probface.contract import InputSpec
from probface.errors import ModelError, ModelNotFound, StorageError
from probface.nn.architecture import Architecture, as_module, build_backbone
from probface.nn.network_file import load_network, load_weights, save_network

SMALL = {
    name: Architecture(name, 1 / 16, 8, dropout=0.25 if name == "resface20" else 0.0)
    for name in ("resface20", "iresnet18", "mobilefacenet")
}
SPEC = InputSpec(96, 96, "bgr", mean=100.0, scale=50.0, template="arcface")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    architecture = SMALL["resface20"]
    save_network(build_backbone(architecture), architecture, SPEC, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def metadata(**entries: object) -> dict[str, str]:
    architecture = {"name": "resface20", "width": 1 / 16, "dim": 8, "dropout": 0.25}
    given = {"architecture": architecture, "input": {"height": 96, "width": 96}} | entries
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}


@pytest.mark.parametrize("name", SMALL)
def test_round_trip(name: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    network, path = build_backbone(SMALL[name]), tmp_path / "deep" / "net.safetensors"
    module = as_module(network).train()
    module(torch.randn(4, 3, *network.size))  # moves the statistics and their counters off their start
    save_network(network, SMALL[name], SPEC, path)
    found = load_network(path, SMALL[name])
    assert (found.architecture, found.input) == (SMALL[name], SPEC)
    assert module.training  # saving changes nothing
    assert not as_module(found.network).training
    before, after = module.state_dict(), as_module(found.network).state_dict()
    assert list(before) == list(after)
    for key, value in before.items():
        assert value.dtype == after[key].dtype
        assert torch.equal(value, after[key]), key
    faces = torch.randn(2, 3, *network.size)
    with torch.no_grad():
        wanted = module.eval()(faces)
        assert torch.equal(found.network(faces).embedding, wanted.embedding)
    assert [path.name for path in path.parent.iterdir()] == ["net.safetensors"]


def test_dropout_has_no_weights(saved: Path) -> None:
    assert load_network(saved, Architecture("resface20", 1 / 16, 8)).architecture.dropout == 0.25


def test_any_architecture_where_none_is_expected(saved: Path) -> None:
    assert load_network(str(saved)).architecture == SMALL["resface20"]


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (Architecture("resface20", 0.5, 8, 0.25), r": width is 0\.0625, must be 0\.5; give"),
        (
            Architecture("iresnet18", 1 / 16, 9),
            r": name is 'resface20', must be 'iresnet18', dim is 8, must be 9; give",
        ),
    ],
)
def test_another_architecture(saved: Path, expected: Architecture, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_network(saved, expected)


def without(name: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


CHANGES = {
    "missing": (without("stages.1.2.first.0.weight"), r"'stages\.1\.2\.first\.0\.weight' is missing; give weights of"),
    "extra": (lambda tensors: tensors | {"fc.weight": torch.zeros(2)}, "'fc.weight' belongs to another architecture"),
    "shape": (
        lambda tensors: tensors | {"bottleneck.weight": torch.zeros(8, 5)},
        r"'bottleneck\.weight' has shape \(8, 5\), must be \(8, 1152\); give weights of this architecture",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_do_not_fit(saved: Path, change: str) -> None:
    alter, message = CHANGES[change]
    tensors = alter(load_file(saved))
    save_file(tensors, saved, metadata())
    with pytest.raises(ModelError, match=message) as caught:
        load_network(saved)
    assert str(caught.value).startswith(f"{saved}: ")
    network = build_backbone(SMALL["resface20"])
    before = {key: value.clone() for key, value in as_module(network).state_dict().items()}
    with pytest.raises(ModelError, match=message):
        load_weights(network, tensors, "here")
    assert all(torch.equal(value, before[key]) for key, value in as_module(network).state_dict().items())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"architecture": "{"}, "no backbone that ProbFace saved"),
        ({"architecture": {"name": "vgg"}}, r"architecture\.name: 'vgg' must be one of"),
        ({"architecture": {"name": "resface20", "layers": 3}}, "unknown key 'layers'"),
        ({"architecture": {"name": "resface20", "width": -1}}, "the width must be above 0"),
        ({"input": {"height": 2}}, "need at least 8 pixels"),
        ({"input": "null"}, "expected a table"),
    ],
)
def test_what_the_file_says_cannot_be_read(saved: Path, entries: dict[str, object], message: str) -> None:
    save_file(load_file(saved), saved, metadata(**entries))
    with pytest.raises(ModelError, match=message) as caught:
        load_network(saved)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_backbone(saved: Path, tmp_path: Path) -> None:
    rule = "no backbone that ProbFace saved .*; give backbone.safetensors"
    whole = saved.read_bytes()
    for content in (b"", b"no tensors", whole[: len(whole) // 2], whole[:4]):
        saved.write_bytes(content)
        with pytest.raises(ModelError, match=rule):
            load_network(saved)
    save_file({"x": torch.zeros(2)}, saved)
    with pytest.raises(ModelError, match=rule):
        load_network(saved)
    with pytest.raises(ModelError, match=rule):
        load_network(tmp_path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"none\.safetensors: no such file of weights; check the path"):
        load_network(tmp_path / "none.safetensors")


def test_a_place_that_cannot_be_written(saved: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        save_network(build_backbone(SMALL["resface20"]), SMALL["resface20"], SPEC, saved / "net.safetensors")
