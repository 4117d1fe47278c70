"""From what a protocol found to results: the summary, the notes that always apply, where it all comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from probface import __version__
from probface.eval.results import LadderFace, MeasuredThreshold, Provenance, Results, Section, System, WorstError
from probface.pipeline.evaluation.judged import Judged
from probface.pipeline.evaluation.request import EvaluationRequest
from probface.pipeline.evaluation.summary import summary

SHOWN_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Findings:
    """What a protocol found; the parts of :class:`probface.eval.results.Results`."""

    sections: tuple[Section, ...]
    systems: tuple[System, ...]
    thresholds: tuple[MeasuredThreshold, ...] = ()
    ladder: tuple[LadderFace, ...] = ()
    errors: tuple[WorstError, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """What an evaluation is called.

    Attributes:
        protocol: at the command line.
        title: of the page.
        data: the data set, and how much of it.
    """

    protocol: str
    title: str
    data: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How many people and comparisons were judged."""

    subjects: int
    genuine: int
    impostor: int


def results_of(
    request: EvaluationRequest,
    findings: Findings,
    about: About,
    judged: Sequence[Judged],
    counts: Counts,
    *,
    lead: Iterable[str] = (),
) -> Results:
    """Put the results together.

    Args:
        request: what was asked.
        findings: what was found.
        about: the protocol and its data.
        judged: the models, the foremost first.
        counts: of the comparisons.
        lead: sentences that go before the summary's own.
    """
    provenance = Provenance(
        version=__version__,
        command=request.command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        data=about.data,
        data_digest=_digest(judged[0]),
        images=len(judged[0].table),
        failed=len(judged[0].failed),
        subjects=counts.subjects,
        genuine=counts.genuine,
        impostor=counts.impostor,
        resamples=request.judge.resamples,
        confidence=request.judge.confidence,
        seed=request.judge.seed,
    )
    return Results(
        protocol=about.protocol,
        title=about.title,
        summary=(*lead, *summary(findings.systems, findings.sections)),
        systems=findings.systems,
        sections=findings.sections,
        provenance=provenance,
        thresholds=findings.thresholds,
        ladder=findings.ladder,
        errors=findings.errors,
        notes=(
            *findings.notes,
            *_untold(request, findings.systems, judged),
            *_failures(judged),
            *_export_notes(judged),
        ),
    )


def forced_notes(request: EvaluationRequest, judged: Iterable[Judged]) -> list[str]:
    """What a reader must know where people who trained a head were judged on purpose."""
    if not request.force:
        return []
    return [
        f"Forced: people who trained the head of {one.name} are judged, too; its figures are too good."
        for one in judged
        if one.contract is not None and one.contract.training_people
    ]


def _untold(request: EvaluationRequest, systems: Iterable[System], judged: Iterable[Judged]) -> list[str]:
    """What a reader must know of a score with sigma^2 where nobody can be left out, because nobody is named."""
    by_name = {one.name: one for one in judged}
    notes = []
    for system in systems:
        one = by_name[system.model]
        told = one.contract is not None and one.contract.training_people
        constant = one.export is None and request.sigma_sq is not None  # no head at all
        if system.metric != "cosine" and not told and not constant:
            what = "the model" if one.contract is not None else "the file of embeddings"
            notes.append(
                f"{system.label}: {what} does not tell who trained its head; the figures are fair only if that was "
                "nobody of the data set."
            )
    return notes


def _failures(judged: Sequence[Judged]) -> list[str]:
    notes = []
    for one in judged[:1]:
        if one.failed:
            names = ", ".join(failure.path for failure in one.failed[:SHOWN_FAILURES])
            more = f" and {len(one.failed) - SHOWN_FAILURES} more" if len(one.failed) > SHOWN_FAILURES else ""
            notes.append(
                f"{len(one.failed)} images gave no face and are left out with all their comparisons: {names}{more}."
            )
    return notes


def _export_notes(judged: Sequence[Judged]) -> list[str]:
    return [note for one in judged if one.export is not None for note in one.export.notes]


def _digest(one: Judged) -> str:
    digest = hashlib.sha256("\0".join(one.table.names).encode("utf-8", "surrogateescape"))
    digest.update(np.ascontiguousarray(one.table.embeddings.mu).tobytes())
    digest.update(np.ascontiguousarray(one.table.embeddings.sigma_sq).tobytes())
    return digest.hexdigest()
