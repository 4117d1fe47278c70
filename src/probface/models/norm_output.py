"""The length of the raw embedding as a further output: a grafted graph computes it anyway, and divides by it.

The length is a measure of quality that needs no head, and fusion by sums of raw embeddings (as the protocol of the
verification sets wants them) needs it back.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, TensorProto, helper

from probface.models.graft import MU
from probface.models.wiring import BATCH, Wiring


@dataclass(frozen=True, slots=True, eq=False)
class NormOutput:
    """A model with one output more.

    Attributes:
        model: as it was given, and with the output.
        name: of the output, (N, 1) float32: the length of the raw embedding that ``mu`` is the direction of.
    """

    model: ModelProto
    name: str


def add_norm_output(model: ModelProto) -> NormOutput | None:
    """Find ``mu = x / ReduceL2(x)``, as :func:`probface.models.graft.graft` writes it, and give out the length.

    Args:
        model: a grafted model; left as it is.

    Returns:
        A copy with the output; None where the graph makes ``mu`` otherwise.
    """
    wiring = Wiring(model)
    division = wiring.producer.get(MU)
    if division is None or division.op_type != "Div":
        return None
    embedding, norm = division.input
    length = wiring.producer.get(norm)
    if length is None or length.op_type != "ReduceL2" or length.input[0] != embedding:
        return None
    if not any(value.name == norm for value in model.graph.output):
        extended = ModelProto()
        extended.CopyFrom(model)
        extended.graph.output.append(helper.make_tensor_value_info(norm, TensorProto.FLOAT, (BATCH, 1)))
        model = extended
    return NormOutput(model, norm)
