"""The people that a model is calibrated on: none of those who trained its head, few images of each, embedded."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from probface.contract import ModelContract
from probface.errors import DataError
from probface.gallery.exchange_reading import read_table
from probface.pipeline.embedding_file import FailedImage
from probface.pipeline.exported_faces import ExportedFaces
from probface.pipeline.face_export import export_faces
from probface.pipeline.face_rows import ExportOptions
from probface.pipeline.progress import Progress, counted
from probface.readers.item import Broken, Item
from probface.readers.lfw import lfw_images
from probface.readers.open import open_items
from probface.types import Embeddings, FloatArray


@dataclass(frozen=True, slots=True)
class Limits:
    """At most so many images of a person, and so many people: the first by name."""

    images_per_person: int
    most_people: int


@dataclass(frozen=True, slots=True)
class EmbeddingWork:
    """How images are embedded.

    Attributes:
        model: as :func:`probface.pipeline.face_export.export_faces` takes it.
        options: of the faces as they are.
        degrade: embed degraded copies, too.
        provider: where the network runs.
        workers: threads; 0 for all cores.
        progress: called as images are done.
    """

    model: str | os.PathLike[str]
    options: ExportOptions
    degrade: bool
    provider: str
    workers: int
    progress: Progress

    def faces(
        self, items: Sequence[Item], folder: Path, state: str | None, shared: ExportedFaces | None
    ) -> ExportedFaces:
        """The faces in one state."""
        return export_faces(
            items,
            folder / (state or "clean"),
            model=self.model,
            options=dataclasses.replace(self.options, degrade=state, crops=self.degrade and state is None),
            shared=shared,
            provider=self.provider,
            workers=self.workers,
            progress=counted(self.progress, f"embedding, {state or 'as they are'}", len(items)),
        )


@dataclass(frozen=True, slots=True)
class ChosenPeople:
    """The images to measure on.

    Attributes:
        rows: their numbers.
        trained: people left out because they trained the head.
        beyond: people left out because there were enough already.
    """

    rows: tuple[int, ...]
    trained: int
    beyond: int


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredPeople:
    """The faces of N images, as they are and perhaps degraded.

    Attributes:
        labels: (N,) who each is.
        clean: as they are.
        moderate: each degraded moderately; None where nothing was degraded.
        extreme_sigma_sq: (N, 1) or (N, D), of each degraded beyond recognition; None likewise.
        chosen: of whom these are.
        failed: images without a face.
    """

    labels: NDArray[np.int64]
    clean: Embeddings
    moderate: Embeddings | None
    extreme_sigma_sq: FloatArray | None
    chosen: ChosenPeople
    failed: tuple[FailedImage, ...]

    @property
    def people(self) -> int:
        """How many there are."""
        return len(np.unique(self.labels))


def measure_images(
    items: list[Item], place: Path, contract: ModelContract, limits: Limits, work: EmbeddingWork
) -> MeasuredPeople:
    """Embed the images of people who did not train the head, in every state."""
    lost = tuple(  # entries that their container could not even tell the person of
        FailedImage(item.name, "UnreadableImage", item.origin.reason)
        for item in items
        if item.label is None and isinstance(item.origin, Broken)
    )
    items = [item for item in items if item.label is not None or not isinstance(item.origin, Broken)]
    labels = [item.label for item in items]
    chosen = _choose(labels, [item.name for item in items], place, contract, limits)
    kept = [items[row] for row in chosen.rows]
    with tempfile.TemporaryDirectory(prefix="probface-", ignore_cleanup_errors=True) as temporary:
        clean = work.faces(kept, Path(temporary), None, None)
        moderate = extreme = None
        if work.degrade:
            moderate, extreme = (
                work.faces(kept, Path(temporary), state, clean).table.embeddings for state in ("moderate", "extreme")
            )
    label = {item.name: item.label for item in kept}
    return MeasuredPeople(
        _numbers([label[name] for name in clean.table.names]),
        clean.table.embeddings,
        moderate,
        None if extreme is None else extreme.sigma_sq,
        chosen,
        clean.failed + lost,
    )


def measure_embeddings(place: Path, contract: ModelContract, limits: Limits) -> MeasuredPeople:
    """Take the embeddings of people who did not train the head from a file that this model made; DataError if not."""
    read = read_table(place)
    if read.contract is None or read.paths is None or read.sigma_sq is None:
        raise DataError(f"{place}: not embeddings of probface embed, so it is unknown whose they are; write them so")
    if _measured_anew(read.contract) != _measured_anew(contract):
        raise DataError(
            f"{place}: embeddings of model {read.contract.name!r}, which is not the model {contract.name!r} to be "
            "calibrated; embed the images with that one"
        )
    if len(set(read.paths)) < len(read.paths):
        raise DataError(f"{place}: several faces of one image, and one label for them; embed the largest face only")
    folders = [PurePosixPath(path).parent.name for path in read.paths]
    labels: list[str | None] = [folder or None for folder in read.names or folders]
    chosen = _choose(labels, read.paths, place, contract, limits)
    rows = np.array(chosen.rows)
    people = _numbers([labels[row] for row in chosen.rows])
    return MeasuredPeople(people, Embeddings(read.mu, read.sigma_sq)[rows], None, None, chosen, ())


def _measured_anew(contract: ModelContract) -> ModelContract:
    """The contract without what a calibration replaces: alike for two files of one network."""
    return dataclasses.replace(contract, thresholds=(), histograms=(), data={}, quality=None, training_people=())


def _choose(
    labels: Sequence[str | None], names: Sequence[str], place: Path, contract: ModelContract, limits: Limits
) -> ChosenPeople:
    """Those who did not train the head, the first few images of each, the first people: by name."""
    people: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if label is None:
            raise DataError(f"{place}: image {names[row]} is nobody's; put the images of each person into one folder")
        people.setdefault(label, []).append(row)
    free = sorted(label for label in people if not contract.trained_on_person(label))
    trained = len(people) - len(free)
    if not free:
        raise DataError(f"{place}: all {trained} people in it trained the head; bring others")
    kept = free[: limits.most_people]
    rows = [
        row for label in kept for row in sorted(people[label], key=lambda row: names[row])[: limits.images_per_person]
    ]
    return ChosenPeople(tuple(rows), trained, len(free) - len(kept))


def labelled_items(place: Path) -> list[Item]:
    """The images of LFW, or of what :func:`probface.readers.open.open_items` takes."""
    return list(lfw_images(place) if (place / "people.txt").is_file() else open_items(place))


def _numbers(labels: Iterable[str | None]) -> NDArray[np.int64]:
    return np.unique([label or "" for label in labels], return_inverse=True)[1].astype(np.int64)
