from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from probface.errors import ModelError, ProbFaceError
from probface.models.backbone import load_backbone
from probface.models.graph import load_graph
from probface.models.taps import find_taps, with_features

EDGE = 9000
"""Bytes at either end of a file, where the graph is rather than its weights."""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    keep=st.just(1.0) | st.floats(0.01, 1),
    damage=st.lists(st.tuples(st.integers(-EDGE, EDGE), st.integers(0, 255)), min_size=1, max_size=6),
)
@pytest.mark.parametrize("network", ["sface", "mobilefacenet"])
def test_a_damaged_file_is_one_line_or_still_a_network(
    network_files: dict[str, Path], network: str, keep: float, damage: list[tuple[int, int]]
) -> None:
    data = bytearray(network_files[network].read_bytes())
    data = data[: int(len(data) * keep)]
    for place, byte in damage:
        data[place % len(data)] = byte
    message = ""
    try:
        backbone = load_backbone(bytes(data))
        with_features(backbone.model, find_taps(backbone.model, backbone.face))
    except ProbFaceError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("name", [b"an-input", b"a-node", b"a-weight", b"an-output"])
def test_a_name_that_is_not_text_is_damage(name: bytes) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["an-input", "a-weight"], ["an-output"], name="a-node")],
        "face",
        [helper.make_tensor_value_info("an-input", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("an-output", TensorProto.FLOAT, [1])],
        [helper.make_tensor("a-weight", TensorProto.FLOAT, [1], [1.0])],
    )
    data = helper.make_model(graph).SerializeToString()
    load_graph(data)
    with pytest.raises(ModelError, match="<bytes>: damaged, a name in it is not UTF-8; get the model file again"):
        load_graph(data.replace(name, b"\xff" * len(name)))
