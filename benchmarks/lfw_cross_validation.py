"""Compare recipes by cross-validation inside LFW folds 1 to 7: how the shipped recipe was chosen.

    python benchmarks/lfw_cross_validation.py --data LFW recipes/sface.toml recipes/candidates/*.toml

Each recipe is trained four times, each time without the people of two folds, who then judge on all cross pairs of their
images: the true-match rates of FastMLS less those of cosine, clean and moderately degraded; their ratio with extreme
copies; the area under the discard curve over that of the embedding norm. On all pairs of images that are clean or
moderately degraded with equal chance, the errors of FastMLS over those of cosine, each at its best threshold, genuine
and impostor pairs counting the same in total; on clean pairs the difference. Folds 8 to 10 take no part.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lfw_evidence import DISCARD, FMRS, table
from lfw_judge import DRAW_SEED, State
from probface.encoder.features import FeatureExtractor
from probface.eval.cross_pairs import CrossPairs
from probface.eval.metrics.risk import error_versus_discard, partial_auc
from probface.eval.metrics.verification import tmr_at_fmr
from probface.models.registry import resolve_backbone
from probface.models.taps import find_taps
from probface.models.weights import writable_cache_folder
from probface.nn.uncertainty_head import UncertaintyHead
from probface.readers.lfw import people_folds
from probface.score.calibration import threshold_at
from probface.train.config import HeadRecipe, Variant, read_recipe
from probface.train.data import split
from probface.train.feature_source import TrainingFeatures
from probface.train.features import cache_faces, cache_features
from probface.train.fit import fit_head
from probface.types import Embeddings, Metric

METRICS: tuple[Metric, Metric] = ("cosine", "fastmls")
HELD_OUT = ((1, 2), (3, 4), (5, 6), (7, 1))
JUDGE_IMAGES = 4
JUDGE_COPIES = 4
"""Moderately degraded copies that the draws choose from."""
DRAWS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Training images of folds 1 to 7 with every variant that some recipe uses."""

    people: NDArray[np.int64]
    folds: NDArray[np.int64]
    states: dict[str, list[NDArray[np.float32]]]
    dim: int

    def training(self, recipe: HeadRecipe, without: tuple[int, ...]) -> TrainingFeatures:
        rows = np.flatnonzero(~np.isin(self.folds, without))
        copies = [self.states[v.state][copy][rows] for v in recipe.variants for copy in range(v.copies)]
        shares = [v.share / v.copies for v in recipe.variants for _ in range(v.copies)]
        return TrainingFeatures(copies, shares, self.people[rows], self.dim)

    def judges(self, folds: tuple[int, ...]) -> NDArray[np.int64]:
        """A few images of each held-out person: many of one would make most of the genuine pairs."""
        rows = np.flatnonzero(np.isin(self.folds, folds))
        return np.concatenate([rows[self.people[rows] == who][:JUDGE_IMAGES] for who in np.unique(self.people[rows])])


def load(root: Path, cache: Path, recipes: list[HeadRecipe]) -> Data:
    backbone = resolve_backbone("sface")
    taps = find_taps(backbone.model, backbone.face)
    extractor = FeatureExtractor(backbone.model, taps, backbone.input, threads=1)
    faces = cache_faces(split(root, recipes[0].data).training, backbone.input, cache, aligned=False)
    key: dict[str, object] = {"backbone": backbone.digest, "features": taps.spelling}
    copies = {v.state: 0 for recipe in recipes for v in recipe.variants} | {"moderate": JUDGE_COPIES, "extreme": 1}
    for variant in (v for recipe in recipes for v in recipe.variants):
        copies[variant.state] = max(copies[variant.state], variant.copies)
    states = {
        state: cache_features(faces, extractor, Variant(state, count), cache, model_key=key, seed=recipes[0].seed)
        for state, count in copies.items()
    }
    folds = people_folds(root / "people.txt")
    return Data(faces.people, np.array([folds[name.split("/")[0]] for name in faces.names]), states, extractor.dim)


