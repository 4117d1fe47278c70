"""Templates of mixed quality on LFW: uncertainty-weighted fusion against the plain mean, with intervals over people.

    python benchmarks/template_fusion.py --data LFW [--model MODEL_FOLDER] [--cache FOLDER]

Prints the tables for docs/evidence.md. All images of the people of folds 8 to 10 take part, each clean, moderately and
extremely degraded; nobody among them trained the shipped head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfw_judge import CROSS_SEED, JUDGE_FOLDS, Judge, opened
from markdown_tables import percent, table
from probface.errors import InsufficientData
from probface.eval.face_table import DETECTOR_SCORE, NORM, FaceTable
from probface.eval.metrics.bootstrap import Resampled, Statistic, Weights, difference, ratio, resample
from probface.eval.metrics.weighted import TmrAtFmr
from probface.eval.protocols.mixed_templates import (
    Composition,
    Copies,
    MixedScores,
    MixedTemplates,
    draw_templates,
    fuse_probes,
    fuse_references,
    score_templates,
)
from probface.eval.protocols.templates import TemplateFusion
from probface.gallery.records import Estimator
from probface.models.head_weights import HeadWeights
from probface.pipeline.recogniser import open_detector
from probface.readers.lfw import find_lfw, lfw_images, people_folds
from probface.score.calibration import require_impostors, threshold_at
from probface.train.features import Faces, cache_faces, change
from probface.types import Embeddings, Metric

STATES = ("clean", "moderate", "extreme")
FMR = 1e-3
ROUNDS, SEED = 20, 0
RESAMPLES = 200
ESTIMATORS: tuple[Estimator, ...] = ("weighted_mean", "precision_sum", "minimum")
TEMPERATURES = (1.0, 0.25, 0.5, 2.0, np.inf)
SIZES = (1, 2, 3, 5, 10)
SUREST = 0.01
"""So low a temperature leaves the surest image alone."""
UNSEEN = 1e-3
"""A detector's score for a face that it does not find."""


@dataclass(frozen=True, slots=True)
class Method:
    """A fusion and the score that compares what it made."""

    label: str
    fusion: TemplateFusion
    metric: Metric = "cosine"


def uncertainty(temperature: float = 1.0, estimator: Estimator = "weighted_mean") -> TemplateFusion:
    return TemplateFusion("uncertainty", estimator=estimator, temperature=temperature)


MEAN = TemplateFusion("mean")
PLAIN = Method("plain mean, cosine", MEAN)
WEIGHTED = Method("uncertainty-weighted, cosine", uncertainty())
DEFAULT = Method("uncertainty-weighted, FastMLS (default)", uncertainty(), "fastmls")
PRECISION = Method("the same, precision_sum", uncertainty(estimator="precision_sum"), "fastmls")
METHODS = (
    PLAIN,
    Method("norm-weighted mean, cosine", TemplateFusion("mean", norm=True)),
    Method("detector-weighted mean, cosine", TemplateFusion("mean", detector_score=True)),
    Method("norm- and detector-weighted mean, cosine", TemplateFusion("mean", norm=True, detector_score=True)),
    Method("surest image alone, cosine", uncertainty(SUREST)),
    WEIGHTED,
    Method("plain mean, FastMLS", MEAN, "fastmls"),
    DEFAULT,
    PRECISION,
)
"""T = 1 and the estimator ``weighted_mean`` where nothing else is said: what a gallery does."""
GRID = (
    *(
        Method(f"FastMLS, {estimator}, T = {temperature:g}", uncertainty(temperature, estimator), "fastmls")
        for estimator in ESTIMATORS
        for temperature in TEMPERATURES
    ),
    *(Method(f"cosine, T = {temperature:g}", uncertainty(temperature)) for temperature in TEMPERATURES),
)
"""The default first: of equally good ones the first is chosen. T = infinity is the plain mean."""
SIZE_METHODS = (PLAIN, WEIGHTED, DEFAULT, PRECISION)


@dataclass(frozen=True, slots=True)
class Scenario:
    """References and probes; the states are those of their degraded images."""

    label: str
    reference: Composition
    state: str
    probe: Composition
    probe_state: str = "moderate"
    at_least: int = 0


def of_five(degraded: int, state: str, probe: str) -> Scenario:
    """References of five images against a clean or a moderately degraded image, or templates like themselves."""
    reference = Composition(5, degraded)
    label = f"{degraded} of 5 {state}; {probe}"
    if probe == "alike":
        return Scenario(label, reference, state, reference, state)
    return Scenario(label, reference, state, Composition(1, int(probe == "moderate")))


