"""The judge of docs/evidence.md: LFW people of folds 8 to 10, in every state that a figure asks for.

Nobody here trained a shipped head (recipes train on folds 1 to 7). The frozen backbone's fused features are computed
once and cached; every head of the ablation then reads the same ones.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probface.encoder.features import FeatureExtractor
from probface.face.degrade import degrade
from probface.face.sharpness import sharpness
from probface.models.head_weights import HeadWeights, load_head
from probface.models.registry import head_file, resolve_backbone
from probface.models.taps import find_taps
from probface.models.weights import writable_cache_folder
from probface.pipeline.recogniser import open_detector
from probface.readers.lfw import LfwPair, find_lfw, lfw_images, people_folds, read_pairs
from probface.train.config import Variant
from probface.train.features import Faces, cache_faces, cache_features, change
from probface.types import Embeddings, FloatArray

JUDGE_FOLDS = (8, 9, 10)
CROSS_SEED, DRAW_SEED = 100, 1000
DRAWS = 20


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """The judge's images in one state: fused features, and quality measures that need no head."""

    features: FloatArray
    mu: FloatArray
    norm: NDArray[np.float64]

    @classmethod
    def of(cls, features: FloatArray, dim: int) -> State:
        raw = np.asarray(features[:, -dim:], np.float64)
        norm = np.linalg.norm(raw, axis=1)
        return cls(features, (raw / norm[:, None]).astype(np.float32), norm)

    def embeddings(self, head: HeadWeights) -> Embeddings:
        """What the grafted model would give: ``mu``, and the head's ``sigma_sq``."""
        reads = head.fc1_weight.shape[1]
        alone = len(head.contract.features) == 1  # the embedding, which stands at the end
        features = self.features[:, -reads:] if alone else self.features[:, :reads]
        rows = range(0, len(features), 512)  # float64 inside: a part at a time, for the widest heads
        log_sigma_sq = np.concatenate([head.log_sigma_sq(features[row : row + 512]) for row in rows])
        return Embeddings(self.mu, np.exp(log_sigma_sq).astype(np.float32))


@dataclass(frozen=True, slots=True)
class Draws:
    """The judge's random states, made one by one: together they would not fit in memory with every head's features."""

    judge: Judge

    def __len__(self) -> int:
        return DRAWS

    def __iter__(self) -> Iterator[State]:
        return (self.judge.draw(number) for number in range(DRAWS))


