"""Where the uncertainty head reads the backbone: multi-layer feature fusion, section 5 of the paper.

The points are found from the graph alone: the last activation at each spatial resolution, whatever its name. A
backbone that offers layers as further outputs, of shape (N, C, H, W), is fused there. The fused vector is

    concat( flatten(last layer)?, GAP(highest resolution), ..., GAP(lowest resolution), raw embedding? )

GAP is global average pooling. The paper flattens the last convolution and leaves the embedding out; that makes the
head of an SFace 53 MB large, so by default the raw embedding, before L2 normalisation, takes its place: its length
alone tells many bad images from good ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from probface.errors import InvalidValue, NotAFaceModel
from probface.models.graph import FaceGraph
from probface.models.wiring import Shape, Wiring, append_node, infer_shapes, set_outputs

_ACTIVATIONS = frozenset(
    (
        "Relu",
        "PRelu",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "ThresholdedRelu",
        "Clip",
        "HardSwish",
        "Swish",
        "Mish",
        "Gelu",
    )
)
_GATES = frozenset(("Sigmoid", "HardSigmoid", "Tanh", "Erf", "Clip", "Softplus"))
_GATE_STEPS = frozenset(("Add", "Mul", "Div", "Sub", "Pow", *_GATES))
"""What may lie between ``x`` and its gate in ``x * gate(x)``: arithmetic, and the gate itself."""

FEATURES = "features"
GAP, FLATTEN, EMBEDDING, MU_ONLY = "gap", "flatten", "embedding", "mu"


@dataclass(frozen=True, slots=True)
class Taps:
    """The tensors that make the fused vector, in its order.

    In a model contract a pooled tensor is written ``gap:NAME``, a flattened one ``flatten:NAME`` and the raw
    embedding ``embedding:NAME``, or ``mu:NAME`` where ``mu`` is made from it and the head does not read it; NAME is the
    tensor's name in the backbone.

    Attributes:
        names: tensors of shape (N, C, H, W) to be pooled, from high to low resolution.
        channels: C of each.
        embedding: the raw embedding's tensor, (N, dim).
        dim: D.
        flatten: tensor to be flattened in (height, width, channel) order, or None.
        flatten_width: its H * W * C; 0 without.
        reads_embedding: whether the embedding is part of the fused vector, its end.
    """

    names: tuple[str, ...]
    channels: tuple[int, ...]
    embedding: str
    dim: int
    flatten: str | None = None
    flatten_width: int = 0
    reads_embedding: bool = True

    def __post_init__(self) -> None:
        if len(self.names) != len(self.channels):
            raise InvalidValue(f"taps {self.names} with channels {self.channels}: need one number for each name")
        if not (self.names or self.flatten or self.reads_embedding):
            raise InvalidValue("taps: the head reads nothing; fuse layers, flatten the last, or read the embedding")

    @property
    def width(self) -> int:
        """F, the length of the fused vector."""
        return self.flatten_width + sum(self.channels) + (self.dim if self.reads_embedding else 0)

    @property
    def spelling(self) -> tuple[str, ...]:
        """The taps as a model contract writes them."""
        flattened = (f"{FLATTEN}:{self.flatten}",) if self.flatten else ()
        end = EMBEDDING if self.reads_embedding else MU_ONLY
        return (*flattened, *(f"{GAP}:{name}" for name in self.names), f"{end}:{self.embedding}")


def find_taps(
    model: ModelProto,
    face: FaceGraph,
    *,
    names: Sequence[str] = (),
    fusion: bool = True,
    flatten_last: bool = False,
    embedding: bool = True,
) -> Taps:
    """Choose the points to fuse.

    Args:
        model: the backbone.
        face: its ends, from :func:`probface.models.graph.inspect_face_graph`.
        names: tensors to pool instead of those found; found if empty.
        fusion: pool the layers; False is an ablation.
        flatten_last: flatten the last of the layers.
        embedding: the head reads the raw embedding, too.

    Raises:
        NotAFaceModel: no activation is found, or a named tensor is missing or not (N, C, H, W).
        InvalidValue: the head would read nothing.
    """
    if not (fusion or flatten_last):
        return Taps((), (), face.embedding, face.dim, reads_embedding=embedding)
    shapes = infer_shapes(model)
    chosen = tuple(names) or _offered(model, shapes) or tuple(_last_activations(model, face, shapes))
    if not chosen:
        raise NotAFaceModel("model: no activation of shape (N, C, H, W) is found; name the tensors to fuse")
    pooled = chosen if fusion else ()
    channels = tuple(_image_shape(shapes, name)[1] for name in pooled)
    if not flatten_last:
        return Taps(pooled, channels, face.embedding, face.dim, reads_embedding=embedding)
    _, depth, height, width = _image_shape(shapes, chosen[-1])
    return Taps(pooled, channels, face.embedding, face.dim, chosen[-1], height * width * depth, embedding)


def read_taps(model: ModelProto, features: Sequence[str]) -> Taps:
    """The taps that a model contract names, found again in the backbone.

    Args:
        model: the backbone.
        features: as :attr:`Taps.spelling` writes them.

    Raises:
        InvalidValue: written otherwise.
        NotAFaceModel: a named tensor is missing or has another rank.
    """
    shapes = infer_shapes(model)
    parts = [(kind, name) for kind, _, name in (feature.partition(":") for feature in features)]
    flattened, pooled, read, unread = (
        [name for kind, name in parts if kind == k] for k in (FLATTEN, GAP, EMBEDDING, MU_ONLY)
    )
    flatten = flattened[0] if flattened else None
    embedding = next(iter(read + unread), "")
    shape = shapes.get(embedding, ())
    if len(shape) != 2:
        raise NotAFaceModel(f"features {tuple(features)}: the model has no embedding {embedding!r} of shape (N, D)")
    _, depth, height, width = _image_shape(shapes, flatten) if flatten else (0, 0, 0, 0)
    channels = tuple(_image_shape(shapes, name)[1] for name in pooled)
    taps = Taps(tuple(pooled), channels, embedding, shape[1], flatten, depth * height * width, bool(read))
    if taps.spelling != tuple(features):
        raise InvalidValue(
            f"features {tuple(features)}: must be at most one {FLATTEN}:NAME, then {GAP}:NAME for each pooled tensor, "
            f"then {EMBEDDING}:NAME, or {MU_ONLY}:NAME where the head does not read it"
        )
    return taps


def with_features(model: ModelProto, taps: Taps) -> ModelProto:
    """A copy with one output: ``features`` (N, F) float32, the fused vector."""
    tapped = ModelProto()
    tapped.CopyFrom(model)
    set_outputs(tapped, {FEATURES: (add_features(tapped, taps), taps.width)})
    return tapped


def add_features(model: ModelProto, taps: Taps) -> str:
    """Append the nodes that fuse the taps to ``model``, in place; the name of the fused tensor, (N, F).

    GlobalAveragePool, unlike ReduceMean, reads ONNX Runtime's blocked layout; joined before they are flattened, the
    means leave that layout once for all. That is 2 instead of 10 % of the time of a small network.
    """
    parts = []
    if taps.flatten:
        last = append_node(model, "Transpose", [taps.flatten], "channels_last", perm=(0, 2, 3, 1))
        parts.append(append_node(model, "Flatten", [last], "flatten", axis=1))
    if taps.names:
        means = [append_node(model, "GlobalAveragePool", [name], f"gap_{i}") for i, name in enumerate(taps.names)]
        joined = append_node(model, "Concat", means, "gaps", axis=1)
        parts.append(append_node(model, "Flatten", [joined], "gaps_flat", axis=1))
    if taps.reads_embedding:
        parts.append(taps.embedding)
    return append_node(model, "Concat", parts, "features", axis=1)


def _image_shape(shapes: dict[str, Shape], name: str) -> Shape:
    shape = shapes.get(name)
    if shape is None or len(shape) != 4 or min(shape[1:]) < 1:
        found = "is not in the model" if shape is None else f"has shape {shape}"
        raise NotAFaceModel(f"tap {name!r} {found}: must name a tensor of shape (N, C, H, W) with fixed C, H and W")
    return shape


def _offered(model: ModelProto, shapes: dict[str, Shape]) -> tuple[str, ...]:
    """The layers that the backbone offers as outputs."""
    return tuple(value.name for value in model.graph.output if len(shapes.get(value.name, ())) == 4)


def _last_activations(model: ModelProto, face: FaceGraph, shapes: dict[str, Shape]) -> list[str]:
    last: dict[tuple[int, int], str] = {}
    for name in _activations(model, face):
        shape = shapes.get(name, ())
        if len(shape) == 4 and shape[2] * shape[3] > 1:
            last[shape[2], shape[3]] = name
    return [last[size] for size in sorted(last, key=lambda size: -size[0] * size[1])]


def _activations(model: ModelProto, face: FaceGraph) -> Iterator[str]:
    """The outputs of all activations on the way to the embedding, in the order in which they are computed."""
    wiring = Wiring(model)
    on_the_way = wiring.ancestors([face.embedding])
    gates = {step for node in model.graph.node for step in _self_gate(wiring, node)}
    for node in model.graph.node:
        name = node.output[0]
        if name in on_the_way and name not in gates and (node.op_type in _ACTIVATIONS or _self_gate(wiring, node)):
            yield name


def _self_gate(wiring: Wiring, node: NodeProto) -> set[str]:
    """The tensors between ``x`` and ``gate(x)`` if the node computes ``x * gate(x)`` (swish and its kin); else none."""
    varying = wiring.varying(node)
    if node.op_type != "Mul" or len(varying) != 2:
        return set()
    for factor, gate in (varying, reversed(varying)):
        x = _without_constant_factors(wiring, factor)
        steps = _steps_between(wiring, x, gate)
        if any(wiring.made_by(step) in _GATES for step in steps):
            return steps
    return set()


def _without_constant_factors(wiring: Wiring, name: str) -> str:
    while wiring.made_by(name) in ("Mul", "Div"):
        varying = wiring.varying(wiring.producer[name])
        if len(varying) != 1:
            break
        name = varying[0]
    return name


def _steps_between(wiring: Wiring, x: str, gate: str) -> set[str]:
    """All tensors from ``x``, left out, to ``gate``; none where ``gate`` is not made from ``x`` alone, step by step."""
    steps: set[str] = set()
    waiting = [gate]
    while waiting:
        name = waiting.pop()
        if name == x or name in steps:
            continue
        if wiring.made_by(name) not in _GATE_STEPS:
            return set()
        steps.add(name)
        waiting.extend(wiring.varying(wiring.producer[name]))
    return steps
