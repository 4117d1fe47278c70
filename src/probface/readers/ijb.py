"""IJB-B and IJB-C as the field distributes them: lists in ``meta/``, loosely cropped faces in ``loose_crop/``.

    meta/ijbc_face_tid_mid.txt          image template media                    one line an image
    meta/ijbc_name_5pts_score.txt       image x y x y x y x y x y score         five landmarks, the detector's score
    meta/ijbc_template_pair_label.txt   template template label                 1:1; label 1: one subject
    meta/ijbc_1N_gallery_G1.csv, _G2    TEMPLATE_ID,SUBJECT_ID,FILENAME,...     1:N; S1 and S2 in IJB-B
    meta/ijbc_1N_probe_mixed.csv        the same columns

The 1:N lists name NIST's files; their images are those that ``face_tid_mid`` lists for the same template. All files but
the crops are read here; IJB-B begins its names with ``ijbb``.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError
from probface.readers.csv_columns import csv_rows
from probface.readers.item import Item
from probface.readers.search_lists import check_search

GALLERIES = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}
"""Names of the two galleries of each data set."""
POINTS = 10
"""Coordinates of the landmarks of a face."""


@dataclass(frozen=True, slots=True)
class IjbFiles:
    """Where the parts of the data set are.

    Attributes:
        name: ``ijbb`` or ``ijbc``.
        templates, landmarks, pairs, probes: the lists.
        galleries: the lists of the two galleries.
        images: the folder of crops.
    """

    name: str
    templates: Path
    landmarks: Path
    pairs: Path
    galleries: tuple[Path, Path]
    probes: Path
    images: Path


@dataclass(frozen=True, slots=True, eq=False)
class IjbFaces:
    """N images, each in a template and a media (a still, or the frames of one video), in the order of the list.

    Attributes:
        names: (N,) of the images; an image that serves several templates is there for each.
        templates: (N,) int64, the template's number.
        media: (N,) int64, the media's number.
        landmarks: (N, 5, 2) float32, (x, y) in pixels of the crop.
        detector_scores: (N,) float32, 0 or more; larger is surer.
    """

    names: tuple[str, ...]
    templates: NDArray[np.int64]
    media: NDArray[np.int64]
    landmarks: NDArray[np.float32]
    detector_scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class IjbSubjects:
    """T templates and who they show.

    Attributes:
        name: of the list: ``G1``, ``S2``, ``probes`` ...
        templates: (T,) int64, rising.
        subjects: (T,) int64.
    """

    name: str
    templates: NDArray[np.int64]
    subjects: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.templates)


@dataclass(frozen=True, slots=True)
class IjbSearch:
    """The 1:N protocol: two galleries with a template a subject, and the probes that are searched in both."""

    galleries: tuple[IjbSubjects, IjbSubjects]
    probes: IjbSubjects


def find_ijb(root: Path) -> IjbFiles:
    """Find IJB-B or IJB-C in a folder that holds ``meta/``, or whose ``IJBB/`` or ``IJBC/`` does.

    Raises:
        DataError: neither is there, or both are.
    """
    found = [
        (folder, name)
        for folder in (root, root / "IJBB", root / "IJBC")
        for name in GALLERIES
        if (folder / "meta" / f"{name}_face_tid_mid.txt").is_file()
    ]
    if not found:
        raise DataError(f"{root}: no meta/ijbb_face_tid_mid.txt and no meta/ijbc_face_tid_mid.txt; give IJB's folder")
    if len(found) > 1:
        raise DataError(f"{root}: has {' and '.join(name for _, name in found)}; give the folder of one of them")
    folder, name = found[0]
    meta = folder / "meta"
    first, second = (meta / f"{name}_1N_gallery_{gallery}.csv" for gallery in GALLERIES[name])
    return IjbFiles(
        name=name,
        templates=meta / f"{name}_face_tid_mid.txt",
        landmarks=meta / f"{name}_name_5pts_score.txt",
        pairs=meta / f"{name}_template_pair_label.txt",
        galleries=(first, second),
        probes=meta / f"{name}_1N_probe_mixed.csv",
        images=folder / "loose_crop",
    )


def read_ijb_faces(files: IjbFiles) -> IjbFaces:
    """Read which images make up which template, with their landmarks and detector scores.

    Raises:
        DataError: a list cannot be read or breaks its format, lists an image twice, or one list has an image that the
            other has not (one of them was cut short).
    """
    names: list[str] = []
    numbers = array("q")
    lines: dict[tuple[str, int], int] = {}
    for line, where, fields in _lines(files.templates, 3, "image template media"):
        template, media = _whole(fields[1], where), _whole(fields[2], where)
        if lines.setdefault((fields[0], template), line) != line:
            raise DataError(
                f"{where}: image {fields[0]!r} is in template {template} already, on line "
                f"{lines[fields[0], template]}; remove one of the two lines"
            )
        names.append(fields[0])
        numbers.extend((template, media))
    if not names:
        raise DataError(f"{files.templates}: no line 'image template media'; get a complete copy of the list")
    places, values = _read_landmarks(files.landmarks)
    rows = _matched(files, names, places)
    columns = np.array(numbers, np.int64).reshape(-1, 2)
    return IjbFaces(
        names=tuple(names),
        templates=columns[:, 0].copy(),
        media=columns[:, 1].copy(),
        landmarks=values[rows, :POINTS].reshape(-1, 5, 2),
        detector_scores=values[rows, POINTS],
    )


def read_ijb_search(files: IjbFiles, faces: IjbFaces) -> IjbSearch:
    """Read the 1:N lists.

    Raises:
        DataError: a list cannot be read or breaks its format, a template has two subjects or no image, a gallery has
            a subject twice, or a template is in a gallery and among the probes.
    """
    known = np.unique(faces.templates)
    names = GALLERIES[files.name]
    first, second = (_read_subjects(path, name, known) for path, name in zip(files.galleries, names, strict=True))
    probes = _read_subjects(files.probes, "probes", known)
    for path, gallery in zip(files.galleries, (first, second), strict=True):
        check_search(path, gallery.templates, gallery.subjects, files.probes, probes.templates)
    return IjbSearch((first, second), probes)


def ijb_items(files: IjbFiles, faces: IjbFaces) -> tuple[Item, ...]:
    """The crops, each once, in the order of the list, named as it names them.

    Raises:
        DataError: the folder or an image is not there; the message names the first and says how many are missing.
    """
    try:
        there = {path.name for path in files.images.iterdir()}
    except OSError as error:
        raise DataError(f"{files.images}: {error.strerror}; IJB needs its folder of crops there") from error
    names = tuple(dict.fromkeys(faces.names))
    missing = [name for name in names if name not in there]
    if missing:
        raise DataError(
            f"{files.images}: no {missing[0]} ({len(missing)} of {len(names)} missing); get a complete copy"
        )
    return tuple(Item(name, files.images / name) for name in names)


def _lines(path: Path, count: int, expected: str) -> Iterator[tuple[int, str, list[str]]]:
    """Number, place and fields of each line; blank ones are passed over."""
    try:
        with path.open(encoding="utf-8") as file:
            for line, text in enumerate(file, start=1):
                fields = text.split()
                if not fields:
                    continue
                where = f"{path}, line {line}"
                if len(fields) != count:
                    raise DataError(
                        f"{where}: {len(fields)} fields, expected {count}, '{expected}'; correct the line, or get a "
                        "complete copy"
                    )
                yield line, where, fields
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a readable list") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error}); get a complete copy of the list") from error


def _whole(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):  # fits into 64 bits
        raise DataError(f"{where}: {text[:60]!r}, expected a whole number of 0 or more; correct the line")
    return int(text)


def _read_landmarks(path: Path) -> tuple[dict[str, int], NDArray[np.float32]]:
    """Image -> row of (N, 11) coordinates and score."""
    places: dict[str, int] = {}
    values = array("f")
    for _, where, fields in _lines(path, POINTS + 2, "image, 10 coordinates, score"):
        try:
            values.extend(map(float, fields[1:]))
        except ValueError as error:
            raise DataError(f"{where}: {error}; correct the line") from error
        if places.setdefault(fields[0], len(places)) != len(values) // (POINTS + 1) - 1:
            raise DataError(f"{where}: image {fields[0]!r} has landmarks already; remove one of the two lines")
        # The sum, in float64, is finite where all of the float32 are.
        if not (math.isfinite(sum(values[-POINTS - 1 :])) and values[-1] >= 0):
            raise DataError(
                f"{where}: {fields[1:]}, expected finite numbers and a score of 0 or more; correct the line"
            )
    return places, np.array(values, np.float32).reshape(-1, POINTS + 1)


def _matched(files: IjbFiles, names: list[str], places: dict[str, int]) -> NDArray[np.int64]:
    """The row of the landmarks of each image."""
    without = [name for name in names if name not in places]
    if without:
        raise DataError(
            f"{files.landmarks}: image {without[0]!r} of {files.templates.name} has no landmarks ({len(without)} such "
            "images); get complete copies of both lists"
        )
    unlisted = set(places).difference(names)
    if unlisted:
        raise DataError(
            f"{files.templates}: image {min(unlisted)!r} of {files.landmarks.name} is in no template ({len(unlisted)} "
            "such images); get complete copies of both lists"
        )
    return np.array([places[name] for name in names], np.int64)


def _read_subjects(path: Path, name: str, known: NDArray[np.int64]) -> IjbSubjects:
    """Templates and subjects of a 1:N list, which has a row an image."""
    subjects: dict[int, int] = {}
    for row in csv_rows(path, ("TEMPLATE_ID", "SUBJECT_ID")):
        template, subject = row.whole(0), row.whole(1)
        if subjects.setdefault(template, subject) != subject:
            raise DataError(
                f"{row.where}: template {template} is of subject {subject}, and of {subjects[template]} before; "
                "correct one of the lines"
            )
    if not subjects:
        raise DataError(f"{path}: no template in it; get a complete copy of the list")
    templates = np.array(sorted(subjects), np.int64)
    without = templates[~np.isin(templates, known)]
    if len(without):
        raise DataError(
            f"{path}: template {without[0]} has no image in the list of faces ({len(without)} such templates); get "
            "complete copies of both lists"
        )
    return IjbSubjects(name, templates, np.array([subjects[template] for template in templates.tolist()], np.int64))
