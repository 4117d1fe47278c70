"""The threshold of open-set identification: above it the best candidate is named, below it nobody.

FPIR, the false-positive identification rate, is the share of probes of people who are not enrolled that get a name
(ISO/IEC 19795-1). It grows with the gallery, so the threshold must be of the gallery's size, and comes from one of two
measurements:

- The model's verification thresholds: a name is given only where a single reference of the candidate is above one, and
  with R references enrolled FPIR <= R * FMR, the union bound. It holds however the references depend on each other, and
  needs the FMR to have been measured at FPIR / R. The FMR is that of single images with single images, so it says
  nothing of fused templates, whose scores spread wider: these choose the candidate, its references decide.
- The gallery itself: the template of an identity, searched among all others, is a probe of somebody who is not there.

What neither reaches is refused: nothing is extrapolated.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from probface.contract import ModelContract, Threshold
from probface.errors import InsufficientData, InvalidValue
from probface.gallery.records import GallerySettings
from probface.gallery.searched import Scores, Searched
from probface.score.calibration import EXPECTED_FALSE_MATCHES, measurable, rounded_up, threshold_at, trials_needed
from probface.types import Embeddings, Metric

MOST_SAMPLED = 10_000
"""Identities that a rate is measured with, where it does not need more."""
SEED = 0
"""Of where the sample begins."""
LOWEST_RATE = 1e-9
"""Of FPIR: no gallery has the ten thousand million people that it would need."""
RATE_TOLERANCE = 1e-9
"""Relative: rates are decimal fractions, and FPIR / R is rounded."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Name the best candidate where its score is above the threshold.

    Attributes:
        threshold: of the metric asked for.
        basis: what it was measured on, in one sentence.
        of_references: the score that must be above it is that of the candidate's best single reference.
    """

    threshold: float
    basis: str
    of_references: bool = False


class OpenSet:
    """The rules of one gallery, each found once a generation. Safe to share between threads."""

    def __init__(self) -> None:
        self._measuring = threading.Lock()
        self._of: tuple[int, str] | None = None
        self._rules: dict[tuple[Metric, float, tuple[Threshold, ...]], Rule] = {}

    def rule(
        self,
        searched: Searched,
        settings: GallerySettings,
        metric: Metric,
        fpir: float,
        references: Callable[[], int],
        *,
        contract: ModelContract | None = None,
        threads: int = 0,
    ) -> Rule:
        """The rule for a gallery as it is; ``references`` counts what is enrolled.

        The thresholds are those of ``contract``, what the model that asks says of itself, and else of the contract that
        the gallery was made with: a model that was calibrated since then decides by its new ones.

        Raises:
            InvalidValue: a rate outside (0, 1).
            InsufficientData: it cannot be had here; the message says which can.
        """
        check_fpir(fpir)
        if not searched.people:
            return Rule(math.inf, "the gallery is empty")
        with self._measuring:
            if self._of != (searched.generation, searched.model) or searched.generation < 0:
                self._of, self._rules = (searched.generation, searched.model), {}
            says = contract or settings.model.contract
            asked = metric, fpir, () if says is None else says.thresholds
            if asked not in self._rules:
                self._rules[asked] = _found(searched, says, metric, fpir, references, threads)
            return self._rules[asked]


def _found(
    searched: Searched,
    contract: ModelContract | None,
    metric: Metric,
    fpir: float,
    references: Callable[[], int],
    threads: int,
) -> Rule:
    """The model's threshold where it reaches, or what the gallery itself shows."""
    bound = bounded(contract, searched.rows, references, metric, fpir)
    if bound is not None:
        return bound
    require_people(contract, searched, metric, fpir)
    return measured(searched, metric, fpir, threads=threads)


def check_fpir(fpir: float) -> None:
    """Raises InvalidValue for a rate that is none, or that nobody can measure."""
    if not LOWEST_RATE <= fpir < 1:
        raise InvalidValue(f"FPIR {fpir:g}: must be at least {LOWEST_RATE:g} and below 1")


