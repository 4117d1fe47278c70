"""Photos into aligned faces, item by item: the same names, labels and order, other pixels."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from probface.contract import InputSpec
from probface.encoder.session import available_cores
from probface.errors import ImageError, InvalidValue
from probface.face.image import encode_png
from probface.pipeline.parallel import ordered_map
from probface.pipeline.recogniser import FaceFinder
from probface.readers.item import Broken, Item


def aligned_items(items: Iterable[Item], size: int = 112, *, workers: int = 0) -> Generator[Item, None, None]:
    """The most central face of every photo, aligned by the ``arcface`` template, as a PNG in memory.

    Few photos are under way at a time, so memory does not grow with their number.

    Args:
        items: the photos; read lazily, by the thread that asks for the faces.
        size: height and width of the faces in pixels.
        workers: threads; 0 for all cores.

    Returns:
        One item for each photo, in their order. That of a photo which cannot be read or shows no face is broken: its
        ``source`` raises UnreadableImage, which says why.

    Raises:
        InvalidValue: a size below 8, or fewer than 0 workers.
        ModelNotFound, ModelError: there is no face detector.
    """
    if workers < 0:
        raise InvalidValue(f"workers {workers}: must be 0 or more; give 0 for all cores")
    finder = FaceFinder(InputSpec(height=size, width=size), policy="central")
    return _in_threads(partial(_aligned, finder), items, workers or available_cores())


def _in_threads(align: Callable[[Item], Item], items: Iterable[Item], workers: int) -> Generator[Item, None, None]:
    with ThreadPoolExecutor(workers, thread_name_prefix="probface") as pool:
        yield from ordered_map(pool, align, items, ahead=4 * workers)


def _aligned(finder: FaceFinder, photo: Item) -> Item:
    try:
        face, *_ = finder(photo.source, photo.name)
    except (ImageError, InvalidValue) as error:
        return replace(photo, origin=Broken(str(error)))
    return replace(photo, origin=encode_png(face.crop))
