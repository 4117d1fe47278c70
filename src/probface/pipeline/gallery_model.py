"""Which gallery, and which model goes with it: decided once, before any image is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from probface.contract import ModelContract
from probface.defaults import DEFAULT_MODEL, MAX_PIXELS
from probface.errors import InvalidValue, ModelNotFound, StorageError
from probface.gallery.admission import require_model, require_templates
from probface.gallery.gallery import Gallery
from probface.gallery.place import SERVERS, checked_place
from probface.gallery.records import Estimator, GallerySettings, ModelBinding, NewReferences, Templates
from probface.models.registry import ResolvedModel, list_models
from probface.pipeline.gallery_undo import remove_if_untouched
from probface.pipeline.recogniser import Recogniser

GalleryPlace: TypeAlias = str | os.PathLike[str] | Gallery
"""A path, ``postgresql://...``, or an open gallery, which its owner closes."""

ModelChoice: TypeAlias = str | os.PathLike[str] | Recogniser | None
"""A name, an .onnx file or a training folder; a recogniser to use again; None for the gallery's own model."""

FINISHED_SECONDS = 1.0
"""How long another process may take to finish a gallery that it is making."""


def model_binding(model: Recogniser | ResolvedModel) -> ModelBinding:
    """What a gallery remembers of a model.

    Raises:
        InvalidValue: a model without digest, put together by hand: nothing would tell it from another one.
    """
    digest = model.encoder.digest if isinstance(model, Recogniser) else model.digest
    contract: ModelContract = model.contract
    if not digest:
        raise InvalidValue(f"model {contract.name!r}: has no digest; save it to a file, and give that")
    return ModelBinding(contract.name, digest, contract.dim, contract.sigma_sq_width, contract)


@contextmanager
def opened(place: GalleryPlace, *, read_only: bool = False) -> Iterator[Gallery]:
    """The gallery, closed afterwards if it was opened here; raises as :meth:`Gallery.open`."""
    if isinstance(place, Gallery):
        yield place
        return
    with Gallery.open(checked_place(place), read_only=read_only) as gallery:
        yield gallery


@contextmanager
def opened_to_search(place: GalleryPlace) -> Iterator[Gallery]:
    """As :func:`opened`, to write where that is allowed: the index that a search derives is kept for the next one."""
    place = place if isinstance(place, Gallery) else checked_place(place)
    file = None if isinstance(place, Gallery) or _on_a_server(place) else Path(place)
    with opened(place, read_only=file is not None and not _writable(file)) as gallery:
        yield gallery


@contextmanager
def opened_if_there(place: GalleryPlace) -> Iterator[Gallery | None]:
    """The gallery, or None where there is none yet.

    Of a server nobody knows cheaply whether a gallery or the server itself is missing; whoever goes on to create the
    gallery is told.
    """
    if isinstance(place, Gallery):
        yield place
        return
    place = checked_place(place)
    try:
        gallery = Gallery.open(place)
    except StorageError:
        if not _on_a_server(place) and os.path.lexists(place):
            raise
        yield None
        return
    with gallery:
        yield gallery


@contextmanager
def created_if_new(
    place: GalleryPlace, gallery: Gallery | None, settings: Callable[[Gallery | None], GallerySettings]
) -> Iterator[tuple[Gallery, bool]]:
    """The gallery itself, or a new one at ``place``, closed afterwards; and whether it is new.

    Where another process has made one since, it is that one. Where the block fails, a new gallery file is removed again
    if it still is empty; in a server it stays.

    Args:
        place: where to make it.
        gallery: the one that is there, or None.
        settings: gives those of a new gallery (of None), and refuses a gallery that was made otherwise.

    Raises:
        InvalidValue: another process has made one of another model, or otherwise.
        StorageError: as :meth:`Gallery.create`.
    """
    if gallery is not None:
        yield gallery, False
        return
    if isinstance(place, Gallery):  # an open gallery is never None
        raise InvalidValue("gallery: give a path or an address, or the open gallery alone")
    place, wanted = checked_place(place), settings(None)
    try:
        made = Gallery.create(place, wanted)
    except StorageError as error:
        with _made_meanwhile(place, error) as other:
            check_model(other, wanted.model)
            settings(other)
            yield other, False
        return
    try:
        with made:
            yield made, True
    except BaseException:
        if not _on_a_server(place):
            remove_if_untouched(place)
        raise


