"""IJB-A as NIST distributed it: 10 splits, each with a training list, a 1:N task and a 1:1 task.

    IJB-A_1N_sets/split1/   train_1.csv  search_gallery_1.csv  search_probe_1.csv
    IJB-A_11_sets/split1/   train_1.csv  verify_metadata_1.csv  verify_comparisons_1.csv

The lists have the columns TEMPLATE_ID, SUBJECT_ID, FILE, MEDIA_ID, SIGHTING_ID, FRAME, FACE_X, FACE_Y, FACE_WIDTH,
FACE_HEIGHT and more; ``verify_comparisons`` has no header and two template numbers a line. An image can show several
people, so a face is named by file and sighting: ``img/533.JPG:22238``. Subject 0 of a training list is not told.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from probface.errors import DataError, InvalidValue
from probface.readers.csv_columns import csv_rows
from probface.readers.search_lists import check_search

Task: TypeAlias = Literal["11", "1N"]
Overlap: TypeAlias = Literal["error", "keep"]

COLUMNS = (
    "TEMPLATE_ID",
    "SUBJECT_ID",
    "FILE",
    "MEDIA_ID",
    "SIGHTING_ID",
    "FACE_X",
    "FACE_Y",
    "FACE_WIDTH",
    "FACE_HEIGHT",
)
SPLITS = 10


@dataclass(frozen=True, slots=True, eq=False)
class IjbaFaces:
    """N faces of a list.

    Attributes:
        names: (N,) file and sighting, as ``img/533.JPG:22238``; a face that serves several templates is there for each.
        files: (N,) the image's path.
        templates, subjects, media: (N,) int64.
        boxes: (N, 4) float64, (x, y, width, height) in pixels of the image; NaN where the list has none.
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    templates: NDArray[np.int64]
    subjects: NDArray[np.int64]
    media: NDArray[np.int64]
    boxes: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    def template_subjects(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(T,) templates, rising, and (T,) their subjects."""
        templates, rows = np.unique(self.templates, return_index=True)
        return templates, self.subjects[rows]


@dataclass(frozen=True, slots=True, eq=False)
class IjbaVerification:
    """The 1:1 task of a split.

    Attributes:
        split: 1..10.
        faces: of all templates.
        first, second: (P,) int64, the templates compared.
        genuine: (P,) bool, whether they are of one subject.
    """

    split: int
    faces: IjbaFaces
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    genuine: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.genuine)


@dataclass(frozen=True, slots=True)
class IjbaSearch:
    """The 1:N task of a split: probes are searched in the gallery, which some of their subjects are not in."""

    split: int
    gallery: IjbaFaces
    probes: IjbaFaces


def ijba_splits(root: Path, task: Task) -> tuple[int, ...]:
    """The numbers of the splits that are there.

    Raises:
        DataError: none is.
    """
    found = tuple(split for split in range(1, SPLITS + 1) if _folder(root, task, split) is not None)
    if not found:
        raise DataError(f"{root}: no IJB-A_{task}_sets/split1 with its lists; give the folder that NIST's lists are in")
    return found


def read_ijba_verification(root: Path, split: int, *, overlap: Overlap = "error") -> IjbaVerification:
    """Read the 1:1 task of a split.

    Args:
        root: the folder of ``IJB-A_11_sets``, or that folder.
        split: 1..10.
        overlap: what to do about people who are in the training list, too; to keep them, no such list is needed.

    Raises:
        DataError: a list cannot be read or breaks its format, a comparison has an unknown template, is there twice or
            is of a template with itself, all are of one kind, or people are in both lists.
        InvalidValue: another word for ``overlap``.
    """
    folder = _require_folder(root, "11", split)
    faces = read_ijba_list(folder / f"verify_metadata_{split}.csv")
    _check_overlap(folder, split, np.unique(faces.subjects), overlap)
    path = folder / f"verify_comparisons_{split}.csv"
    first, second = _read_comparisons(path, faces)
    templates, subjects = faces.template_subjects()
    one, other = (subjects[np.searchsorted(templates, side)] for side in (first, second))
    genuine = one == other
    if genuine.all() or not genuine.any():
        kind = "genuine" if genuine.any() else "impostors'"
        raise DataError(f"{path}: all {len(first)} comparisons are {kind}; get a complete copy of the list")
    return IjbaVerification(split, faces, first, second, genuine)


def read_ijba_search(root: Path, split: int, *, overlap: Overlap = "error") -> IjbaSearch:
    """Read the 1:N task of a split. In NIST's own lists, subject 724 of split 6 is in the training list, too.

    Args:
        root: the folder of ``IJB-A_1N_sets``, or that folder.
        split: 1..10.
        overlap: as in :func:`read_ijba_verification`.

    Raises:
        DataError: a list cannot be read or breaks its format, the gallery has a subject twice, a template is in the
            gallery and among the probes, or people are in the training list, too.
        InvalidValue: another word for ``overlap``.
    """
    folder = _require_folder(root, "1N", split)
    path, searched = folder / f"search_gallery_{split}.csv", folder / f"search_probe_{split}.csv"
    gallery, probes = read_ijba_list(path), read_ijba_list(searched)
    check_search(path, *gallery.template_subjects(), searched, probes.templates)
    _check_overlap(folder, split, np.union1d(gallery.subjects, probes.subjects), overlap)
    return IjbaSearch(split, gallery, probes)


def read_ijba_list(path: Path) -> IjbaFaces:
    """Read one list of faces.

    Raises:
        DataError: it cannot be read or breaks its format, is empty, has a face twice in a template, or a template of
            two subjects.
    """
    names: list[str] = []
    files: list[str] = []
    numbers, boxes = array("q"), array("d")
    owners: dict[int, int] = {}
    seen: dict[tuple[str, int], str] = {}
    for row in csv_rows(path, COLUMNS):
        template, subject, media, sighting = (row.whole(column) for column in (0, 1, 3, 4))
        name = f"{row.fields[2]}:{sighting}"
        if owners.setdefault(template, subject) != subject:
            raise DataError(
                f"{row.where}: template {template} is of subject {subject}, and of {owners[template]} before; correct "
                "one of the lines"
            )
        if seen.setdefault((name, template), row.where) != row.where:
            raise DataError(
                f"{row.where}: face {name!r} is in template {template} already, see {seen[name, template]}; remove one "
                "of the two lines"
            )
        names.append(name)
        files.append(row.fields[2])
        numbers.extend((template, subject, media))
        boxes.extend(row.number(column) for column in range(5, 9))
    if not names:
        raise DataError(f"{path}: no face in it; get a complete copy of the list")
    columns = np.array(numbers, np.int64).reshape(-1, 3).T.copy()
    templates, subjects, of_media = columns
    places = np.array(boxes, np.float64).reshape(-1, 4)
    return IjbaFaces(tuple(names), tuple(files), templates, subjects, of_media, places)


def _folder(root: Path, task: Task, split: int) -> Path | None:
    list_name = f"verify_metadata_{split}.csv" if task == "11" else f"search_gallery_{split}.csv"
    places = (root / f"IJB-A_{task}_sets" / f"split{split}", root / f"split{split}")
    return next((place for place in places if (place / list_name).is_file()), None)


def _require_folder(root: Path, task: Task, split: int) -> Path:
    folder = _folder(root, task, split)
    if folder is None:
        raise DataError(f"{root}: no IJB-A_{task}_sets/split{split} with its lists; give the folder of NIST's lists")
    return folder


def _check_overlap(folder: Path, split: int, tested: NDArray[np.int64], overlap: Overlap) -> None:
    if overlap not in ("error", "keep"):
        raise InvalidValue(f"overlap {overlap!r}: must be 'error' or 'keep'; choose one of them")
    if overlap == "keep":
        return
    path = folder / f"train_{split}.csv"
    both = np.intersect1d(read_ijba_list(path).subjects, tested)
    if len(both):
        few = ", ".join(map(str, both[:5].tolist()))
        raise DataError(
            f"{path}: subject {few}{', ...' if len(both) > 5 else ''}: in the test lists of split {split}, too "
            f"({len(both)} such people); a person must not train and test, correct the lists, or keep the overlap"
        )


def _read_comparisons(path: Path, faces: IjbaFaces) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    known = frozenset(faces.templates.tolist())
    seen: dict[tuple[int, int], str] = {}
    numbers = array("q")
    for row in csv_rows(path, ("first", "second"), header=False):
        one, other = row.whole(0), row.whole(1)
        for template in (one, other):
            if template not in known:
                raise DataError(f"{row.where}: template {template} is not in the metadata; get complete copies of both")
        if one == other:
            raise DataError(f"{row.where}: template {one} is compared with itself; remove the line")
        if seen.setdefault((min(one, other), max(one, other)), row.where) != row.where:
            raise DataError(
                f"{row.where}: templates {one} and {other} are compared already, see "
                f"{seen[min(one, other), max(one, other)]}; remove one of the two lines"
            )
        numbers.extend((one, other))
    if not numbers:
        raise DataError(f"{path}: no comparison in it; get a complete copy of the list")
    columns = np.array(numbers, np.int64).reshape(-1, 2)
    return columns[:, 0].copy(), columns[:, 1].copy()
