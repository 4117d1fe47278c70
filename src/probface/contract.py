"""What one ONNX file says of itself: the model contract.

It travels as JSON under the key ``probface`` in the file's ``metadata_props``, so that one file is enough to embed,
score and decide correctly: how to cut and scale the face, what the outputs are, how quality follows from the
variance, and which thresholds were measured on which data at which false-match rate.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

from probface.errors import InvalidValue, ModelError
from probface.schema import from_plain
from probface.types import METRICS, Metric

METADATA_KEY = "probface"
CONTRACT_VERSION = 1

BATCH_NORM_EPSILON = 1e-3
"""Of both batch norms of the uncertainty head, in torch and in ONNX; the reference code's."""
SIGMA_SQ_FLOOR = 1e-6
"""Added to exp(s) in the head, so that the logarithm stays finite; the reference code has it, too."""

DIGEST_DIGITS = 16
"""Of the SHA-256 of a training person's label, in hexadecimal."""
_DIGEST = re.compile(rf"[0-9a-f]{{{DIGEST_DIGITS}}}")

ChannelOrder: TypeAlias = Literal["rgb", "bgr"]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How an aligned RGB uint8 face becomes the network's input: ``(pixel - mean) / scale``, channels first.

    Attributes:
        height, width: of the aligned face in pixels.
        channels: the order that the network takes, ``rgb`` or ``bgr``.
        mean, scale: in grey levels; 0 and 1 where scaling is inside the graph.
        template: name of the alignment template, see :data:`probface.face.align.TEMPLATES`.
    """

    height: int = 112
    width: int = 112
    channels: ChannelOrder = "rgb"
    mean: float = 127.5
    scale: float = 127.5
    template: str = "arcface"

    def __post_init__(self) -> None:
        if not (self.height >= 8 and self.width >= 8):
            raise InvalidValue(f"input size ({self.height}, {self.width}): need at least 8 pixels each way")
        if self.channels not in get_args(ChannelOrder):
            raise InvalidValue(f"channels {self.channels!r}: must be 'rgb' or 'bgr'")
        if not (math.isfinite(self.mean) and math.isfinite(self.scale) and self.scale > 0):
            raise InvalidValue(f"mean {self.mean}, scale {self.scale}: must be finite, the scale above 0")

    @property
    def cut(self) -> tuple[int, int, str]:
        """Height, width and template: inputs that agree in these take the same aligned faces."""
        return self.height, self.width, self.template


@dataclass(frozen=True, slots=True)
class Rescaling:
    """The cross-validated ``log sigma^2 <- gain * log sigma^2 + offset`` that the graph applies to the head's output.

    A gain above 0 keeps the order of the images; gain and offset together set the penalty for uncertainty against
    the distance (docs/formulas.md, "the direction of the score").
    """

    gain: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and math.isfinite(self.offset) and self.gain > 0):
            raise InvalidValue(f"rescaling {self.gain}, {self.offset}: must be finite, the gain above 0")


@dataclass(frozen=True, slots=True)
class QualityScale:
    """Quality 0..100 from the variance of the whole vector, linear in its logarithm between two anchors.

    Attributes:
        log_sigma_sq_best: ``log sigma^2`` at and below which quality is 100.
        log_sigma_sq_worst: ``log sigma^2`` at and above which quality is 0.
    """

    log_sigma_sq_best: float
    log_sigma_sq_worst: float

    def __post_init__(self) -> None:
        if not -math.inf < self.log_sigma_sq_best < self.log_sigma_sq_worst < math.inf:
            raise InvalidValue(
                f"quality anchors {self.log_sigma_sq_best}, {self.log_sigma_sq_worst}: "
                "must be finite, the best below the worst"
            )


@dataclass(frozen=True, slots=True)
class Threshold:
    """A decision threshold with what it was measured on: match when ``score > threshold``.

    Attributes:
        metric: the score that it is for.
        fmr: the false-match rate asked for.
        threshold: the score.
        fmr_upper: upper bound of the one-sided 95 % confidence interval of the rate at this threshold: the larger one
            of Clopper and Pearson's, for independent comparisons, and of a bootstrap over people, where there were
            people enough for it.
        impostor_pairs: how many cross-identity comparisons it was measured on.
        false_matches: how many of them were above the threshold.
        data: name of the set of comparisons (a key of ``ModelContract.data``).
    """

    metric: Metric
    fmr: float
    threshold: float
    fmr_upper: float
    impostor_pairs: int
    false_matches: int
    data: str

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise InvalidValue(f"metric {self.metric!r}: must be one of {', '.join(METRICS)}")
        if not 0 < self.fmr < 1:
            raise InvalidValue(f"FMR {self.fmr}: must be between 0 and 1")
        if not math.isfinite(self.threshold):
            raise InvalidValue(f"{self.metric} threshold {self.threshold}: must be finite")
        if not 0 <= self.false_matches <= self.impostor_pairs:
            raise InvalidValue(f"{self.false_matches} false matches of {self.impostor_pairs} pairs: must be 0 to all")


@dataclass(frozen=True, slots=True)
class ScoreHistogram:
    """How genuine and impostor scores were spread where the thresholds were measured (for reports).

    Attributes:
        metric: the score.
        edges: bin edges, ascending, one more than bins.
        genuine, impostor: share of the comparisons in each bin; each sums to 1.
        data: name of the set of comparisons.
    """

    metric: Metric
    edges: tuple[float, ...]
    genuine: tuple[float, ...]
    impostor: tuple[float, ...]
    data: str

    def __post_init__(self) -> None:
        if not len(self.edges) - 1 == len(self.genuine) == len(self.impostor) > 0:
            raise InvalidValue(f"histogram of {len(self.genuine)} bins, {len(self.edges)} edges: need one more edge")
        if not all(low < high for low, high in pairwise(self.edges)):
            raise InvalidValue(f"histogram edges {self.edges[0]} to {self.edges[-1]}: must rise from each to the next")


@dataclass(frozen=True, slots=True)
class ModelContract:
    """All that a user of the ONNX file must know.

    Attributes:
        name: short name of the model.
        dim: D, the length of ``mu``.
        sigma_sq_width: 1, or D for a PFE model.
        input: how a face becomes the network's input.
        backbone_digest: SHA-256 of the frozen backbone's ONNX file as it was found.
        backbone_licence: SPDX name of the licence of its weights, or ``unknown``.
        head_licence: the same of the uncertainty head.
        trained_on: the head's training data and people, in one sentence.
        training_people: the people who trained the head, each as :func:`person_digest` of the label, ascending, so
            that who judges the model can leave them out. Empty where that is not known, as in models that were
            written before the field was there. No secret: who guesses a name can check the guess.
        features: names of the graph's tensors that the head reads, in the order of the fused vector.
        rescaling: what was done to the head's raw ``log sigma^2``.
        quality: how 0..100 follows from the variance; None where it was not set.
        thresholds: measured decision thresholds.
        histograms: score distributions for reports.
        data: name of a set of comparisons -> what it is, in one sentence.
        version: of this format.
    """

    name: str
    dim: int
    sigma_sq_width: int
    input: InputSpec
    backbone_digest: str
    backbone_licence: str = "unknown"
    head_licence: str = "unknown"
    trained_on: str = ""
    training_people: tuple[str, ...] = field(default=(), repr=False)
    features: tuple[str, ...] = ()
    rescaling: Rescaling = field(default_factory=Rescaling)
    quality: QualityScale | None = None
    thresholds: tuple[Threshold, ...] = ()
    histograms: tuple[ScoreHistogram, ...] = ()
    data: dict[str, str] = field(default_factory=dict)
    version: int = CONTRACT_VERSION

    def __post_init__(self) -> None:
        if self.version != CONTRACT_VERSION:
            raise ModelError(
                f"model contract version {self.version}: this ProbFace reads version {CONTRACT_VERSION}; "
                "use the ProbFace that wrote the model, or export the model again"
            )
        if self.sigma_sq_width not in (1, self.dim):
            raise InvalidValue(f"sigma_sq width {self.sigma_sq_width}: must be 1 or D = {self.dim}")
        _check_people(self.training_people)

    def trained_on_person(self, label: str) -> bool:
        """Whether a person of this label trained the head.

        A label that is a mere number, as in RecordIO, means another person in every data set, and is answered all
        the same: such a person is better left out once too often.
        """
        digest = person_digest(label)
        place = bisect_left(self.training_people, digest)
        return self.training_people[place : place + 1] == (digest,)

    def threshold(self, metric: Metric, fmr: float) -> Threshold:
        """The threshold measured for this metric at this false-match rate.

        Raises:
            InvalidValue: none was measured at that rate; the message lists those that were.
        """
        measured = {entry.fmr: entry for entry in self.thresholds if entry.metric == metric}
        for rate, entry in measured.items():
            if math.isclose(rate, fmr, rel_tol=1e-9):
                return entry
        have = ", ".join(f"{rate:g}" for rate in sorted(measured, reverse=True)) or "none"
        raise InvalidValue(
            f"FMR {fmr:g}: model {self.name!r} carries {metric} thresholds for {have}; "
            "choose one of these, or measure a threshold on your own pairs"
        )

    def to_json(self) -> str:
        """One JSON object, keys in the order of the fields."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelContract:
        """Read what :meth:`to_json` wrote.

        Raises:
            ModelError: not JSON, an unknown or missing key, or a value of the wrong type.
        """
        try:
            return from_plain(cls, json.loads(text), "model contract")
        except (json.JSONDecodeError, RecursionError) as error:
            raise ModelError(f"model contract is not JSON ({error}); export the model again") from error
        except InvalidValue as error:
            raise ModelError(f"{error}; export the model again, with this version of ProbFace") from error


def person_digest(label: str) -> str:
    """What a contract keeps of a training person's label: the first 16 hexadecimal digits of its SHA-256 in UTF-8."""
    return hashlib.sha256(label.encode("utf-8", "surrogateescape")).hexdigest()[:DIGEST_DIGITS]


def person_digests(labels: Iterable[str]) -> tuple[str, ...]:
    """The digests of several labels as :attr:`ModelContract.training_people` wants them: ascending, each once."""
    return tuple(sorted({person_digest(label) for label in labels}))


def _check_people(digests: tuple[str, ...]) -> None:
    bad = next((digest for digest in digests if not _DIGEST.fullmatch(digest)), None)
    if bad is not None:
        raise InvalidValue(
            f"training person {bad[:80]!r}: must be {DIGEST_DIGITS} hexadecimal digits; write person_digest(label)"
        )
    if not all(low < high for low, high in pairwise(digests)):
        raise InvalidValue("training people: must be in ascending order, each once; write person_digests(labels)")