def _made_meanwhile(place: str | os.PathLike[str], error: StorageError) -> Gallery:
    """The gallery that another process has made; if there is none, the error of having tried to make one."""
    end = time.monotonic() + FINISHED_SECONDS
    while _on_a_server(place) or os.path.lexists(place):
        try:
            return Gallery.open(place)
        except StorageError:
            if time.monotonic() > end:
                break
            time.sleep(0.05)
    raise error


def settings_for(
    gallery: Gallery | None,
    model: ModelBinding,
    *,
    templates: Templates | None,
    estimator: Estimator | None,
    keep_images: bool | None = None,
) -> GallerySettings:
    """The settings of a gallery that is there, or of one to be made.

    Args:
        gallery: the one that is there.
        model: of the embeddings.
        templates: what was asked for; None for what the gallery has, or the default.
        estimator: likewise.
        keep_images: likewise.

    Raises:
        InvalidValue: the gallery was made otherwise.
    """
    asked = {"templates": templates, "estimator": estimator, "keep_images": keep_images}
    if gallery is None:
        given = {name: value for name, value in asked.items() if value is not None}
        return GallerySettings(model, **given)  # type: ignore[arg-type]
    for name, value in asked.items():
        there = getattr(gallery.settings, name)
        if value is not None and value != there:
            raise InvalidValue(
                f"{name} {value!r}: gallery {gallery.store.location} was made with {there!r}, which stays; leave it "
                "out, or make another gallery"
            )
    return gallery.settings


def require_enrollable(references: NewReferences, settings: GallerySettings) -> None:
    """Refuse what a gallery of these settings will not take, before one is made for it.

    Raises:
        InvalidValue: widths that are not the model's, or references of one identity that cancel out.
    """
    require_model("gallery", settings.model, settings.model, references.embeddings)
    if settings.templates == "fused":
        require_templates(references, settings.estimator)


def recogniser_for(
    gallery: Gallery | None,
    model: ModelChoice,
    *,
    aligned: bool = False,
    provider: str = "cpu",
    threads: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Recogniser:
    """The recogniser whose embeddings go into the gallery.

    Args:
        gallery: the one that is there, or None for one to be made.
        model: as :data:`ModelChoice`; None for the gallery's own by its name, or the default model for a new gallery.
        aligned: as :class:`Recogniser`; this and what follows is without effect where one is given.
        provider: likewise.
        threads: likewise.
        max_pixels: likewise.

    Raises:
        InvalidValue: the model is not the gallery's.
        ModelNotFound: the gallery's own model is not known by name.
    """
    if not isinstance(model, Recogniser):
        chosen = _own_model(gallery) if model is None else model
        model = Recogniser(chosen, aligned=aligned, provider=provider, threads=threads, max_pixels=max_pixels)
    if gallery is not None:
        check_model(gallery, model_binding(model))
    return model


def check_model(gallery: Gallery, model: ModelBinding) -> None:
    """Refuse a model that is not the gallery's, before work is done with it."""
    ours = gallery.settings.model
    if model.digest != ours.digest:
        raise InvalidValue(
            f"model {model.name!r} ({model.digest[:12]}): gallery {gallery.store.location} holds embeddings of model "
            f"{ours.name!r} ({ours.digest[:12]}), which cannot be compared with its own; give that model, or migrate "
            "the gallery"
        )


def _own_model(gallery: Gallery | None) -> str:
    if gallery is None:
        return DEFAULT_MODEL
    ours, location = gallery.settings.model, gallery.store.location
    if ours.contract is None:
        raise ModelNotFound(
            f"gallery {location}: its model {ours.name!r} was declared when embeddings were imported, and cannot embed "
            "images; import them with the model at hand, or migrate the gallery"
        )
    if ours.name not in {record.name for record in list_models()}:
        raise ModelNotFound(
            f"gallery {location}: its model {ours.name!r} ({ours.digest[:12]}) is not known by name; give its file or "
            "training folder: --model FILE"
        )
    return ours.name


def _on_a_server(place: str | os.PathLike[str]) -> bool:
    return os.fspath(place).startswith(SERVERS)


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)
