"""The page of one comparison: the verdict, the faces, how sure each is, and what the threshold means.

One self-contained HTML file: no script, no outside address. The same comparison always gives the same page.
"""

from __future__ import annotations

import math

import numpy as np

from probface import __version__
from probface.contract import ModelContract, ScoreHistogram, Threshold
from probface.report.drawing import distributions, swatch
from probface.report.faces import certainty, face_cards, poor_images
from probface.report.page import document, write_page
from probface.report.wording import METRIC_NAMES, facts, one_in, percent, shown
from probface.types import Verification

__all__ = ["comparison_page", "write_page"]


def comparison_page(
    verification: Verification, contract: ModelContract, *, version: str = __version__, command: str | None = None
) -> str:
    """Tell one comparison as a page.

    Args:
        verification: the comparison.
        contract: of the model that made it. What it lacks (thresholds, histograms, a scale of quality) is said to be
            unknown.
        version: of ProbFace, for the record.
        command: the command line that was run, for the record.

    Returns:
        A whole HTML document; any text in it can be encoded as UTF-8.
    """
    sections = (
        _verdict(verification, contract),
        face_cards(verification, contract.quality is not None),
        _score(verification, contract),
        certainty(verification),
        _thresholds(verification, contract),
        _reading(),
        _provenance(verification, contract, version, command),
    )
    return document(f"{_word(verification)} - ProbFace", "\n".join(sections), styles=("style.css",))


def _word(answer: Verification) -> str:
    return "Match" if answer.match else "No match"


def _verdict(answer: Verification, contract: ModelContract) -> str:
    verb, side = ("are", "above") if answer.match else ("are not", "not above")
    poor = poor_images(answer, contract.quality is not None)
    subject = f"Image {poor[0]} tells" if len(poor) == 1 else f"Images {' and '.join(poor)} tell"
    advice = f"<p><strong>{subject} little:</strong> a better photo may change this answer.</p>" if poor else ""
    return (
        f'<header class="verdict {"yes" if answer.match else "no"}"><h1>{_word(answer)}</h1>'
        f"<p>The two faces {verb} alike enough to be called one person: their "
        f"{METRIC_NAMES[answer.metric]} score of {answer.score:.3f} is {side} the threshold of {answer.threshold:.3f}."
        f"</p>{advice}<p>{_meaning(answer, contract)}</p></header>"
    )


def _meaning(answer: Verification, contract: ModelContract) -> str:
    """What the threshold means, in the words of whoever measured it."""
    entry = _measured(answer, contract)
    if entry is None:
        return (
            "The model does not say what this threshold was measured on, so it is not known how often different "
            "people are called a match."
        )
    return (
        f"At this threshold, about 1 in {one_in(entry.fmr)} comparisons of different people was called a match "
        f"({entry.false_matches:,} of {entry.impostor_pairs:,}; 95 % upper bound: 1 in {one_in(entry.fmr_upper)}). "
        f"Measured on {_described(entry.data, contract)}."
    )


def _measured(answer: Verification, contract: ModelContract) -> Threshold | None:
    """The contract's entry that decided: of the same metric and rate, and with the very threshold."""
    for entry in contract.thresholds:
        same_rate = math.isclose(entry.fmr, answer.fmr, rel_tol=1e-9)
        if entry.metric == answer.metric and same_rate and math.isclose(entry.threshold, answer.threshold):
            return entry
    return None


def _described(data: str, contract: ModelContract) -> str:
    return shown(contract.data.get(data, data))


def _score(answer: Verification, contract: ModelContract) -> str:
    histogram = next((entry for entry in contract.histograms if entry.metric == answer.metric), None)
    if histogram is None:
        body = "<p>The model carries no score distributions, so there is nothing to set this score against.</p>"
    else:
        body = _distributions(histogram, answer, contract)
    return f'<section class="card" aria-labelledby="score"><h2 id="score">The score, among others</h2>{body}</section>'


def _distributions(histogram: ScoreHistogram, answer: Verification, contract: ModelContract) -> str:
    impostor = 1 - _share_below(histogram, histogram.impostor, answer.score)
    genuine = _share_below(histogram, histogram.genuine, answer.score)
    entry = _measured(answer, contract)
    same = entry is not None and entry.data == histogram.data
    measured = "the same comparisons as the threshold" if same else _described(histogram.data, contract)
    return (
        f"<p>Of the pairs of different people, {percent(impostor)} scored higher than this pair; of the pairs of one "
        f"person, {percent(genuine)} scored lower.</p>"
        f"<figure>{distributions(histogram, answer.score, answer.threshold)}<figcaption>"
        f'<p class="legend"><span>{swatch("impostor-line")} different people</span> '
        f"<span>{swatch('genuine-line')} one person</span> <span>{swatch('threshold')} threshold</span> "
        f"<span>{swatch('score')} this pair</span></p><p>The farther right, the more alike; right of the threshold a "
        f"pair is called a match. Each curve is drawn to its own height. Measured on {measured}.</p>"
        "</figcaption></figure>"
    )


