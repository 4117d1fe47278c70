"""``probface gallery``: what is in a gallery, and what is to be done with all of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from probface.cli.gallery_options import Estimator, GalleryPlace, Templates
from probface.cli.options import Aligned, Json, MaxPixels, Provider
from probface.cli.output import Bars, print_json, printable, progress_bar, warn
from probface.defaults import MAX_PIXELS

app = typer.Typer(help="List, show, delete, export, import, migrate, verify.", rich_markup_mode=None)


@app.command("list")
def list_command(
    gallery: GalleryPlace,
    after: Annotated[str, typer.Option("--after", help="Begin behind this name.")] = "",
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many.", min=1)] = None,
    as_json: Json = False,
) -> int:
    """Name the identities, in the order of their names.

    Example: probface gallery list --gallery staff.db
    """
    from probface.gallery.gallery import Gallery

    with Gallery.open(gallery, read_only=True) as opened:
        people = opened.store.identities(after=after, limit=limit)
        if as_json:
            listed = [
                {"name": one.name, "references": one.references, "enrolled": one.enrolled.isoformat()} for one in people
            ]
            print_json({"gallery": opened.store.location, "identities": listed})
            return 0
        for one in people:
            print(f"{one.references:4d}  {one.enrolled:%Y-%m-%d %H:%M}  {printable(one.name)}")
    return 0


@app.command("show")
def show_command(
    gallery: GalleryPlace,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="An identity.")] = None,
    as_json: Json = False,
) -> int:
    """Describe a gallery, or one identity with its references.

    Example: probface gallery show "Ann Lee" --gallery staff.db
    """
    from probface.cli.gallery_text import show_gallery, show_identity
    from probface.gallery.gallery import Gallery

    with Gallery.open(gallery, read_only=True) as opened:
        if name is None:
            show_gallery(opened, as_json=as_json)
        else:
            show_identity(opened, name, as_json=as_json)
    return 0


@app.command("delete")
def delete_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Identities; all of them go, or none.")],
    gallery: GalleryPlace,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> int:
    """Delete identities with their references and images, and wipe their bytes. Exit code 1: not deleted.

    Example: probface gallery delete "Ann Lee" --gallery staff.db --yes
    """
    from probface.cli.gallery_text import counted
    from probface.errors import InvalidValue
    from probface.gallery.gallery import Gallery

    names = list(dict.fromkeys(names))
    with Gallery.open(gallery) as opened:
        total = sum(len(opened.store.references(name)) for name in names)
        if not yes:
            if not sys.stdin.isatty():
                raise InvalidValue("delete: nobody is at a terminal to be asked; give --yes")
            people = f"{names[0]!r}" if len(names) == 1 else f"{len(names)} identities"
            rows = counted(total, "reference")
            if not _confirmed(f"Delete {people} with {rows} from {opened.store.location}?"):
                print("nothing was deleted", file=sys.stderr)
                return 1
        removed = opened.delete(names)
        if as_json:
            print_json({"gallery": opened.store.location, "deleted": names, "references": removed})
        else:
            print(f"deleted {printable(', '.join(names))}: {counted(removed, 'reference')}")
    return 0


def _confirmed(question: str) -> bool:
    """Ask at the terminal. On standard error, since standard output is for the answer of the verb."""
    print(f"{printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="FILE.npz or FILE.parquet.")],
    gallery: GalleryPlace,
    as_json: Json = False,
) -> int:
    """Write all references to one file: name, mu, sigma_sq, quality, source, source_digest, enrolled. No images.

    Example: probface gallery export staff.npz --gallery staff.db
    """
    from probface.cli.gallery_text import counted
    from probface.gallery.exchange import export_gallery
    from probface.gallery.gallery import Gallery

    with Gallery.open(gallery, read_only=True) as opened, progress_bar() as bar:
        show = Bars(bar)
        count = export_gallery(opened.store, out, progress=lambda done, total: show("exporting", done, total))
    if as_json:
        print_json({"out": str(out), "references": count})
    else:
        print(f"{counted(count, 'reference')} -> {printable(str(out))}")
    return 0


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="FILE.npz or FILE.parquet.")],
    gallery: GalleryPlace,
    sigma_sq: Annotated[
        float | None, typer.Option("--sigma-sq", help="The variance of every row, where the file has none.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="What made the embeddings: a name, .onnx file or training folder.")
    ] = None,
    model_name: Annotated[
        str | None, typer.Option("--model-name", help="What made them, where that model is not at hand: any name.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option("--names", help="CSV of path,name, for a file of 'probface embed'.")
    ] = None,
    templates: Templates = None,
    estimator: Estimator = None,
    as_json: Json = False,
) -> int:
    """Enrol all rows of a file, or none: an export, a file of 'probface embed', or another system's name and mu.

    Of 'probface embed', the folder that an image was in is the name, or what --names says. Vectors alone are scaled to
    length 1, and need --sigma-sq and --model or --model-name.

    Example: probface gallery import old.npz --gallery faces.db --sigma-sq 0.3 --model-name w600k_r50
    """
    from probface.cli.gallery_text import counted
    from probface.pipeline.gallery_import import import_gallery

    with progress_bar() as bar:
        bar.add_task("importing", total=None)
        result = import_gallery(
            file,
            gallery,
            sigma_sq=sigma_sq,
            model=model,
            model_name=model_name,
            names=names,
            templates=None if templates is None else templates.value,
            estimator=None if estimator is None else estimator.value,
        )
    if result.unconfirmed:
        warn(
            f"model {result.model!r} is not known here by that name and digest: the gallery's thresholds are {file}'s "
            "own word; use them if you trust who made it"
        )
    if as_json:
        print_json(
            {
                "gallery": result.gallery,
                "created": result.created,
                "references": result.references,
                "identities": result.identities,
                "model": result.model,
                "normalised": result.normalised,
                "unconfirmed": result.unconfirmed,
            }
        )
        return 0
    made = " (made)" if result.created else ""
    people = counted(result.identities, "identity", "identities")
    print(f"{counted(result.references, 'reference')} of {people} -> {printable(result.gallery)}{made}")
    scaled = f"; {counted(result.normalised, 'row')} scaled to length 1" if result.normalised else ""
    print(f"  of model {printable(result.model)}{scaled}")
    return 0


@app.command("migrate")
def migrate_command(
    gallery: GalleryPlace,
    model: Annotated[
        str | None, typer.Option("--model", help="The new one: a name, .onnx file or training folder.")
    ] = None,
    abandon: Annotated[bool, typer.Option("--abandon", help="Forget a migration that was begun.")] = False,
    aligned: Aligned = False,
    provider: Provider = "cpu",
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: Json = False,
) -> int:
    """Embed the images anew with another model; the gallery changes over when all are there.

    A run that was stopped goes on where it stopped. Exit code 1: images are missing, and the gallery stays as it was.

    Example: probface gallery migrate --model out/r50 --gallery staff.db
    """
    from probface.cli.gallery_text import show_migration
    from probface.errors import InvalidValue
    from probface.pipeline.gallery_migration import abandon_migration, migrate_gallery

    if abandon is (model is not None):
        raise InvalidValue("migrate: takes --model MODEL, or --abandon to forget what was begun; give one of them")
    if model is None:
        abandon_migration(gallery)
        if as_json:
            print_json({"abandoned": True})
        else:
            print("no migration is under way")
        return 0
    with progress_bar() as bar:
        show = Bars(bar)
        result = migrate_gallery(
            gallery,
            model,
            aligned=aligned,
            provider=provider,
            max_pixels=max_pixels,
            progress=lambda done, total: show("embedding", done, total),
        )
    show_migration(result, as_json=as_json)
    return 0 if result.finished else 1


@app.command("verify")
def verify_command(gallery: GalleryPlace, as_json: Json = False) -> int:
    """Check a gallery and its index. Exit code 0: sound, 1: not; each line says what is wrong.

    Example: probface gallery verify --gallery staff.db
    """
    from probface.gallery.gallery import Gallery

    with Gallery.open(gallery) as opened:
        wrong, location = opened.verify(), opened.store.location
    if as_json:
        print_json({"gallery": location, "sound": not wrong, "wrong": list(wrong)})
    elif wrong:
        for line in wrong:
            print(printable(line))
    else:
        print(f"{printable(location)}: sound")
    return 1 if wrong else 0
