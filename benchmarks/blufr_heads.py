"""BLUFR on LFW with an uncertainty head for each trial: a section of docs/evidence.md.

    python benchmarks/blufr_heads.py --data LFW [--recipe recipes/sface.toml]

LFW is the folder with the images and blufr/blufr_lfw_config.mat. Each trial's head is trained, by the recipe, on the
people of that trial's own ``trainIndex`` and on nobody else; the trial's other people judge it. Once the images are as
they are, and once each is, with equal chance, moderately degraded.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lfw_judge import CROSS_SEED, DRAW_SEED, State, some_faces
from markdown_tables import table
from probface.encoder.features import FeatureExtractor
from probface.eval.face_table import FaceTable
from probface.eval.protocols.blufr import BlufrOptions, BlufrResult, judge_blufr, over_trials
from probface.models.registry import resolve_backbone
from probface.models.taps import find_taps
from probface.models.weights import writable_cache_folder
from probface.nn.uncertainty_head import UncertaintyHead
from probface.readers.blufr import read_blufr
from probface.readers.lfw import lfw_images
from probface.train.config import HeadRecipe, Variant, read_recipe
from probface.train.feature_source import TrainingFeatures
from probface.train.features import Faces, cache_faces, cache_features
from probface.train.fit import fit_head
from probface.types import Embeddings, FloatArray

FMRS = (1e-2, 1e-3, 1e-4, 1e-5)
OPTIONS = BlufrOptions(fmrs=FMRS, fpirs=(1e-2, 1e-1), ranks=(1,))


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """Every image that may train, in every variant of the recipe."""

    faces: Faces
    copies: list[FloatArray]
    shares: list[float]
    dim: int

    def of(self, people: set[str]) -> TrainingFeatures:
        """The features of some of the people."""
        rows = np.flatnonzero([name.split("/")[0] in people for name in self.faces.names])
        numbers = np.unique(self.faces.people[rows], return_inverse=True)[1]
        return TrainingFeatures([copy[rows] for copy in self.copies], self.shares, numbers, self.dim)


class Lfw:
    """All images of LFW, embedded by the frozen backbone."""

    def __init__(self, root: Path, cache: Path, recipe: HeadRecipe) -> None:
        self.lists = read_blufr(root / "blufr" / "blufr_lfw_config.mat")
        self._recipe, self._cache = recipe, cache
        self._backbone = resolve_backbone("sface")
        self._taps = find_taps(self._backbone.model, self._backbone.face)
        self._extractor = FeatureExtractor(self._backbone.model, self._taps, self._backbone.input, threads=1)
        self._items = {item.name: item for item in lfw_images(root)}
        self._all = self._faces(list(self.lists.names))
        self.training = self._training()

    def _faces(self, names: list[str]) -> Faces:
        items = [self._items[name] for name in names]
        return cache_faces(items, self._backbone.input, self._cache, aligned=False)

    def _features(self, faces: Faces, variant: Variant, seed: int) -> list[FloatArray]:
        key: dict[str, object] = {"backbone": self._backbone.digest, "features": self._taps.spelling}
        return cache_features(faces, self._extractor, variant, self._cache, model_key=key, seed=seed)

    def _training(self) -> Training:
        by_person = defaultdict(list)
        for name, item in self._items.items():
            by_person[item.label].append(name)
        most = self._recipe.data.images_per_person
        faces = self._faces(
            [n for person in sorted(by_person) if len(by_person[person]) > 1 for n in by_person[person][:most]]
        )
        variants = self._recipe.variants
        copies = [copy for variant in variants for copy in self._features(faces, variant, self._recipe.seed)]
        shares = [variant.share / variant.copies for variant in variants for _ in range(variant.copies)]
        return Training(faces, copies, shares, self._extractor.dim)

    def states(self) -> Iterator[tuple[str, FloatArray]]:
        """All images as they are; and each, with equal chance, degraded."""
        (clean,) = self._features(self._all, Variant("clean"), CROSS_SEED)
        yield "clean", clean
        degraded = np.random.default_rng(DRAW_SEED).random(len(self._all.names)) < 0.5
        rows = np.flatnonzero(degraded)
        chosen = some_faces(self._all, rows, "half of them")
        mixed = np.array(clean)
        (mixed[rows],) = self._features(chosen, Variant("moderate"), DRAW_SEED)
        yield "degraded with equal chance", mixed

    def heads(self) -> list[UncertaintyHead]:
        """One a trial."""
        return [self._head(trial.train) for trial in self.lists.trials]

    def _head(self, rows: NDArray[np.int64]) -> UncertaintyHead:
        people = {self.lists.person(row) for row in rows}
        with tempfile.TemporaryDirectory() as folder:
            return fit_head(self.training.of(people), self._recipe, Path(folder)).cpu()

    def table(self, features: FloatArray, head: UncertaintyHead | None) -> FaceTable:
        """All images as one head sees them; without one every variance is 1."""
        state = State.of(features, self._extractor.dim)
        sigma_sq = np.ones((len(features), 1), np.float32)
        if head is not None:
            with torch.no_grad():
                sigma_sq = head(torch.from_numpy(np.array(features))).exp().numpy()
        return FaceTable(self._all.names, Embeddings(state.mu, sigma_sq))


def section(root: Path, cache: Path, recipe: HeadRecipe) -> str:
    """The table, Markdown."""
    lfw = Lfw(root, cache, recipe)
    heads = lfw.heads()
    rows = []
    for name, features in lfw.states():
        cosine = judge_blufr(lfw.lists, lfw.table(features, None), "cosine", OPTIONS)

        def of_trial(trial: int, features: FloatArray = features) -> FaceTable:
            return lfw.table(features, heads[trial])

        ours = judge_blufr(lfw.lists, of_trial, "fastmls", OPTIONS)
        rows += [
            [name, "cosine", *cells(cosine)],
            [name, "FastMLS", *cells(ours)],
            [name, "gain", *gains(ours, cosine)],
        ]
    rates = [f"TMR at {fmr:g}" for fmr in FMRS]
    return table(["images", "score", *rates, "DIR at FPIR 0.01", "DIR at FPIR 0.1"], rows)


def cells(result: BlufrResult) -> list[str]:
    """Mean and standard deviation over the trials, in percent."""
    verification, identification = result.verification(), result.identification()
    pairs = [
        *zip(verification.mean, verification.standard_deviation, strict=True),
        *zip(identification.mean[:, 0], identification.standard_deviation[:, 0], strict=True),
    ]
    return [f"{100 * mean:.2f} ± {100 * deviation:.2f}" for mean, deviation in pairs]


def gains(ours: BlufrResult, theirs: BlufrResult) -> list[str]:
    """What each trial gains: mean, and the least and most of the trials, in points."""
    differences = [*(ours.tmr - theirs.tmr).T, *(ours.identified - theirs.identified)[:, :, 0].T]
    return [f"{100 * over_trials(d).mean:+.2f} ({100 * d.min():+.2f} to {100 * d.max():+.2f})" for d in differences]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parents[1] / "recipes" / "sface.toml")
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    recipe = read_recipe(options.recipe)
    print(section(options.data, options.cache or writable_cache_folder() / "train", recipe))


if __name__ == "__main__":
    main()
