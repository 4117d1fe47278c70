"""What ``probface gallery`` shows of a gallery, an identity and a migration."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from probface.cli.output import print_json, printable, warn

if TYPE_CHECKING:
    from probface.gallery.gallery import Gallery
    from probface.pipeline.gallery_migration import MigrationResult


def counted(count: int, one: str, several: str = "") -> str:
    """A number with its noun."""
    return f"{count} {one if count == 1 else several or one + 's'}"


def show_gallery(gallery: Gallery, *, as_json: bool) -> None:
    """The model and the settings of a gallery, and how much it holds."""
    settings, counts, location = gallery.settings, gallery.counts(), gallery.store.location
    model = settings.model
    document = {
        "gallery": location,
        "identities": counts.identities,
        "references": counts.references,
        "model": {
            "name": model.name,
            "digest": model.digest,
            "dim": model.dim,
            "sigma_sq_width": model.sigma_sq_width,
            "declared": model.contract is None,
        },
        "templates": settings.templates,
        "estimator": settings.estimator,
        "keep_images": settings.keep_images,
    }
    if as_json:
        print_json(document)
        return
    identities = counted(counts.identities, "identity", "identities")
    print(f"{printable(location)}: {identities}, {counted(counts.references, 'reference')}")
    declared = ", declared at an import" if model.contract is None else ""
    made_by = f"{printable(model.name)} ({printable(model.digest[:12])}{declared})"
    print(f"  model {made_by}: mu of {model.dim}, sigma_sq of {model.sigma_sq_width}")
    estimator = f", variance by {settings.estimator}" if settings.templates == "fused" else ""
    print(f"  templates {settings.templates}{estimator}; images are {'' if settings.keep_images else 'not '}kept")


def show_identity(gallery: Gallery, name: str, *, as_json: bool) -> None:
    """The references of one identity."""
    references = gallery.store.references(name)
    if as_json:
        rows = [dataclasses.asdict(one) | {"enrolled": one.enrolled.isoformat()} for one in references]
        print_json({"gallery": gallery.store.location, "name": name, "references": rows})
        return
    print(f"{printable(name)}: {counted(len(references), 'reference')}")
    for one in references:
        quality = "unknown" if one.quality < 0 else f"{one.quality} of 100"
        kept = ", image kept" if one.image_kept else ""
        print(
            f"  {one.id:6d}  {one.enrolled:%Y-%m-%d %H:%M}  quality {quality}, sigma^2 {one.sigma_sq:.4f}{kept}  "
            f"{printable(one.source) or '(source unknown)'}"
        )


def show_migration(result: MigrationResult, *, as_json: bool) -> None:
    """How far a migration has come, and whose images are missing."""
    for one in result.missing:
        warn(f"{one.name}: {one.reason}")
    if as_json:
        print_json(dataclasses.asdict(result))
        return
    place, model = printable(result.gallery), printable(result.model)
    if result.finished:
        print(f"{place}: on model {model}, {counted(result.embedded, 'image')} embedded")
    else:
        people = counted(len({one.name for one in result.missing}), "identity", "identities")
        images = counted(len(result.missing), "image")
        print(f"{place}: stays on model {model}; {counted(result.embedded, 'image')} embedded")
        print(
            f"  missing: {images} of {people}; bring them back, or delete these identities, and run this again; or "
            "give it up with --abandon"
        )
