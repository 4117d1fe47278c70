"""What a conversion costs, on real faces: how far ``mu`` and ``sigma_sq`` move, and what that does to decisions.

Angles are in degrees, 2 arcsin(||mu - mu'|| / 2); logarithms natural. TAR is the true-accept rate: the share of genuine
pairs above the threshold that lets a share FMR of the impostor pairs match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from probface.contract import InputSpec
from probface.defaults import JUDGING_IMAGES
from probface.errors import DataError, ImageError, InsufficientData, InvalidValue
from probface.eval.cross_pairs import CrossPairs
from probface.eval.metrics.verification import threshold_at, tmr_at_fmr
from probface.pipeline.recogniser import FaceFinder
from probface.readers.item import Item
from probface.readers.lfw import find_lfw, lfw_images, people_folds
from probface.readers.open import open_items
from probface.score.calibration import require_impostors
from probface.types import Embeddings, FloatArray, Image, Metric

FALSE_MATCH_RATES = (1e-2, 1e-3)
CALIBRATION_IMAGES = 128
IMAGES_OF_ONE_PERSON = 4
"""At most; with more, one person would make most of the genuine pairs."""
LFW_FOLDS = (8, 9, 10)
"""Of LFW only the people of these folds are used: by our recipes, they train no head."""


@dataclass(frozen=True, slots=True)
class ChosenImages:
    """Images to calibrate with and images to judge with; nobody is in both, where it is known who they show.

    Attributes:
        calibration, judging: the images.
        labelled: it is known who they show.
    """

    calibration: tuple[Item, ...]
    judging: tuple[Item, ...]
    labelled: bool


@dataclass(frozen=True, slots=True, eq=False)
class FoundFaces:
    """Aligned faces.

    Attributes:
        crops: RGB uint8 (N, height, width, 3), N above 0.
        people: (N,) int64, who each face is; None where that is not known.
        failed: how many images could not be read or had no face.
    """

    crops: Image
    people: NDArray[np.int64] | None
    failed: int


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the outputs moved.

    Attributes:
        faces: how many were compared.
        angle_max, angle_mean: between the two ``mu`` of a face, in degrees.
        log_sigma_sq_max, log_sigma_sq_median: absolute difference of the logarithms of ``sigma_sq``.
        spearman: rank correlation of the whole variances of the faces; None where all are equal, or for one face.
        difference: the largest of any entry of ``mu`` or of ``log sigma_sq``.
    """

    faces: int
    angle_max: float
    angle_mean: float
    log_sigma_sq_max: float
    log_sigma_sq_median: float
    spearman: float | None
    difference: float


@dataclass(frozen=True, slots=True)
class RateChange:
    """One operating point before and after; all None where there are too few pairs to measure it.

    Attributes:
        metric: the score.
        fmr: the false-match rate asked for.
        tar_before, tar_after: at the threshold measured on each model's own scores.
        fmr_kept: share of the impostors that match after, at the threshold measured before.
    """

    metric: Metric
    fmr: float
    tar_before: float | None
    tar_after: float | None
    fmr_kept: float | None


@dataclass(frozen=True, slots=True)
class AccuracyChange:
    """Decisions on all pairs of the judging images.

    Attributes:
        people, genuine_pairs, impostor_pairs: how many.
        rates: for cosine and for the model's own score.
    """

    people: int
    genuine_pairs: int
    impostor_pairs: int
    rates: tuple[RateChange, ...]


