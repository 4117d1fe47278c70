from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from probface.errors import ModelError
from probface.export.model_folder import HEAD_WEIGHTS, write_backbone, write_head, write_paper_head
from probface.export.onnx import check_graft, check_parity
from probface.models.backbone import Backbone, load_backbone
from probface.models.graft import graft
from probface.models.head_weights import HeadWeights, load_head
from probface.nn.architecture import Architecture, as_module, build_backbone
from probface.nn.uncertainty_head import UncertaintyHead

TINY = Architecture("resface20", width=1 / 16, dim=8)


def paper_head(features: int) -> dict[str, np.ndarray]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {name: value.numpy() for name, value in UncertaintyHead(features, hidden=16).eval().state_dict().items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Backbone, HeadWeights]:
    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_backbone(TINY)
    backbone = write_backbone(network, TINY, TINY.input, folder)
    features = 6 * 6 * network.channels[-1] + sum(network.channels)
    write_paper_head(backbone, paper_head(features), name="tiny", fusion=True, trained_on="nothing", folder=folder)
    return folder, backbone, load_head(folder / HEAD_WEIGHTS)


def test_a_graft_that_computes_something_else_is_refused(written: tuple[Path, Backbone, HeadWeights]) -> None:
    _, backbone, head = written
    model = graft(backbone.model, head, backbone_digest=backbone.digest)
    assert check_graft(model, backbone, head) < 1e-4
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "probface/fc2.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(3), weight.name))
    with pytest.raises(ModelError, match=r"model 'tiny': its ONNX form differs by .*, must be 0.0001 at most"):
        check_graft(model, backbone, head)


def test_a_head_is_written_only_if_its_graft_is_right(
    written: tuple[Path, Backbone, HeadWeights], tmp_path: Path
) -> None:
    _, backbone, head = written
    assert write_head(backbone, head, tmp_path).read_bytes() == (written[0] / "model.onnx").read_bytes()
    steep = replace(head, scale=np.float32(1e4))
    with pytest.raises(ModelError, match="differs by"):
        write_head(backbone, steep, tmp_path / "steep")
    assert not (tmp_path / "steep").exists()


def test_a_wrong_stage_beside_a_right_embedding_is_refused(written: tuple[Path, Backbone, HeadWeights]) -> None:
    folder, _, _ = written
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_backbone(TINY)
    as_module(network).eval()
    model = onnx.load(folder / "backbone.onnx")
    assert check_parity(model, network, TINY.input) < 1e-4
    (node,) = (node for node in model.graph.node if "stage_2" in node.output)
    doubled = onnx.helper.make_node("Add", [node.output[0], node.output[0]], ["doubled"])
    model.graph.node.insert(list(model.graph.node).index(node) + 1, doubled)
    next(output for output in model.graph.output if output.name == "stage_2").name = "doubled"
    with pytest.raises(ModelError, match="backbone: its ONNX form differs"):
        check_parity(model, network, TINY.input)


def test_another_backbone_takes_the_old_model_away(tmp_path: Path) -> None:
    for name in (HEAD_WEIGHTS, "model.onnx"):
        (tmp_path / name).write_bytes(b"of the network before")
    write_backbone(build_backbone(TINY), TINY, TINY.input, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backbone.onnx", "backbone.safetensors"]
    assert load_backbone(tmp_path / "backbone.onnx").face.dim == 8
