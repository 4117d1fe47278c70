"""What an evaluation found, as plain values: the schema of ``results.json``.

Everything that the page shows is here, but for the pictures of faces. A number that the data cannot give is None, with
a note that says why. Readers may rely on names and meaning for as long as :data:`SCHEMA` stays the same; keys may
be added.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from probface.errors import DataError, InvalidValue
from probface.schema import from_plain
from probface.types import Metric

SCHEMA = 1
"""Version of the schema; it rises when a key loses its meaning."""

Unit: TypeAlias = Literal["share", "score", "ratio", "bits", "count", "area"]
"""``share``: in 0..1, shown in percent, a difference of two in points."""
Relation: TypeAlias = Literal["value", "difference", "ratio"]
Scale: TypeAlias = Literal["linear", "log"]
ChartKind: TypeAlias = Literal[
    "roc", "det", "edc", "risk", "cmc", "dir", "reliability", "histogram", "distractors", "ladder", "lines"
]
ErrorKind: TypeAlias = Literal["false match", "false non-match"]

INSUFFICIENT = "insufficient data"
"""How a note begins where there are too few comparisons for a rate."""


@dataclass(frozen=True, slots=True)
class System:
    """What was judged: a model together with a score.

    Attributes:
        key: short and unique; figures name their system by it.
        label: what people read.
        model: the contract's name of the model, or what the user calls the embeddings.
        model_digest: SHA-256, empty where unknown.
        metric: the score.
        trained_on: of the uncertainty head, from the contract.
        left_out: comparisons not judged because people in them trained the head.
    """

    key: str
    label: str
    model: str
    model_digest: str
    metric: Metric
    trained_on: str = ""
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its interval.

    Attributes:
        name: the standard's term: ``TMR``, ``FNMR``, ``FMR``, ``EER``, ``accuracy``, ``FNIR``, ``Cllr`` ...
        system: key of a :class:`System`.
        value: None where the data cannot give it; ``note`` says why.
        low, high: ends of the interval, None where there is none.
        at: the operating point: ``fmr``, ``fpir``, ``rank``, ``gallery``, ``rejected`` ... -> value.
        by: what a row is about beside the operating point, a quality measure or a group for example.
        unit: of the value.
        better: which direction is good, None where neither is.
        relation: the value itself; or this system's less, or over, that of ``against``.
        against: key of the system compared with.
        genuine, impostor: how many comparisons (or mated and non-mated searches) it rests on; 0: does not apply.
        note: why there is no value, or what to know about it.
    """

    name: str
    system: str
    value: float | None
    low: float | None = None
    high: float | None = None
    at: dict[str, float] = field(default_factory=dict)
    by: str = ""
    unit: Unit = "share"
    better: Literal["higher", "lower"] | None = None
    relation: Relation = "value"
    against: str | None = None
    genuine: int = 0
    impostor: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        numbers = [number for number in (self.value, self.low, self.high, *self.at.values()) if number is not None]
        if not all(math.isfinite(number) for number in numbers):
            raise InvalidValue(
                f"figure {self.name!r} of {self.system!r}: {numbers}: must be finite, or None with a note"
            )
        if self.value is None and not self.note:
            raise InvalidValue(f"figure {self.name!r} of {self.system!r}: no value and no note; say why there is none")
        if (self.relation == "value") is not (self.against is None):
            raise InvalidValue(f"figure {self.name!r}: relation {self.relation!r} with against {self.against!r}")


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: points from left to right; ``key`` is its system's, empty for a line of reference."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    key: str = ""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or not all(map(math.isfinite, (*self.x, *self.y))):
            raise InvalidValue(f"series {self.label!r}: {len(self.x)} and {len(self.y)} coordinates: equal, all finite")


