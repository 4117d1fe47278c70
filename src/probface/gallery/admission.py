"""What a gallery takes in and what it is asked: refused where it does not go with what is enrolled."""

from __future__ import annotations

import numpy as np

from probface.errors import InvalidValue
from probface.gallery.engines.refusals import check_widths
from probface.gallery.fusion import fuse_groups
from probface.gallery.records import Estimator, ModelBinding, NewReferences
from probface.gallery.template_rows import first_cancelling
from probface.types import METRICS, Embeddings, Metric


def require_model(location: str, ours: ModelBinding, model: ModelBinding, embeddings: Embeddings) -> None:
    """Refuse embeddings of another model than the gallery's, by name.

    Raises:
        InvalidValue: another digest, or widths that are not the model's.
    """
    if model.digest != ours.digest:
        raise InvalidValue(
            f"{location}: holds embeddings of model {ours.name!r} ({ours.digest[:12]}), these are of {model.name!r} "
            f"({model.digest[:12]}) and cannot be compared; use that model, or migrate the gallery to this one"
        )
    check_widths(embeddings, ours)


def require_question(ours: ModelBinding, top: int, metric: Metric) -> None:
    """Refuse what no search can answer; with nobody enrolled, too.

    Raises:
        InvalidValue: no candidate is asked for, an unknown metric, or FastMLS of D variances.
    """
    if top < 1:
        raise InvalidValue(f"top {top}: must be 1 or more")
    if metric not in METRICS:
        raise InvalidValue(f"metric {metric!r}: must be one of {', '.join(METRICS)}")
    if metric == "fastmls" and ours.sigma_sq_width > 1:
        raise InvalidValue("FastMLS of D variances: takes one variance a face; search with mls")


def require_templates(references: NewReferences, estimator: Estimator) -> None:
    """Refuse references of one identity that cannot be fused: with them no search of the gallery could be derived.

    Raises:
        InvalidValue: they cancel out; the identity is named.
    """
    if len(set(references.names)) == len(references):
        return
    numbers = {name: number for number, name in enumerate(dict.fromkeys(references.names))}
    whose = np.array([numbers[name] for name in references.names])
    order = np.argsort(whose, kind="stable")
    starts = np.flatnonzero(np.diff(whose[order], prepend=-1))
    mu, sigma_sq = references.embeddings.mu[order], references.embeddings.sigma_sq[order]
    try:
        fuse_groups(mu, sigma_sq, starts, estimator)
    except InvalidValue as error:
        group = first_cancelling(mu, sigma_sq, starts, estimator)
        if group is None:
            raise
        raise InvalidValue(
            f"identity {list(numbers)[group]!r}: its references cancel out to a mean of length 0, they cannot show one "
            "person; enrol them apart"
        ) from error
