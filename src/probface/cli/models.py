"""``probface models``: what is there, and what each says of itself."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from probface.cli.options import Json
from probface.cli.output import print_json, printable

app = typer.Typer(help="List and describe models.", rich_markup_mode=None)


@app.command("list")
def list_command(as_json: Json = False) -> int:
    """Name the models, and say whether their weights are here.

    Example: probface models list
    """
    from probface.errors import ModelError
    from probface.models.registry import list_models
    from probface.models.weights import find_weights

    document = []
    for record in list_models():
        try:
            weights: str | None = str(find_weights(record))
        except ModelError:
            weights = None
        document.append({"name": record.name, "kind": record.kind, "licence": record.licence, "weights": weights})
    if as_json:
        print_json(document)
    else:
        for entry in document:
            print(f"{entry['name']:10s} {entry['kind']:12s} {entry['licence']:12s} {entry['weights'] or 'not found'}")
    return 0


@app.command("show")
def show_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name, an .onnx file, or a training folder.")],
    as_json: Json = False,
) -> int:
    """Show a model's card, or the contract inside a file: input, thresholds, licences, training people.

    Example: probface models show sface
    """
    from probface.models.registry import list_models, resolve_model, show_model

    names = [record.name for record in list_models()]
    if model in names:
        shown = show_model(model)
        if as_json:
            print_json(dataclasses.asdict(shown.record) | {"card": shown.card})
        else:
            print(shown.card)
        return 0
    contract = resolve_model(model).contract
    if as_json:
        print(contract.to_json())
        return 0
    print(f"{printable(contract.name)}: mu of {contract.dim}, sigma_sq of {contract.sigma_sq_width}")
    print(
        f"  input {contract.input.height} x {contract.input.width} {contract.input.channels}, {contract.input.template}"
    )
    print(printable(f"  licences: backbone {contract.backbone_licence}, head {contract.head_licence}"))
    print(printable(f"  trained on {contract.trained_on or 'unknown data'}"))
    named = len(contract.training_people)
    print(f"  training people named by digest: {named}" if named else "  training people: not named in the file")
    for entry in contract.thresholds:
        print(f"  {entry.metric:8s} FMR {entry.fmr:g}: threshold {entry.threshold:.4f}, on {printable(entry.data)}")
    return 0
