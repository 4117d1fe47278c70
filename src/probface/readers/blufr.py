"""BLUFR's lists, ``blufr_lfw_config.mat``: which images of LFW train, test, are enrolled and are looked for.

From Liao, Lei, Yi, Li, "A Benchmark Study of Large-scale Unconstrained Face Recognition", IJCB 2014. Images are named
as :mod:`probface.readers.lfw` names them, ``Name/Name_0001``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.readers.mat_file import Value, read_mat

Rows: TypeAlias = NDArray[np.int64]
"""(n,) rows of ``BlufrLists.names``, from 0, rising, each once."""


@dataclass(frozen=True, slots=True, eq=False)
class BlufrTrial:
    """One of the ten random halvings of the people.

    Attributes:
        train: images to learn from.
        test: images of other people; all pairs of them are compared.
        gallery: of the test images, one of each of the enrolled people.
        probes: of the test images, those looked for: of enrolled people and of others.
    """

    train: Rows
    test: Rows
    gallery: Rows
    probes: Rows


@dataclass(frozen=True, slots=True, eq=False)
class BlufrLists:
    """The protocol.

    Attributes:
        names: (N,) of all images.
        labels: (N,) int64, the number of the person in each.
        trials: in the file's order.
        development_train: images to choose parameters with.
        development_test: images of other people, for the same purpose.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    trials: tuple[BlufrTrial, ...]
    development_train: Rows
    development_test: Rows

    def person(self, row: int) -> str:
        """Name of the person in an image."""
        return self.names[row].split("/")[0]


def read_blufr(path: Path, *, allow_overlap: bool = False) -> BlufrLists:
    """Read and check the lists.

    Args:
        path: of ``blufr_lfw_config.mat``.
        allow_overlap: take lists in which a person both trains and tests: their figures flatter a trained model.

    Raises:
        DataError: the file is damaged or breaks the protocol; the message names the list, and the person or image.
    """
    content = read_mat(path)
    names = _names(path, _cell(path, content, "imageList"))
    labels = _numbers(path, "labels", content.get("labels")).astype(np.int64)
    if labels.shape != (len(names),):
        raise DataError(f"{path}: {len(labels)} labels for {len(names)} images, must be one for each; get it again")
    train, test, gallery, probes = (
        [
            _rows(path, f"{key}{{{number}}}", value, len(names))
            for number, value in enumerate(_cell(path, content, key), 1)
        ]
        for key in ("trainIndex", "testIndex", "galIndex", "probIndex")
    )
    counts = [len(lists) for lists in (train, test, gallery, probes)]
    if len(set(counts)) != 1 or counts[0] == 0:
        raise DataError(f"{path}: {counts} lists of train, test, gallery, probes; must be as many of each, and some")
    development = [_rows(path, key, content.get(key), len(names)) for key in ("devTrainIndex", "devTestIndex")]
    trials = tuple(BlufrTrial(*rows) for rows in zip(train, test, gallery, probes, strict=True))
    lists = BlufrLists(names, labels, trials, *development)
    _check_people(path, lists)
    for number, trial in enumerate(trials, 1):
        _check_trial(path, lists, number, trial)
    if not allow_overlap:
        _check_apart(path, lists)
    return lists


def _cell(path: Path, content: Mapping[str, Value | tuple[Value, ...]], key: str) -> tuple[Value, ...]:
    cell = content.get(key)
    if not isinstance(cell, tuple):
        raise DataError(f"{path}: no cell {key!r} in it; give BLUFR's blufr_lfw_config.mat")
    return cell


def _names(path: Path, listed: tuple[Value, ...]) -> tuple[str, ...]:
    names = []
    for number, value in enumerate(listed, 1):
        stem = value.removesuffix(".jpg") if isinstance(value, str) else ""
        person, _, digits = stem.rpartition("_")
        if not (person and digits.isdecimal()) or "/" in stem:
            shown = repr(value[:60]) if isinstance(value, str) else "an array"
            raise DataError(f"{path}: imageList{{{number}}} is {shown}: must be a name such as 'Name_0001.jpg'")
        names.append(f"{person}/{stem}")
    if len(set(names)) != len(names):
        ((twice, _),) = Counter(names).most_common(1)
        raise DataError(f"{path}: image {twice!r} is in imageList twice: must be there once; get the file again")
    return tuple(names)


def _numbers(path: Path, name: str, value: Value | tuple[Value, ...] | None) -> NDArray[np.number]:
    if not isinstance(value, np.ndarray) or not ((value >= 0) & (value < 1 << 53) & (value == np.floor(value))).all():
        raise DataError(f"{path}: {name} is missing or not of whole numbers; give BLUFR's blufr_lfw_config.mat")
    return value


def _rows(path: Path, name: str, value: Value | tuple[Value, ...] | None, images: int) -> Rows:
    """From MATLAB's numbers, which begin at 1."""
    numbers = _numbers(path, name, value)
    outside = numbers[(numbers < 1) | (numbers > images)]
    if len(outside):
        raise DataError(f"{path}: {name} has the image number {outside[0]:g}: must be in 1..{images}; get it again")
    rows = np.unique(numbers.astype(np.int64)) - 1
    if len(rows) == 0 or len(rows) != len(numbers):
        raise DataError(f"{path}: {name} has {len(numbers)} numbers, {len(rows)} different: need each once, and some")
    return rows


def _check_people(path: Path, lists: BlufrLists) -> None:
    """A label stands for one name, and a name for one label."""
    of_label: dict[int, str] = {}
    of_name: dict[str, int] = {}
    for row, label in enumerate(lists.labels.tolist()):
        person = lists.person(row)
        if of_label.setdefault(label, person) != person or of_name.setdefault(person, label) != label:
            raise DataError(
                f"{path}: image {lists.names[row]!r} has the label {label}: must be one label for each person; "
                "get the file again"
            )


def _check_trial(path: Path, lists: BlufrLists, number: int, trial: BlufrTrial) -> None:
    for key, rows in (("galIndex", trial.gallery), ("probIndex", trial.probes)):
        strange = np.setdiff1d(rows, trial.test)
        if len(strange):
            raise DataError(f"{path}: {key}{{{number}}} has image {lists.names[strange[0]]!r}: must be in testIndex")
    both = np.intersect1d(trial.gallery, trial.probes)
    if len(both):
        raise DataError(f"{path}: trial {number} has image {lists.names[both[0]]!r} as gallery image and probe")
    _, first, count = np.unique(lists.labels[trial.gallery], return_index=True, return_counts=True)
    if count.max() > 1:
        person = lists.person(int(trial.gallery[first[np.argmax(count > 1)]]))
        raise DataError(f"{path}: galIndex{{{number}}} has {count.max()} images of {person!r}: must be one a person")


def _check_apart(path: Path, lists: BlufrLists) -> None:
    """Nobody trains and tests."""
    splits = [(f"trial {number}", trial.train, trial.test) for number, trial in enumerate(lists.trials, 1)]
    for name, train, test in (*splits, ("development", lists.development_train, lists.development_test)):
        shared = test[np.isin(lists.labels[test], lists.labels[train])]
        if len(shared):
            raise DataError(
                f"{path}: {name} has {lists.person(int(shared[0]))!r} among its people to train and to test: must be "
                "apart; correct the lists, or allow the overlap"
            )
