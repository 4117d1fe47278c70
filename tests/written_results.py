"""What an evaluation writes, read back, and its figures found by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from probface.eval.results import Figure, Results
from probface.pipeline.evaluation.evaluate import Protocol, evaluate


def judged(protocol: Protocol, data: Path, out: Path, **options: Any) -> Results:
    """Evaluate; the two files hold what came back."""
    found = evaluate(protocol, data, out, **options)
    assert Results.from_json((out / "results.json").read_text()) == found
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")
    return found


def figure(results: Results, name: str, system: str, relation: str = "value", **at: float) -> Figure:
    """The one figure of this name at this operating point."""
    every = (one for section in results.sections for one in section.figures)
    (found,) = (one for one in every if (one.name, one.system, one.relation, one.at) == (name, system, relation, at))
    return found
