"""From what a user calls a model to a model that runs: names, ONNX files, training folders."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path

from onnx import ModelProto

from probface.contract import ModelContract
from probface.errors import InvalidValue, ModelError, ModelNotFound
from probface.models.backbone import Backbone, load_backbone
from probface.models.graft import graft, read_contract
from probface.models.graph import load_graph
from probface.models.head_weights import load_head
from probface.models.record import SFACE, YUNET, ModelRecord
from probface.models.weights import find_weights

TRAINED_MODEL = "model.onnx"
"""The model's name in a training output folder."""
TRAINED_BACKBONE = "backbone.onnx"
"""The recognition network's name in the output folder of its training."""

_RECORDS = (SFACE, YUNET)


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedModel:
    """A model with an uncertainty head, ready to run.

    Attributes:
        name: the contract's name of it.
        onnx: the file, or its bytes where it was put together in memory.
        contract: what the model says of itself.
        digest: SHA-256 of what makes the vectors, the graph and how it takes a face: models with one digest embed
            alike, and thresholds measured anew (``probface calibrate``) do not change it. Empty for one put together
            by hand.
    """

    name: str
    onnx: Path | bytes
    contract: ModelContract
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model of the registry and its card.

    Attributes:
        record: where the weights come from.
        card: the model card, Markdown.
    """

    record: ModelRecord
    card: str


def list_models() -> tuple[ModelRecord, ...]:
    """The models known by name. A recogniser whose head this installation lacks is left out."""
    return tuple(record for record in _RECORDS if record.head is None or head_file(record.head).is_file())


def show_model(name: str) -> ModelDescription:
    """A model's record and card.

    Raises:
        ModelNotFound: no model of that name.
    """
    record = _record(name)
    card = resources.files("probface.models").joinpath("cards", f"{record.name}.md").read_text(encoding="utf-8")
    return ModelDescription(record, card)


def resolve_model(model: str | os.PathLike[str]) -> ResolvedModel:
    """Find a model that gives ``mu`` and ``sigma_sq``.

    Args:
        model: a name from :func:`list_models`, an ONNX file with a model contract, or a training output folder. A
            name goes before a file of the same name; write ``./name`` for the file.

    Raises:
        ModelNotFound: none of these.
        NotAFaceModel: an ONNX file that is no face network.
        ModelError: a face network without an uncertainty head, or a file that is no model.
    """
    known = {record.name: record for record in list_models()}
    if isinstance(model, str) and model in known:
        return build_model(known[model])
    path = _model_file(model, sorted(known))
    graph = load_graph(path)
    contract = read_contract(graph)
    if contract is None:
        load_backbone(path)
        raise ModelError(
            f"{path}: a face network without uncertainty head; train one: "
            f"probface train head --backbone {path} --data DIR --out DIR"
        )
    return ResolvedModel(contract.name, path, contract, _digest(graph, contract))


def build_model(
    record: ModelRecord, *, head: Path | None = None, weights: str | os.PathLike[str] | None = None
) -> ResolvedModel:
    """Graft a model of the registry together, in memory: no slower to speak of than reading it from a cache.

    Args:
        record: a recogniser.
        head: safetensors file of another head than the one shipped.
        weights: file of the backbone; looked for by digest if not given.

    Raises:
        InvalidValue: the record is a detector's.
        ModelNotFound: backbone or head are nowhere to be found.
    """
    if record.head is None:
        raise InvalidValue(f"model {record.name!r}: a {record.kind}, must be a recogniser; choose another")
    backbone = _load_record(record, weights)
    head = head or head_file(record.head)
    trained = load_head(head)
    contract = trained.contract
    model = graft(backbone.model, trained, backbone_digest=backbone.digest)
    return ResolvedModel(contract.name, model.SerializeToString(), contract, _digest(model, contract))


def resolve_backbone(backbone: str | os.PathLike[str], *, embedding: str | None = None) -> Backbone:
    """Find a network to train a head on.

    Args:
        backbone: name of a recogniser, shipped with a head or not, any ONNX face network, or the output folder of
            ``probface train backbone`` or ``probface convert``.
        embedding: name of the embedding's output, needed where several outputs could be it.

    Raises:
        ModelNotFound: no such name or file.
        NotAFaceModel: an ONNX file that is no face network.
        ModelError: not an ONNX file.
    """
    known = {record.name: record for record in _RECORDS if record.kind == "recogniser"}
    if isinstance(backbone, str) and backbone in known:
        return _load_record(known[backbone])
    return load_backbone(_model_file(backbone, sorted(known), TRAINED_BACKBONE), embedding)


def _digest(model: ModelProto, contract: ModelContract) -> str:
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]  # the contract is there, with thresholds and descriptions
    digest = hashlib.sha256(bare.SerializeToString(deterministic=True))
    digest.update(json.dumps(asdict(contract.input), sort_keys=True).encode())
    return digest.hexdigest()


def _load_record(record: ModelRecord, weights: str | os.PathLike[str] | None = None) -> Backbone:
    backbone = load_backbone(find_weights(record, path=weights))
    return replace(backbone, input=record.input or backbone.input, licence=record.licence)


def _record(name: str) -> ModelRecord:
    known = {record.name: record for record in _RECORDS}
    if name not in known:
        raise ModelNotFound(f"model {name!r}: no such name; the known ones are {', '.join(sorted(known))}")
    return known[name]


def _model_file(model: str | os.PathLike[str], names: list[str], in_folder: str = TRAINED_MODEL) -> Path:
    path = Path(model)
    if path.is_dir():
        path = path / in_folder
        if not path.is_file():
            raise ModelNotFound(f"{path}: not there, so the folder is no finished training; give one, or an ONNX file")
    if not path.is_file():
        raise ModelNotFound(
            f"model {os.fspath(model)!r}: neither a name ({', '.join(names) or 'none known'}), nor an ONNX file, nor a "
            "training output folder; check the name or path"
        )
    return path


def head_file(name: str) -> Path:
    """Where the package keeps a shipped head's weights, whether they are there or not."""
    return Path(str(resources.files("probface.models").joinpath("weights", name)))
