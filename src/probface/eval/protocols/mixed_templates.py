"""Templates of mixed quality: what do a few bad images do to a person's template, and does the fusion withstand them?

Every image is there twice, clean and degraded. A round deals each subject's images anew: ``reference.size`` of them
become the reference template, ``probe.size`` others the probe template (of one image: a plain probe), some of either in
their degraded copy. All references of a round are compared with all its probes. Subjects with too few images for both
give a probe if they can, and are impostors only. Every subject counts alike, however many images he or she has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probface.errors import InsufficientData, InvalidValue
from probface.eval.face_table import FaceTable
from probface.eval.metrics.weighted import Impostors, TmrAtFmr
from probface.eval.protocols.templates import TemplateFusion, fuse_templates
from probface.score.by_metric import score_matrix
from probface.types import Embeddings, FloatArray, Metric


@dataclass(frozen=True, slots=True)
class Composition:
    """What a template is made of: ``size`` images, ``degraded`` of them in their degraded copy."""

    size: int
    degraded: int = 0

    def __post_init__(self) -> None:
        if not (self.size >= 1 and 0 <= self.degraded <= self.size):
            raise InvalidValue(
                f"{self.degraded} degraded images of {self.size}: need one image or more, 0..size degraded"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """N images, as a :class:`FaceTable` names their two copies.

    Attributes:
        clean, degraded: (N,) names.
        subjects: (N,) int64, who is on each, 0 .. S - 1.
    """

    clean: tuple[str, ...]
    degraded: tuple[str, ...]
    subjects: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.clean) == len(self.degraded) == len(self.subjects):
            raise InvalidValue(
                f"{len(self.clean)} clean and {len(self.degraded)} degraded images of {len(self.subjects)} subjects: "
                "need one of each for every image"
            )


@dataclass(frozen=True, slots=True, eq=False)
class MixedTemplates:
    """The templates of R rounds: G subjects with both, and U - G with a probe only.

    Attributes:
        references: (R, G, k) int64, images; the first ``reference.degraded`` of a template are degraded.
        probes: (R, U, p) int64, likewise; probe g < G is the mate of reference g and shares no image with it.
        subjects: (U,) int64, of the probes; the first G are those of the references.
        reference, probe: what they are made of.
    """

    references: NDArray[np.int64]
    probes: NDArray[np.int64]
    subjects: NDArray[np.int64]
    reference: Composition
    probe: Composition

    def __post_init__(self) -> None:
        references, probes = self.references.shape, self.probes.shape
        rounds, mated = references[:2]
        if references != (rounds, mated, self.reference.size) or not 0 < mated <= len(self.subjects):
            raise InvalidValue(f"references {references}: must be (R, G, {self.reference.size}), G of 1..U")
        if probes != (rounds, len(self.subjects), self.probe.size):
            raise InvalidValue(f"probes {probes}: must be {(rounds, len(self.subjects), self.probe.size)}")
        if len(np.unique(self.subjects)) != len(self.subjects):
            raise InvalidValue(f"{len(self.subjects)} subjects of the probes: must be there once a round each")

    @property
    def mated(self) -> int:
        """G."""
        return int(self.references.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class MixedScores:
    """What the comparisons of all rounds gave.

    Attributes:
        genuine: (R * G,) scores.
        person: (R * G,) int64, whose they are.
        impostor: (R * G * (U - 1),) scores.
        first, second: (R * G * (U - 1),) int64, subjects of the reference and of the probe.
    """

    genuine: FloatArray
    person: NDArray[np.int64]
    impostor: FloatArray
    first: NDArray[np.int64]
    second: NDArray[np.int64]

    def tmr(self, people: int, fmrs: NDArray[np.float64]) -> TmrAtFmr:
        """TMR at false-match rates, as a statistic of weighted subjects 0 .. people - 1, for the bootstrap."""
        return TmrAtFmr(self.genuine, self.person, Impostors(self.impostor, self.first, self.second, people), fmrs)


def draw_templates(
    subjects: NDArray[np.int64],
    reference: Composition,
    probe: Composition,
    *,
    rounds: int,
    seed: int,
    at_least: int = 0,
) -> MixedTemplates:
    """Deal the images of each subject, ``rounds`` times.

    The same subjects and seed give the same order of a subject's images whatever the compositions. Templates with one
    more degraded image differ in that image alone; a larger reference holds the smaller one, and meets the same probes.

    Args:
        subjects: (N,) who is on each image.
        reference: of the templates on the one side.
        probe: of those on the other.
        rounds: R, 1 or more.
        seed: of the deals.
        at_least: subjects with fewer images get no reference; with the largest ``reference.size + probe.size`` of a
            series, all of the series is about the same people.

    Raises:
        InvalidValue: no round.
        InsufficientData: no subject with enough images for both, or nobody to compare with.
    """
    if rounds < 1:
        raise InvalidValue(f"{rounds} rounds: need one or more")
    both, (people, counts) = reference.size + probe.size, np.unique(subjects, return_counts=True)
    enough = max(both, at_least)
    mated, others = people[counts >= enough], people[(counts >= probe.size) & (counts < enough)]
    if not len(mated) or len(mated) + len(others) < 2:
        raise InsufficientData(
            f"{len(mated)} subjects with {enough} images or more, {len(others)} others with {probe.size}: need a "
            "subject with both templates and another to compare with; bring more images, or ask for smaller templates"
        )
    whose = np.concatenate([mated, others])
    images = [np.flatnonzero(subjects == person) for person in whose]
    references = np.empty((rounds, len(mated), reference.size), np.int64)
    probes = np.empty((rounds, len(whose), probe.size), np.int64)
    for at in range(rounds):
        for row, (person, own) in enumerate(zip(whose, images, strict=True)):
            dealt = np.random.default_rng([seed, at, int(person)]).permutation(own)
            if row < len(mated):
                references[at, row] = dealt[probe.size : both]
            probes[at, row] = dealt[: probe.size]
    return MixedTemplates(references, probes, whose, reference, probe)


def fuse_references(faces: FaceTable, copies: Copies, templates: MixedTemplates, fusion: TemplateFusion) -> Embeddings:
    """R * G rows, round by round.

    Raises:
        DataError: an image is not in the table, or a template's vectors cancel out.
    """
    return _fuse(faces, copies, templates.references, templates.reference.degraded, fusion)


def fuse_probes(faces: FaceTable, copies: Copies, templates: MixedTemplates, fusion: TemplateFusion) -> Embeddings:
    """R * U rows, round by round; raises as :func:`fuse_references`. Its degraded copies may be others' than theirs."""
    return _fuse(faces, copies, templates.probes, templates.probe.degraded, fusion)