@dataclass(frozen=True, slots=True)
class ChartAxis:
    """``percent``: the values are shares, shown as percentages."""

    label: str
    scale: Scale = "linear"
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of curves, and how to read it in a sentence or two."""

    kind: ChartKind
    title: str
    text: str
    x: ChartAxis
    y: ChartAxis
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: figures that belong together, and the charts beside them."""

    title: str
    text: str = ""
    figures: tuple[Figure, ...] = ()
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True, slots=True)
class MeasuredThreshold:
    """A row of the table that users take their threshold from: match when ``score > threshold``.

    Attributes:
        system: key of the system.
        fmr: the false-match rate asked for.
        threshold: the score; None with a note where the data are too few.
        fmr_low, fmr_high: interval of the false-match rate at this threshold, over subjects.
        tmr: true-match rate at it.
        impostor, false_matches: comparisons of different people, and how many were above.
        note: why there is no threshold.
    """

    system: str
    fmr: float
    threshold: float | None
    fmr_low: float | None
    fmr_high: float | None
    tmr: float | None
    impostor: int
    false_matches: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class LadderFace:
    """A rung of the quality ladder: a face, its variance and quality. Rungs go from the surest to the least sure."""

    name: str
    sigma_sq: float
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class WorstError:
    """A comparison that was decided wrongly by the widest margin.

    ``sigma_sq_a`` and ``sigma_sq_b`` are None where the person trained the head: what it says of its own people is no
    evidence.
    """

    kind: ErrorKind
    system: str
    a: str
    b: str
    score: float
    threshold: float
    fmr: float
    cosine: float
    sigma_sq_a: float | None
    sigma_sq_b: float | None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the figures come from.

    Attributes:
        version: of ProbFace.
        command: the command line, empty from Python.
        date: ISO 8601, UTC.
        data: what the data set is called.
        data_digest: SHA-256 over names and embeddings of the images judged.
        images, failed: how many were embedded, and how many could not be.
        subjects, genuine, impostor: how many people and comparisons.
        resamples, confidence, seed: of the intervals.
    """

    version: str
    command: str
    date: str
    data: str
    data_digest: str
    images: int
    failed: int
    subjects: int
    genuine: int
    impostor: int
    resamples: int
    confidence: float
    seed: int


@dataclass(frozen=True, slots=True)
class Results:
    """All that one evaluation found.

    Attributes:
        protocol: its name at the command line: ``lfw``, ``bin``, ``ijb`` ...
        title: of the page.
        summary: a few plain sentences, the most important first.
        systems: what was judged, the first one foremost.
        sections, thresholds, ladder, errors: the parts of the page.
        notes: what a reader must know: people left out, images without a face, rates without enough data.
        provenance: where it comes from.
        schema: version of this format.
    """

    protocol: str
    title: str
    summary: tuple[str, ...]
    systems: tuple[System, ...]
    sections: tuple[Section, ...]
    provenance: Provenance
    thresholds: tuple[MeasuredThreshold, ...] = ()
    ladder: tuple[LadderFace, ...] = ()
    errors: tuple[WorstError, ...] = ()
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise InvalidValue(f"results schema {self.schema}: this ProbFace reads {SCHEMA}; use the one that wrote it")
        keys = [system.key for system in self.systems]
        if len(set(keys)) != len(keys):
            raise InvalidValue(f"systems {keys}: each must have a key of its own")
        named = {figure.system for section in self.sections for figure in section.figures}
        named |= {row.system for row in self.thresholds} | {error.system for error in self.errors}
        unknown = sorted(named - set(keys))
        if unknown:
            raise InvalidValue(f"system {unknown[0]!r}: figures name it, the systems are {keys}")

    def to_json(self) -> str:
        """One JSON object, keys in the order of the fields."""
        return json.dumps(dataclasses.asdict(self), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: not JSON, or not of this schema.
        """
        try:
            return from_plain(cls, json.loads(text), "results")
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"results: not JSON ({error}); write them again with probface evaluate") from error
        except InvalidValue as error:
            raise DataError(f"{error}; write them again with this version of ProbFace") from error