SCENARIOS = (
    *(of_five(2, state, probe) for state in ("moderate", "extreme") for probe in ("clean", "alike", "moderate")),
    *(of_five(4, "extreme", probe) for probe in ("clean", "alike", "moderate")),
    of_five(5, "extreme", "clean"),
)
CHOICES = (
    *(of_five(2, state, "moderate") for state in ("moderate", "extreme")),
    *(of_five(4, "extreme", probe) for probe in ("clean", "alike", "moderate")),
)
"""Where there are errors enough to choose by."""


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """All images of the judge's people, in every state, as one table."""

    faces: FaceTable
    copies: dict[str, Copies]
    people: int

    @classmethod
    def of(cls, judge: Judge, root: Path, head: HeadWeights) -> Gallery:
        folds = people_folds(find_lfw(root).people)
        items = [item for item in lfw_images(root) if folds.get(item.label or "") in JUDGE_FOLDS]
        images = cache_faces(items, judge.backbone.input, judge.cache, aligned=False)
        states = [judge.state_of(images, name) for name in STATES]
        names = {state: tuple(f"{name} {state}" for name in images.names) for state in STATES}
        faces = FaceTable(
            tuple(name for state in STATES for name in names[state]),
            Embeddings.concatenate([state.embeddings(head) for state in states]),
            {
                NORM: np.concatenate([state.norm for state in states]),
                DETECTOR_SCORE: np.concatenate([detector_scores(images, state) for state in STATES]),
            },
        )
        copies = {state: Copies(names["clean"], names[state], images.people) for state in STATES}
        return cls(faces, copies, int(images.people.max()) + 1)

    @property
    def everyone(self) -> Weights:
        return np.ones(self.people, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A scenario with its templates drawn, for one method after the other."""

    gallery: Gallery
    scenario: Scenario
    drawn: MixedTemplates = field(init=False)

    def __post_init__(self) -> None:
        one = self.scenario
        subjects = self.gallery.copies["clean"].subjects
        drawn = draw_templates(subjects, one.reference, one.probe, rounds=ROUNDS, seed=SEED, at_least=one.at_least)
        object.__setattr__(self, "drawn", drawn)

    def scores(self, method: Method) -> MixedScores:
        faces, copies, one = self.gallery.faces, self.gallery.copies, self.scenario
        references = fuse_references(faces, copies[one.state], self.drawn, method.fusion)
        probes = fuse_probes(faces, copies[one.probe_state], self.drawn, method.fusion)
        scores = score_templates(self.drawn, references, probes, method.metric)
        require_impostors(len(scores.impostor), FMR)
        return scores

    def fnmr(self, method: Method) -> Statistic:
        """At FMR 1e-3, of weighted people."""
        return missed(self.scores(method).tmr(self.gallery.people, np.array([FMR])))

    @property
    def counts(self) -> str:
        mated, count = self.drawn.mated, len(self.drawn.subjects)
        return f"{mated} people, {ROUNDS * mated:,} / {ROUNDS * mated * (count - 1):,}"


def detector_scores(images: Faces, state: str) -> NDArray[np.float64]:
    """YuNet's score of each aligned face in a state."""
    detector = open_detector()
    crops = (change(crop, state, 0, name, CROSS_SEED) for crop, name in zip(images.crops, images.names, strict=True))
    return np.array([max((face.detector_score for face in detector.detect(crop)), default=UNSEEN) for crop in crops])


def missed(tmr: TmrAtFmr) -> Statistic:
    return lambda weights: 1 - tmr(weights)


def cut(ours: Resampled, plain: Resampled) -> str:
    """The share of the plain mean's FNMR that is gone; in points where some resamples have no error to cut."""
    if plain.estimate[0] == 0:
        return "-"
    try:
        left = ratio(ours, plain)
        return percent(Resampled(1 - left.estimate, 1 - left.values, left.draws).intervals()[0], 0)
    except InsufficientData:
        return percent(difference(plain, ours).intervals()[0], 2) + " points"


def fusion_section(gallery: Gallery) -> str:
    """Every scenario and method: FNMR, and what it takes off the plain mean's."""
    rows = []
    for scenario in SCENARIOS:
        trial = Trial(gallery, scenario)
        found = [resample(trial.fnmr(method), gallery.people, resamples=RESAMPLES) for method in METHODS]
        for method, one in zip(METHODS, found, strict=True):
            first, gain = (
                (["", ""], cut(one, found[0])) if method is not PLAIN else ([scenario.label, trial.counts], "")
            )
            rows.append([*first, method.label, percent(one.intervals()[0], 2), gain])
    return table(
        ["references; probes", "genuine / impostor", "fusion, score", "FNMR %", "cut off the plain mean's, %"], rows
    )


def halves(mated: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Two halves of everybody, those with genuine comparisons dealt evenly."""
    rng = np.random.default_rng(SEED)
    order = np.concatenate([rng.permutation(np.flatnonzero(kind)) for kind in (mated, ~mated)])
    half = np.zeros(len(mated), np.bool_)
    half[order[::2]] = True
    return [half, ~half]


def cross_fitted(statistics: list[Statistic], mated: NDArray[np.bool_]) -> tuple[list[int], Statistic]:
    """What is best on each half of the people; and the FNMR of both halves, each by what is best on the other.

    The choice is made once, on the people as they are; resamples judge it and do not choose anew.
    """
    sides = halves(mated)
    chosen = [int(np.argmin([statistic(side.astype(np.int64))[0] for statistic in statistics])) for side in sides]

    def judged(weights: Weights) -> NDArray[np.float64]:
        parts = [weights * side for side in sides]
        rates = [statistics[best](part)[0] for best, part in zip(chosen[::-1], parts, strict=True)]
        return np.array([np.average(rates, weights=[part[mated].sum() for part in parts])])

    return chosen, judged


def choice_section(gallery: Gallery) -> str:
    """FNMR of the whole grid; and what temperature and estimator gain where other people choose them."""
    columns, rows = [], []
    for scenario in CHOICES:
        trial = Trial(gallery, scenario)
        statistics = [trial.fnmr(method) for method in GRID]
        columns.append([f"{100 * statistic(gallery.everyone)[0]:.2f}" for statistic in statistics])
        mated = np.isin(np.arange(gallery.people), trial.drawn.subjects[: trial.drawn.mated])
        chosen, best = cross_fitted(statistics, mated)
        judged = (cross_fitted([trial.fnmr(PLAIN)], mated)[1], cross_fitted(statistics[:1], mated)[1], best)
        plain, default, ours = (resample(one, gallery.people, resamples=RESAMPLES) for one in judged)
        rates = [percent(one.intervals()[0], 2) for one in (plain, default, ours)]
        labels = "; ".join(GRID[place].label for place in chosen)
        rows.append([scenario.label, *rates, cut(default, plain), cut(ours, plain), labels])
    labels = [scenario.label for scenario in CHOICES]
    whole = [[method.label, *values] for method, values in zip(GRID, zip(*columns, strict=True), strict=True)]
    header = [
        "references; probes",
        "plain mean, cosine",
        "default",
        "chosen",
        "default cuts, %",
        "chosen cuts, %",
        "chosen",
    ]
    return table(["score, estimator, T", *labels], whole) + "\n\n" + table(header, rows)


def of_size(size: int, degraded: int, state: str, probe: int) -> Scenario:
    """Against single images, degraded or not; always of the people who have enough images for the largest size."""
    return Scenario("", Composition(size, degraded), state, Composition(1, probe), at_least=SIZES[-1] + 1)


def size_section(gallery: Gallery) -> str:
    """How many images a person needs."""
    rows = []
    for probe, label in ((0, "clean"), (1, "moderate")):
        for size in SIZES:
            mixtures = {"none": (0, "clean"), f"{size // 2} moderate": (size // 2, "moderate")}
            mixtures |= {f"{count} extreme": (count, "extreme") for count in (size // 2, size - 1)}
            for mixture, (degraded, state) in mixtures.items():
                if degraded or mixture == "none":
                    trial = Trial(gallery, of_size(size, degraded, state, probe))
                    rates = [trial.fnmr(method)(gallery.everyone)[0] for method in SIZE_METHODS]
                    rows.append([label, str(size), mixture, *(f"{100 * rate:.2f}" for rate in rates)])
    return table(["probe", "images", "degraded", *(method.label for method in SIZE_METHODS)], rows)


def one_threshold_section(gallery: Gallery) -> str:
    """Templates of 1, 2, 3, 5 and 10 images, half of them moderately degraded, under one threshold.

    A threshold for all makes some sizes stricter and some laxer than FMR 1e-3; the table says which.
    """
    trials = [Trial(gallery, of_size(size, size // 2, "moderate", 1)) for size in SIZES]
    rows = []
    for method in SIZE_METHODS:
        parts = [trial.scores(method) for trial in trials]
        threshold = threshold_at(np.concatenate([part.impostor for part in parts]), FMR)
        rates = [
            f"{100 * np.mean(part.genuine <= threshold):.2f} / {1000 * np.mean(part.impostor > threshold):.2f}"
            for part in parts
        ]
        rows.append([method.label, *rates])
    return table(["FNMR % / FMR in 1000ths", *("1 image" if n == 1 else f"{n} images" for n in SIZES)], rows)


def sections(gallery: Gallery) -> Iterator[str]:
    """The tables, in order."""
    for section in (fusion_section, choice_section, size_section, one_threshold_section):
        yield section(gallery)


def main() -> None:
    given = opened(__doc__)
    for section in sections(Gallery.of(given.judge, given.data, given.head)):
        print(section, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