def judged(data: Data, head: UncertaintyHead, rows: NDArray[np.int64], state: str) -> tuple[NDArray[np.float64], ...]:
    """TMRs of cosine and FastMLS at each FMR, and the discard areas of sigma^2 and the norm."""
    both = [State.of(data.states[name][0][rows], data.dim) for name in ("clean", state)]
    with torch.no_grad():
        sigma_sq = np.concatenate([head(torch.from_numpy(one.features)).exp().numpy() for one in both])
    embeddings = Embeddings(np.concatenate([one.mu for one in both]), sigma_sq)
    pairs = CrossPairs.of(np.tile(data.people[rows], 2), np.tile(rows, 2))
    cos, fast = (pairs.scores(embeddings, metric) for metric in METRICS)
    tmrs = [
        np.array([tmr_at_fmr(s[pairs.genuine], s[~pairs.genuine], fmr, allow_few=True) for fmr in FMRS])
        for s in (cos, fast)
    ]
    first, second = (index[pairs.genuine] for index in pairs.indices())
    threshold = threshold_at(cos[~pairs.genuine], 1e-2)
    areas = []
    for quality in (-sigma_sq[:, 0], np.concatenate([one.norm for one in both])):
        worse = np.minimum(quality[first], quality[second])
        areas.append(partial_auc(DISCARD, error_versus_discard(cos[pairs.genuine], worse, threshold, DISCARD)))
    return tmrs[0], tmrs[1], np.array(areas)


def balanced_error(genuine: NDArray[np.floating], impostor: NDArray[np.floating]) -> float:
    """Mean of FNMR and FMR at the threshold where it is least: the error of as many pairs of either kind."""
    # A threshold just below a genuine score is as good as any: that score and all above are accepted.
    above = np.sort(genuine)
    misses = np.searchsorted(above, above, side="left")
    false = len(impostor) - np.searchsorted(np.sort(impostor), above, side="left")
    return float((misses / len(genuine) + false / len(impostor)).min() / 2)


def pair_errors(
    data: Data, head: UncertaintyHead, rows: NDArray[np.int64], draws: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Balanced errors of cosine and FastMLS, the mean over draws of a copy for each image: 0 is the clean one."""
    copies = [
        State.of(one[rows], data.dim) for one in (data.states["clean"][0], *data.states["moderate"][:JUDGE_COPIES])
    ]
    pairs, places = CrossPairs.of(data.people[rows], rows), np.arange(len(rows))
    mu = np.stack([copy.mu for copy in copies])
    with torch.no_grad():
        sigma_sq = np.stack([head(torch.from_numpy(copy.features)).exp().numpy() for copy in copies])
    errors = []
    for drawn in draws:
        embeddings = Embeddings(mu[drawn, places], sigma_sq[drawn, places])
        scores = (pairs.scores(embeddings, metric) for metric in METRICS)
        errors.append([balanced_error(s[pairs.genuine], s[~pairs.genuine]) for s in scores])
    return np.mean(errors, axis=0)


def degraded_draws(count: int, folds: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """For each draw and image the clean copy (0) or, with equal chance, one of the degraded ones (1, 2, ...)."""
    rng = np.random.default_rng([DRAW_SEED, *folds])
    return [np.where(rng.random(count) < 0.5, 0, rng.integers(1, JUDGE_COPIES + 1, count)) for _ in range(DRAWS)]


def cross_validate(data: Data, recipe: HeadRecipe) -> list[str]:
    moderate, extreme, areas, degraded, clean = [], [], [], [], []
    for folds in HELD_OUT:
        with tempfile.TemporaryDirectory() as folder:
            head = fit_head(data.training(recipe, folds), recipe, Path(folder))
        rows = data.judges(folds)
        cos, fast, area = judged(data, head, rows, "moderate")
        moderate.append(100 * (fast - cos))
        areas.append(area[0] / area[1])
        cos, fast, _ = judged(data, head, rows, "extreme")
        extreme.append(fast / cos)
        error = pair_errors(data, head, rows, degraded_draws(len(rows), folds))
        degraded.append(error[1] / error[0])
        error = pair_errors(data, head, rows, [np.zeros(len(rows), np.int64)])
        clean.append(100 * (error[0] - error[1]))
    gains = " / ".join(f"{gain:+.1f}" for gain in np.mean(moderate, axis=0))
    factors = " / ".join(f"{factor:.2f}" for factor in np.mean(extreme, axis=0))
    return [
        recipe.name,
        gains,
        f"{np.min(moderate):+.1f}",
        factors,
        f"{np.mean(degraded):.3f}",
        f"{np.mean(clean):+.2f}",
        f"{np.mean(areas):.3f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    recipes = [read_recipe(path) for path in options.recipes]
    recipes = [dataclasses.replace(recipe, data=recipes[0].data) for recipe in recipes]
    data = load(options.data, options.cache or writable_cache_folder() / "train", recipes)
    header = [
        "recipe",
        "moderate: TAR less cosine's",
        "worst",
        "extreme: TAR over cosine's",
        "degraded errors over cosine's",
        "clean accuracy gained",
        "discard area over norm's",
    ]
    print(table(header, [cross_validate(data, recipe) for recipe in recipes]))


if __name__ == "__main__":
    main()
