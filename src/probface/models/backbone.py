"""A frozen recognition network, made ready: float32 weights, any batch size, its ends known."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from probface.contract import InputSpec
from probface.models.dequantise import dequantise
from probface.models.graph import (
    FaceGraph,
    guess_input_spec,
    inspect_face_graph,
    make_batch_dynamic,
    naming,
    parse_graph,
    read_model_file,
)
from probface.models.widen import widen


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A network to embed with and to graft a head onto.

    Attributes:
        model: float32 weights, dynamic batch, the image as its only input.
        face: its image input and raw embedding.
        digest: SHA-256 of the ONNX file as it was found, before anything was done to it.
        input: how a face becomes its input; a guess unless the network is one of the registry's.
        licence: SPDX name of the licence of its weights, or ``unknown``.
    """

    model: ModelProto
    face: FaceGraph
    digest: str
    input: InputSpec
    licence: str = "unknown"


def load_backbone(source: str | os.PathLike[str] | bytes, embedding: str | None = None) -> Backbone:
    """Load any ONNX face network.

    Args:
        source: the file, or its bytes.
        embedding: name of the embedding's output, needed where several outputs could be it.

    Raises:
        ModelNotFound: no such file.
        NotAFaceModel: an ONNX graph without exactly one image input and one embedding.
        ModelError: not an ONNX file.
    """
    data = source if isinstance(source, bytes) else read_model_file(Path(source))
    with naming(source):
        model = make_batch_dynamic(dequantise(widen(parse_graph(data, source))))
        face = inspect_face_graph(model, embedding)
    return Backbone(model, face, hashlib.sha256(data).hexdigest(), guess_input_spec(model))
