"""A frozen recognition network, made ready: float32 weights, any batch size, its ends known."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, helper

from probface.contract import InputSpec
from probface.errors import InvalidValue, ModelError
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
from probface.schema import from_plain

INPUT_KEY = "probface.input"
"""Under it a backbone's metadata say how it takes a face, where ProbFace made the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A network to embed with and to graft a head onto.

    Attributes:
        model: float32 weights, dynamic batch, the image as its only input.
        face: its image input and raw embedding.
        digest: SHA-256 of the ONNX file as it was found, before anything was done to it.
        input: how a face becomes its input; a guess unless the network is one of the registry's, or one of ours.
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
        ModelError: not an ONNX file, or what it says of its input cannot be read.
    """
    data = source if isinstance(source, bytes) else read_model_file(Path(source))
    with naming(source):
        model = make_batch_dynamic(dequantise(widen(parse_graph(data, source))))
        face = inspect_face_graph(model, embedding)
        spec = _declared_input(model) or guess_input_spec(model)
    return Backbone(model, face, hashlib.sha256(data).hexdigest(), spec)


def declare_input(model: ModelProto, spec: InputSpec) -> None:
    """Write into a backbone's metadata how it takes a face; :func:`load_backbone` reads it there."""
    helper.set_model_props(model, {INPUT_KEY: json.dumps(dataclasses.asdict(spec))})


def _declared_input(model: ModelProto) -> InputSpec | None:
    said = next((entry.value for entry in model.metadata_props if entry.key == INPUT_KEY), None)
    if said is None:
        return None
    try:
        return from_plain(InputSpec, json.loads(said), INPUT_KEY)
    except (json.JSONDecodeError, RecursionError, InvalidValue) as error:
        raise ModelError(f"model: what it says of its input cannot be read ({error}); export it again") from error
