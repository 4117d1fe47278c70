from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from probface.errors import DigestMismatch, InvalidValue, ModelError, ModelNotFound, NotAFaceModel
from probface.models.backbone import Backbone
from probface.models.graft import graft, read_contract
from probface.models.graph import load_graph
from probface.models.head_weights import HeadWeights, save_head
from probface.models.record import SFACE, YUNET
from probface.models.registry import build_model, list_models, resolve_backbone, resolve_model, show_model
from probface.models.taps import find_taps

MakeHead = Callable[..., HeadWeights]


@pytest.fixture
def trained(tmp_path: Path, backbones: dict[str, Backbone], make_head: MakeHead) -> Path:
    """A training output folder."""
    backbone = backbones["mobilefacenet"]
    head = make_head(backbone, find_taps(backbone.model, backbone.face))
    model = graft(backbone.model, head, backbone_digest=backbone.digest)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    return tmp_path


def test_a_model_is_listed_when_its_head_is_there() -> None:
    head = Path(str(resources.files("probface.models"))) / "weights" / "sface_head.safetensors"
    names = [record.name for record in list_models()]
    assert names == (["sface", "yunet"] if head.is_file() else ["yunet"])


@pytest.mark.parametrize("record", [SFACE, YUNET], ids=lambda record: record.name)
def test_every_model_has_a_card(record: object) -> None:
    shown = show_model(record.name)
    assert shown.record is record
    assert shown.card.startswith("# ")
    assert shown.record.digest in shown.card
    assert shown.record.licence in shown.card


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ModelNotFound, match="model 'arcface': no such name; the known ones are sface, yunet"):
        show_model("arcface")


def test_sface_is_grafted_in_memory(tmp_path: Path, backbones: dict[str, Backbone], make_head: MakeHead) -> None:
    backbone = backbones["sface"]
    head = make_head(backbone, find_taps(backbone.model, backbone.face))
    save_head(head, tmp_path / "head.safetensors")
    model = build_model(SFACE, head=tmp_path / "head.safetensors")
    assert (model.name, model.contract) == ("random", head.contract)
    assert read_contract(load_graph(model.onnx)) == head.contract


@pytest.mark.skipif(len(list_models()) < 2, reason="no head is shipped yet")
def test_the_shipped_model_is_found_by_name() -> None:
    model = resolve_model("sface")
    assert isinstance(model.onnx, bytes)
    assert model.contract.backbone_digest == SFACE.digest
    assert model.contract.input == SFACE.input


def test_a_head_that_is_not_shipped_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"gone\.safetensors: no such head file"):
        build_model(SFACE, head=tmp_path / "gone.safetensors")
    with pytest.raises(InvalidValue, match="model 'yunet': a detector, must be a recogniser"):
        resolve_model("yunet")


def test_other_weights_are_refused(tmp_path: Path, network_files: dict[str, Path]) -> None:
    with pytest.raises(DigestMismatch, match="to be 'sface'"):
        build_model(SFACE, weights=network_files["resnet"])


def test_a_file_and_a_training_folder_are_models(trained: Path) -> None:
    from_file, from_folder = resolve_model(trained / "model.onnx"), resolve_model(str(trained))
    assert from_file.onnx == from_folder.onnx == trained / "model.onnx"
    assert from_file.contract == from_folder.contract
    assert from_file.name == "random"


def test_a_network_without_a_head_asks_for_training(network_files: dict[str, Path]) -> None:
    path = network_files["resnet"]
    with pytest.raises(ModelError, match=rf"without uncertainty head; .*train head --backbone {path} --data DIR"):
        resolve_model(path)


def test_a_graph_that_is_no_face_network_says_so(sface_file: Path) -> None:
    with pytest.raises(NotAFaceModel):
        resolve_model(sface_file.with_name("face_detection_yunet_2023mar_int8bq.onnx"))


def test_neither_name_nor_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"model 'sphere': neither a name \(.*yunet\), nor an ONNX file"):
        resolve_model("sphere")
    with pytest.raises(ModelNotFound, match=r"model\.onnx: not there, so the folder is no finished training"):
        resolve_model(tmp_path)


def test_a_backbone_by_name_knows_its_input_and_licence(sface_file: Path) -> None:
    backbone = resolve_backbone("sface")
    assert (backbone.digest, backbone.licence, backbone.input) == (SFACE.digest, "Apache-2.0", SFACE.input)
    assert resolve_backbone(sface_file).licence == "unknown"


def test_the_digest_is_of_the_file_as_found(network_files: dict[str, Path]) -> None:
    path = network_files["mobilefacenet"]
    assert resolve_backbone(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_records_input_is_what_the_graph_suggests(backbones: dict[str, Backbone]) -> None:
    assert SFACE.input == backbones["sface"].input