def _share_below(histogram: ScoreHistogram, shares: tuple[float, ...], score: float) -> float:
    """The share of comparisons below the score, as if they were spread evenly within each bin."""
    return float(np.interp(score, histogram.edges, np.concatenate(([0.0], np.cumsum(shares)))))


def _thresholds(answer: Verification, contract: ModelContract) -> str:
    entries = [entry for entry in contract.thresholds if entry.metric == answer.metric]
    decided = _measured(answer, contract)
    rows = "".join(_row(entry, entry is decided, answer) for entry in sorted(entries, key=lambda entry: -entry.fmr))
    table = (
        '<div class="table"><table><thead><tr><th scope="col">False-match rate</th><th scope="col">1 in</th>'
        '<th scope="col">95 % bound 1 in</th><th scope="col">Threshold</th><th scope="col">This pair</th></tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="soft">A stricter row calls fewer strangers a match and misses '
        f"more pairs of one person. The row that decided is marked with &#9656;. The bound counts each comparison by "
        f"itself; since one face takes part in many, the true doubt is larger.</p>"
    )
    scores = [("Score", f"{answer.score:.4f}"), ("Threshold", f"{answer.threshold:.4f}")]
    if answer.metric != "cosine":
        scores.append(("Cosine of the two faces", f"{answer.cosine:.4f}"))
    none = "<p>The model carries no measured thresholds for this score.</p>"
    return (
        '<section class="card" aria-labelledby="rates"><h2 id="rates">Stricter or laxer</h2>'
        f"{facts(scores)}{table if entries else none}</section>"
    )


def _row(entry: Threshold, decided: bool, answer: Verification) -> str:
    mark = ' class="decided" aria-current="true"' if decided else ""
    outcome = "match" if answer.score > entry.threshold else "no match"
    return (
        f'<tr{mark}><th scope="row">{"&#9656; " if decided else ""}{entry.fmr:g}</th><td>{one_in(entry.fmr)}</td>'
        f"<td>{one_in(entry.fmr_upper)}</td><td>{entry.threshold:.4f}</td><td>{outcome}</td></tr>"
    )


def _reading() -> str:
    return (
        '<section class="card" aria-labelledby="reading"><h2 id="reading">How to read this</h2><ul>'
        "<li><strong>A match is not proof of identity.</strong> It says that the two images resemble each other more "
        "than images of different people usually do. Relatives and look-alikes match, too: look for yourself, and "
        "weigh what else is known.</li>"
        "<li><strong>Unsure is an answer.</strong> Low quality or a wide ring means that the image does not tell. Ask "
        "for a better one.</li>"
        "<li><strong>The rates are other people's.</strong> They were measured on other people than yours, and they "
        "differ between groups of people.</li>"
        "<li><strong>This is no liveness check.</strong> Nothing here tells a live person from a photograph, a screen "
        "or a mask.</li>"
        "<li><strong>Consent and law come first.</strong> Compare faces only with the consent of the people, where the "
        "law allows it. This page shows their faces: keep it no longer than you need it.</li></ul></section>"
    )


def _provenance(answer: Verification, contract: ModelContract, version: str, command: str | None) -> str:
    images = "<br>".join(f"<bdi>{shown(face.source)}</bdi>" for face in answer.faces)
    used = [entry.data for entry in contract.thresholds if entry.metric == answer.metric]
    used += [entry.data for entry in contract.histograms if entry.metric == answer.metric]
    data = "<br>".join(_described(name, contract) for name in dict.fromkeys(used))
    rows = [
        ("Images", images),
        ("Model", shown(contract.name)),
        ("Backbone", f"<code>{shown(contract.backbone_digest)}</code> (SHA-256)"),
        ("Licences", f"backbone {shown(contract.backbone_licence)}, head {shown(contract.head_licence)}"),
        ("Trained on", shown(contract.trained_on) or "unknown data"),
        ("Measured on", data or "nothing that the model tells of"),
        ("ProbFace", shown(version)),
    ]
    if command is not None:
        rows.append(("Command", f"<code>{shown(command)}</code>"))
    return (
        '<footer class="card" aria-labelledby="origin"><h2 id="origin">Where this comes from</h2>'
        f"{facts(rows)}</footer>"
    )