class Judge:
    """All images that occur in the pairs of the judge's folds."""

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        flatten_last: bool = False,
        backbone: str | Path = "sface",
        folds: tuple[int, ...] = JUDGE_FOLDS,
    ) -> None:
        self.backbone = resolve_backbone(backbone)
        self.taps = find_taps(self.backbone.model, self.backbone.face, flatten_last=flatten_last)
        self.extractor = FeatureExtractor(self.backbone.model, self.taps, self.backbone.input, threads=1)
        self.cache = cache
        lfw = find_lfw(root)
        self.all_pairs = read_pairs(lfw.pairs)
        self.pairs = tuple(pair for pair in self.all_pairs if pair.fold in folds)
        self._items = {item.name: item for item in lfw_images(root)}
        fold_of = people_folds(lfw.people)
        self.faces = self.faces_of(self.pairs)
        wrong = [name for name in self.faces.names if fold_of[name.split("/")[0]] not in folds]
        if wrong or self.faces.failed:
            raise SystemExit(f"judge: {wrong[:3]} are not of its folds, or {self.faces.failed[:3]} have no face")
        self.place = {name: row for row, name in enumerate(self.faces.names)}

    def faces_of(self, pairs: Sequence[LfwPair]) -> Faces:
        """Aligned faces of every image in some pairs."""
        names = sorted({name for pair in pairs for name in (pair.a, pair.b)})
        return cache_faces([self._items[name] for name in names], self.backbone.input, self.cache, aligned=False)

    def state(self, name: str, seed: int = CROSS_SEED) -> State:
        """Every image of the judge, ``clean`` or in a mixture of degradations."""
        return self.state_of(self.faces, name, seed)

    def state_of(self, faces: Faces, name: str, seed: int = CROSS_SEED) -> State:
        """The same for other faces."""
        key: dict[str, object] = {"backbone": self.backbone.digest, "features": self.taps.spelling}
        (features,) = cache_features(faces, self.extractor, Variant(name), self.cache, model_key=key, seed=seed)
        return State.of(features, self.extractor.dim)

    def ladder(self, kind: str, strength: float, count: int) -> State:
        """The first ``count`` images, all degraded by one kind at one strength (not cached)."""
        crops = [
            degrade(self.faces.crops[i], kind, strength, np.random.default_rng([DRAW_SEED, i])) for i in range(count)
        ]
        return State.of(self.extractor.extract(np.stack(crops)), self.extractor.dim)

    @property
    def people(self) -> int:
        """How many people there are."""
        return int(self.faces.people.max()) + 1

    @property
    def draws(self) -> Draws:
        """The states in which each image is clean or, with equal chance, degraded moderately by a draw of its own."""
        return Draws(self)

    def draw(self, number: int) -> State:
        """One of :attr:`draws`."""
        degraded = np.random.default_rng([DRAW_SEED, number]).random(len(self.faces.names)) < 0.5
        rows = np.flatnonzero(degraded)
        chosen = some_faces(self.faces, rows, f"draw {number}")
        features = np.array(self.clean.features)
        features[rows] = self.state_of(chosen, "moderate", DRAW_SEED + number).features
        return State.of(features, self.extractor.dim)

    @cached_property
    def clean(self) -> State:
        """Every image as it is."""
        return self.state("clean")

    @cached_property
    def pair_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The two images of each of the judge's pairs, as rows."""
        first = np.array([self.place[pair.a] for pair in self.pairs])
        second = np.array([self.place[pair.b] for pair in self.pairs])
        return first, second

    def sharpness(self, name: str) -> NDArray[np.float64]:
        """Variance of the Laplacian of the grey aligned face: the usual measure of sharpness."""
        return np.array([sharpness(crop) for crop in self._crops(name)])

    def detector_score(self, name: str) -> NDArray[np.float64]:
        """YuNet's score of the aligned face, 0 where it sees none."""
        detector = open_detector()
        found = (detector.detect(crop) for crop in self._crops(name))
        return np.array([max((face.detector_score for face in faces), default=0.0) for faces in found])

    def _crops(self, name: str) -> list[NDArray[np.uint8]]:
        return [
            change(crop, name, 0, label, CROSS_SEED)
            for crop, label in zip(self.faces.crops, self.faces.names, strict=True)
        ]


def some_faces(faces: Faces, rows: NDArray[np.int64], what: str) -> Faces:
    """Some of the faces, under a digest of their own."""
    return dataclasses.replace(
        faces,
        names=tuple(faces.names[row] for row in rows),
        people=faces.people[rows],
        crops=faces.crops[rows],
        digest=f"{faces.digest}, {what}",
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """What the command line of a section of docs/evidence.md names."""

    data: Path
    judge: Judge
    head: HeadWeights


def opened(description: str | None) -> Opened:
    """Parse --data, --model and --cache."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="LFW: people.txt, pairs.txt and the images")
    parser.add_argument("--model", type=Path, help="a training output folder; the shipped head if not given")
    parser.add_argument("--cache", type=Path, help="folder of cached features")
    options = parser.parse_args()
    judge = Judge(options.data, options.cache or writable_cache_folder() / "train")
    return Opened(options.data, judge, trained_head(options.model))


def trained_head(folder: Path | None) -> HeadWeights:
    """The head of a training output folder, or the shipped one."""
    return load_head(folder / "head.safetensors" if folder else head_file("sface_head.safetensors"))
