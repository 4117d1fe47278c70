"""Evaluate models by a protocol: one call, two files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from probface.errors import InvalidValue
from probface.eval.results import Results
from probface.pipeline.evaluation.blufr import evaluate_blufr
from probface.pipeline.evaluation.cross_quality import evaluate_cross_quality
from probface.pipeline.evaluation.distractors import evaluate_distractors
from probface.pipeline.evaluation.evaluation import Evaluation
from probface.pipeline.evaluation.ijb import evaluate_ijb
from probface.pipeline.evaluation.ijba import evaluate_ijba
from probface.pipeline.evaluation.lfw import evaluate_lfw
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.evaluation.verification_bin import evaluate_verification_bin

Protocol: TypeAlias = Literal["lfw", "bin", "ijb", "ijba", "blufr", "risk", "distractors"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

_RUN: MappingProxyType[Protocol, Callable[[EvaluationRequest], Evaluation]] = MappingProxyType(
    {
        "lfw": evaluate_lfw,
        "bin": evaluate_verification_bin,
        "ijb": evaluate_ijb,
        "ijba": evaluate_ijba,
        "blufr": evaluate_blufr,
        "risk": evaluate_cross_quality,
        "distractors": evaluate_distractors,
    }
)


def evaluate(protocol: Protocol, data: str | os.PathLike[str], out: str | os.PathLike[str], **options: Any) -> Results:
    """Judge models by a protocol, and write ``results.json`` and ``report.html``.

    Args:
        protocol: one of :data:`PROTOCOLS`.
        data: the data set: LFW's folder (``lfw``, ``blufr``), a verification file (``bin``), the folder of IJB-B or -C
            (``ijb``) or -A (``ijba``), or images of people in whatever the readers read (``risk``, ``distractors``).
        out: the folder to write to.
        options: the other fields of :class:`~probface.pipeline.evaluation.request.EvaluationRequest`: ``models``,
            ``embeddings``, ``metrics``, ``judge`` ...

    Raises:
        InvalidValue: an unknown protocol or option, or one that breaks its rule.
        DataError: the data set breaks its format, or what it names is not there.
        InsufficientData: too few comparisons to judge anything.
        ModelError: a model cannot be used.
        StorageError: the folder cannot be written.
    """
    if protocol not in _RUN:
        raise InvalidValue(f"protocol {protocol!r}: must be one of {', '.join(PROTOCOLS)}")
    known = {field.name for field in dataclasses.fields(EvaluationRequest)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise InvalidValue(f"option {unknown[0]!r}: must be one of {', '.join(sorted(known))}")
    request = EvaluationRequest(Path(data), Path(out), **options)
    evaluation = _RUN[protocol](request)
    evaluation.write(request.out)
    return evaluation.results