def _fuse(
    faces: FaceTable, copies: Copies, images: NDArray[np.int64], degraded: int, fusion: TemplateFusion
) -> Embeddings:
    size = images.shape[-1]
    names = [
        (copies.degraded if place < degraded else copies.clean)[image]
        for template in images.reshape(-1, size)
        for place, image in enumerate(template)
    ]
    by_weight = fusion.method == "uncertainty" and (fusion.norm or fusion.detector_score)
    if size == 1 and not by_weight:  # an image alone is its own template, unless a weight is in its variance
        return faces.embeddings[faces.rows(names)]
    ids = np.repeat(np.arange(len(names) // size), size)
    return fuse_templates(faces, names, ids, np.arange(len(names)), fusion).embeddings


def score_templates(
    templates: MixedTemplates, references: Embeddings, probes: Embeddings, metric: Metric
) -> MixedScores:
    """Compare every reference of a round with every probe of the round.

    Args:
        templates: as drawn.
        references: R * G rows, as :func:`fuse_references` gives them.
        probes: R * U rows, as :func:`fuse_probes` gives them.
        metric: the score.

    Raises:
        InvalidValue: other numbers of rows, or FastMLS on D variances a face.
    """
    rounds, mated, count = len(templates.references), templates.mated, len(templates.subjects)
    if (len(references), len(probes)) != (rounds * mated, rounds * count):
        raise InvalidValue(
            f"{len(references)} references and {len(probes)} probes: must be {rounds * mated} and {rounds * count}"
        )
    different = np.arange(mated)[:, None] != np.arange(count)
    genuine, impostor = [], []
    for at in range(rounds):
        scores = score_matrix(references[at * mated : (at + 1) * mated], probes[at * count : (at + 1) * count], metric)
        genuine.append(scores.diagonal())
        impostor.append(scores[different])
    reference, probe = np.nonzero(different)
    return MixedScores(
        np.concatenate(genuine),
        np.tile(templates.subjects[:mated], rounds),
        np.concatenate(impostor),
        np.tile(templates.subjects[reference], rounds),
        np.tile(templates.subjects[probe], rounds),
    )
