"""What every engine refuses, in the same words."""

from __future__ import annotations

from collections.abc import Container, Sequence

from probface.errors import InvalidValue
from probface.gallery.records import ModelBinding
from probface.types import Embeddings


def check_widths(embeddings: Embeddings, model: ModelBinding) -> None:
    """Whether the model can have made these.

    Raises:
        InvalidValue: D or the width of sigma_sq is another.
    """
    widths = (embeddings.dim, embeddings.sigma_sq.shape[1])
    if widths != (model.dim, model.sigma_sq_width):
        raise InvalidValue(
            f"embeddings of D = {widths[0]}, sigma_sq width {widths[1]}: model {model.name!r} gives {model.dim} and "
            f"{model.sigma_sq_width}; use embeddings of that model"
        )


def check_all_there(names: Sequence[str], known: Container[str]) -> None:
    """Whether all of these may be deleted.

    Raises:
        InvalidValue: some are not known.
    """
    absent = [name for name in names if name not in known]
    if absent:
        raise InvalidValue(
            f"identity {absent[0]!r}{f' and {len(absent) - 1} more' if len(absent) > 1 else ''}: not in the gallery, "
            "so nothing was deleted; ask for its names"
        )


def unknown(name: str) -> InvalidValue:
    """The error for an identity that is asked for, and not there."""
    return InvalidValue(f"identity {name!r}: is not in the gallery; ask for its names")


def how_many(references: int, done: str) -> str:
    """What was done to references, as a sentence begins."""
    return f"1 reference is {done}" if references == 1 else f"{references} references are {done}"