def choose_images(data: Path, images: int = JUDGING_IMAGES) -> ChosenImages:
    """Choose people by chance, the same in every run, some to calibrate with and others to judge with.

    Args:
        data: a folder with LFW (of which the people of :data:`LFW_FOLDS` are used), or what
            :func:`probface.readers.open.open_items` takes. The folder that holds an image names the person; where all
            are in one folder, nothing is known of people.
        images: at most so many judge.

    Raises:
        DataError: nothing there, a broken format, or fewer than two people or, if they are not known, images.
        InvalidValue: ``images`` below 1.
    """
    if images < 1:
        raise InvalidValue(f"images {images}: must be 1 or more")
    items = _lfw_items(data) if (data / "people.txt").is_file() else tuple(open_items(data))
    labels = {item.label for item in items}
    labelled = None not in labels and len(labels) > 1
    people = list(_by_person(items)) if labelled else [(item,) for item in items]
    if len(people) < 2:
        raise DataError(f"{data}: {len(people)} image, some must calibrate and others judge; bring more people")
    order = np.random.default_rng(0).permutation(len(people))
    enough = min(CALIBRATION_IMAGES, sum(map(len, people)) // 4)
    calibration: list[Item] = []
    judging: list[Item] = []
    for number, person in enumerate(people[index] for index in order):
        (calibration if number == 0 or len(calibration) < enough else judging).extend(person)
    if not judging:
        raise DataError(f"{data}: too few images, some must calibrate and others judge; bring more people")
    return ChosenImages(tuple(calibration), tuple(judging[:images]), labelled)


def find_faces(
    items: Sequence[Item],
    spec: InputSpec,
    *,
    labelled: bool,
    aligned: bool = False,
    progress: Callable[[int], None] | None = None,
) -> FoundFaces:
    """The largest face of each image, aligned as ``spec`` says; images without are left out and counted.

    Args:
        items: one or more images.
        spec: size and template of the faces.
        labelled: the labels of the items say who they show.
        aligned: the images are aligned faces of the right size already.
        progress: called with the number of images done since its last call.

    Raises:
        DataError: no face in any of them.
    """
    find = FaceFinder(spec, aligned=aligned)
    crops: list[Image] = []
    labels: list[str | None] = []
    first: Exception | None = None
    for item in items:
        try:
            crops.append(find(item.source, item.name)[0].crop)
            labels.append(item.label)
        except (ImageError, InvalidValue) as error:
            first = first or error
        if progress is not None:
            progress(1)
    if not crops:
        raise DataError(f"no face in any of {len(items)} images; the first failed so: {first}")
    people = np.unique(np.array(labels, np.str_), return_inverse=True)[1].astype(np.int64) if labelled else None
    return FoundFaces(np.stack(crops), people, len(items) - len(crops))


def random_crops(spec: InputSpec, count: int = 32) -> Image:
    """Patterns of coloured squares, RGB uint8 (count, height, width, 3), the same in every run: no faces at all."""
    shape = (count, -(-spec.height // 8), -(-spec.width // 8), 3)
    squares = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return squares.repeat(8, axis=1).repeat(8, axis=2)[:, : spec.height, : spec.width]


def parity(before: Embeddings, after: Embeddings) -> Parity:
    """Compare what two models make of the same N faces.

    Raises:
        InvalidValue: no faces, or not the same number of them, D or width of ``sigma_sq``.
    """
    if before.mu.shape != after.mu.shape or before.sigma_sq.shape != after.sigma_sq.shape or len(before) == 0:
        raise InvalidValue(
            f"embeddings {before.mu.shape}, {before.sigma_sq.shape} and {after.mu.shape}, {after.sigma_sq.shape}: "
            "must be of the same faces, one or more, by models of the same widths"
        )
    moved = before.mu.astype(np.float64) - after.mu
    angles = np.degrees(2 * np.arcsin(np.minimum(np.linalg.norm(moved, axis=1) / 2, 1)))
    logs = np.abs(np.log(before.sigma_sq.astype(np.float64)) - np.log(after.sigma_sq.astype(np.float64)))
    return Parity(
        faces=len(before),
        angle_max=float(angles.max()),
        angle_mean=float(angles.mean()),
        log_sigma_sq_max=float(logs.max()),
        log_sigma_sq_median=float(np.median(logs)),
        spearman=_spearman(before.sigma_sq, after.sigma_sq),
        difference=float(max(np.abs(moved).max(), logs.max())),
    )


def accuracy_change(before: Embeddings, after: Embeddings, people: NDArray[np.int64]) -> AccuracyChange:
    """Compare the decisions of two models on all pairs of the same N faces, each of another image.

    Args:
        before: by the float32 model.
        after: by the converted one.
        people: (N,) who each face is, N at least 2.

    Raises:
        InvalidValue: fewer than two faces, or not one person for each.
    """
    pairs = CrossPairs.of(people, np.arange(len(people)))
    own: Metric = "fastmls" if before.sigma_sq.shape[1] == 1 else "mls"
    rates: list[RateChange] = []
    for metric in ("cosine", own):
        scores = pairs.scores(before, metric), pairs.scores(after, metric)
        rates += [_rate_change(metric, fmr, *scores, pairs.genuine) for fmr in FALSE_MATCH_RATES]
    genuine = int(np.count_nonzero(pairs.genuine))
    return AccuracyChange(len(np.unique(people)), genuine, len(pairs.genuine) - genuine, tuple(rates))


def _rate_change(
    metric: Metric, fmr: float, before: FloatArray, after: FloatArray, genuine: NDArray[np.bool_]
) -> RateChange:
    try:
        require_impostors(int(np.count_nonzero(~genuine)), fmr)
    except InsufficientData:
        return RateChange(metric, fmr, None, None, None)
    kept = float(np.mean(after[~genuine] > threshold_at(before[~genuine], fmr)))
    if not genuine.any():
        return RateChange(metric, fmr, None, None, kept)
    rates = [tmr_at_fmr(scores[genuine], scores[~genuine], fmr) for scores in (before, after)]
    return RateChange(metric, fmr, rates[0], rates[1], kept)


def _spearman(before: FloatArray, after: FloatArray) -> float | None:
    a, b = (sigma_sq.sum(axis=1, dtype=np.float64) for sigma_sq in (before, after))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)


def _lfw_items(root: Path) -> tuple[Item, ...]:
    folds = people_folds(find_lfw(root).people)
    return tuple(item for item in lfw_images(root) if folds.get(item.label or "") in LFW_FOLDS)


def _by_person(items: Sequence[Item]) -> Iterator[tuple[Item, ...]]:
    """The first few images of each person, by name."""
    for _, images in groupby(sorted(items, key=lambda i: (i.label or "", i.name)), key=lambda i: i.label):
        yield tuple(images)[:IMAGES_OF_ONE_PERSON]