def bounded(
    contract: ModelContract | None, rows: int, references: Callable[[], int], metric: Metric, fpir: float
) -> Rule | None:
    """The lowest threshold of the model whose FMR, times the references, is at most the FPIR; None where there is none.

    Args:
        contract: of the model.
        rows: searched: no more than there are references, which are counted only where that may help.
        references: counts them.
        metric: of the search.
        fpir: in (0, 1).
    """
    entries = [entry for entry in contract.thresholds if entry.metric == metric] if contract is not None else []
    lowest = min((entry.fmr for entry in entries), default=math.inf)
    if contract is None or lowest * rows > fpir * (1 + RATE_TOLERANCE):
        return None
    count = max(1, references())
    most = fpir / count * (1 + RATE_TOLERANCE)
    entry = min((entry for entry in entries if entry.fmr <= most), key=lambda entry: entry.threshold, default=None)
    if entry is None:
        return None
    return Rule(
        entry.threshold,
        f"{count} reference{'s' if count > 1 else ''} times the false-match rate {entry.fmr:g} of model "
        f"{contract.name!r} is at most {fpir:g}; that rate was measured between single images "
        f"({entry.false_matches} of {entry.impostor_pairs} impostor pairs of {entry.data} above the threshold; with "
        f"95 % confidence it is at most {entry.fmr_upper:.3g} there), so the candidate's best single reference must be "
        "above it",
        of_references=count != rows,  # where they are as many, each template is one reference
    )


def require_people(contract: ModelContract | None, searched: Searched, metric: Metric, fpir: float) -> None:
    """Refuse a rate that the gallery is too small to measure.

    Raises:
        InsufficientData: fewer than 10 / FPIR identities; the message says what can be had.
    """
    people = searched.people
    if measurable(people, fpir):
        return
    needed = trials_needed(fpir)
    rates = [entry.fmr for entry in contract.thresholds if entry.metric == metric] if contract is not None else []
    lowest = min([EXPECTED_FALSE_MATCHES / people, *(rate * searched.rows for rate in rates)])
    known = f"has {metric} thresholds down to FMR {min(rates):g}" if rates else f"has no {metric} thresholds"
    name = f"model {contract.name!r}" if contract is not None else "its model"
    lowest = rounded_up(lowest)
    ask = f"ask for {lowest:g} or above, or enrol more people" if lowest < 1 else "enrol more people"
    raise InsufficientData(
        f"FPIR {fpir:g}: needs FMR {fpir / searched.rows:.2g} and {name} {known}, or at least {needed} identities to "
        f"measure it and the gallery has {people}; {ask}"
    )


def measured(searched: Searched, metric: Metric, fpir: float, *, threads: int = 0) -> Rule:
    """The threshold that this share of the gallery's own people, searched among all others, is above.

    Args:
        searched: 10 / FPIR identities or more.
        metric: of the search.
        fpir: in (0, 1).
        threads: 0 for all cores.
    """
    probes, own = sample(searched, max(int(trials_needed(fpir)), MOST_SAMPLED))
    scores, identities = searched.best(probes, 2, metric, threads)
    others: Scores = np.where(identities[:, 0] == own, scores[:, 1], scores[:, 0])
    kind = "template" if searched.templates == "fused" else "first reference"
    return Rule(
        threshold_at(others, fpir),
        f"measured on this gallery: the {kind} of each of {len(own)} of {searched.people} identities, searched among "
        "all others; enrolled images are usually better than probes, and one person under two names raises the "
        "threshold",
    )


def sample(searched: Searched, most: int) -> tuple[Embeddings, Scores]:
    """One row each of up to so many identities, evenly spaced, and their ids."""
    rows = [part.first_rows() for part in searched.parts]
    people = sum(map(len, rows))
    size = min(most, people)
    offset = np.random.default_rng(SEED).random()
    chosen = np.floor((np.arange(size) + offset) * people / size).astype(np.int64)
    probes, own, before = [], [], 0
    for part, first in zip(searched.parts, rows, strict=True):
        here = first[chosen[(chosen >= before) & (chosen < before + len(first))] - before]
        before += len(first)
        held = part.index.references
        probes.append(Embeddings(held.mu[here], held.sigma_sq[here]))
        own.append(part.identities[here])
    return Embeddings.concatenate(probes), np.concatenate(own)
