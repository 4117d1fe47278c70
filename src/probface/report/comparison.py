"""The page of one comparison: the verdict, the faces, how sure each is, and what the threshold means.

One self-contained HTML file: no script, no outside address. The same comparison always gives the same page.
"""

from __future__ import annotations

import base64
from html import escape
from importlib import resources
from pathlib import Path

from probface import __version__
from probface.contract import ModelContract, ScoreHistogram, Threshold
from probface.face.image import encode_png
from probface.report.drawing import clouds, distributions
from probface.storage import write_bytes
from probface.types import EmbeddedFace, Verification

METRIC_NAMES = {"fastmls": "FastMLS", "mls": "MLS", "cosine": "cosine"}


def comparison_page(verification: Verification, contract: ModelContract, *, command: str | None = None) -> str:
    """Tell one comparison as a page.

    Args:
        verification: the comparison.
        contract: of the model that made it.
        command: the command line that was run, for the record.

    Returns:
        A whole HTML document.
    """
    threshold = contract.threshold(verification.metric, verification.fmr)
    style = resources.files("probface.report").joinpath("style.css").read_text(encoding="utf-8")
    sections = (
        _verdict(verification, threshold, contract),
        _faces(verification),
        _score(verification, contract),
        _certainty(verification),
        _thresholds(verification, contract),
        _reading(),
        _provenance(verification, contract, command),
    )
    title = "Match" if verification.match else "No match"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} - ProbFace</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def write_page(text: str, path: Path) -> None:
    """Write a page whole or not at all; raises StorageError."""
    write_bytes(path, text.encode())


def _verdict(answer: Verification, threshold: Threshold, contract: ModelContract) -> str:
    word = "Match" if answer.match else "No match"
    side = "above" if answer.match else "not above"
    data = contract.data.get(threshold.data, threshold.data)
    return (
        f'<header class="verdict {"yes" if answer.match else "no"}"><h1>{word}</h1>'
        f"<p>The {METRIC_NAMES[answer.metric]} score {answer.score:.3f} is {side} the threshold "
        f"{answer.threshold:.3f}.</p>"
        f'<p class="soft">At this threshold about 1 in {1 / threshold.fmr:,.0f} comparisons of different people was '
        f"called a match (FMR {threshold.fmr:g}: {threshold.false_matches:,} of {threshold.impostor_pairs:,}; "
        f"95 % upper bound {threshold.fmr_upper:.3g}). Measured on {escape(data)}.</p></header>"
    )


def _faces(answer: Verification) -> str:
    faces = "".join(_face(face, name) for face, name in zip(answer.faces, ("First", "Second"), strict=True))
    return f'<section class="card"><h2>The two faces</h2><div class="faces">{faces}</div></section>'


def _face(face: EmbeddedFace, name: str) -> str:
    png = base64.b64encode(encode_png(face.crop)).decode("ascii")
    rows = [("&sigma;&sup2;", f"{face.sigma_sq:.4f}")]
    if face.face is not None:
        width, height = face.face.box[2:]
        rows += [
            ("Face", f"{width:.0f} x {height:.0f} px"),
            ("Detector", f"{face.face.detector_score:.3f}"),
        ]
    facts = "".join(f"<dt>{term}</dt><dd>{value}</dd>" for term, value in rows)
    warnings = "".join(f'<p class="warning"><b>Mind:</b> {escape(text)}</p>' for text in face.warnings)
    return (
        f'<div class="face"><img alt="{name} face, aligned" src="data:image/png;base64,{png}" width="112" height="112">'
        f"<div><strong>{escape(face.source)}</strong><span>Quality {face.quality} of 100</span>"
        f'<meter min="0" max="100" low="30" high="60" optimum="100" value="{face.quality}" '
        f'aria-label="quality {face.quality} of 100"></meter><dl>{facts}</dl>{warnings}</div></div>'
    )


def _score(answer: Verification, contract: ModelContract) -> str:
    histogram = next((entry for entry in contract.histograms if entry.metric == answer.metric), None)
    if histogram is None:
        drawing = "<p>The model carries no score distributions, so there is nothing to set this score against.</p>"
    else:
        drawing = _distribution_figure(histogram, answer)
    return f'<section class="card"><h2>The score, against others</h2>{drawing}</section>'


def _distribution_figure(histogram: ScoreHistogram, answer: Verification) -> str:
    return (
        f"<figure>{distributions(histogram, answer.score, answer.threshold)}"
        "<figcaption>Solid, right: scores of two images of one person. Dashed, left: of two different people. Each "
        f"curve is drawn to its own height; their data: {escape(histogram.data)}.</figcaption></figure>"
    )


def _certainty(answer: Verification) -> str:
    drawing = clouds([face.sigma_sq for face in answer.faces], answer.cosine)
    return (
        f'<section class="card"><h2>How sure each face is</h2><figure>{drawing}<figcaption>A face is not a point but a '
        "cloud. The dots are where the network places the two faces, the clouds how far it may be off: a blurry face "
        "makes a large cloud. Near dots with small clouds speak for one person; large clouds say that the images do "
        "not tell.</figcaption></figure></section>"
    )


def _thresholds(answer: Verification, contract: ModelContract) -> str:
    rows = "".join(
        f"<tr{' class=asked' if entry.fmr == answer.fmr else ''}><td>{entry.fmr:g}</td><td>{entry.threshold:.4f}</td>"
        f"<td>{entry.fmr_upper:.3g}</td><td>{'match' if answer.score > entry.threshold else 'no match'}</td></tr>"
        for entry in sorted(contract.thresholds, key=lambda entry: -entry.fmr)
        if entry.metric == answer.metric
    )
    return (
        f'<section class="card"><h2>Stricter or laxer</h2><div class="table"><table><thead><tr><th>FMR</th>'
        f"<th>{METRIC_NAMES[answer.metric]} threshold</th><th>95 % upper bound</th><th>this pair</th></tr></thead>"
        f'<tbody>{rows}</tbody></table></div><p class="soft">Score {answer.score:.4f}; cosine of the two means '
        f"{answer.cosine:.4f}. The bold row decided.</p></section>"
    )


def _reading() -> str:
    return (
        '<section class="card"><h2>How to read this</h2><p>A match says that the two images resemble each other more '
        "than images of different people usually do. It is not proof of identity: look for yourself, and weigh what "
        "else is known. Rates were measured on other people than yours, and they differ between groups of people. "
        "Nothing here tells a live person from a photograph of one.</p><p>Compare faces only with the consent of the "
        "people and where the law allows it.</p></section>"
    )


def _provenance(answer: Verification, contract: ModelContract, command: str | None) -> str:
    rows = [
        ("Model", escape(contract.name)),
        ("Backbone", f"<code>{escape(contract.backbone_digest)}</code> ({escape(contract.backbone_licence)})"),
        ("Head", f"{escape(contract.head_licence)}; trained on {escape(contract.trained_on or 'unknown data')}"),
        ("Images", escape(" and ".join(face.source for face in answer.faces))),
        ("ProbFace", escape(__version__)),
    ]
    if command is not None:
        rows.append(("Command", f"<code>{escape(command)}</code>"))
    facts = "".join(f"<dt>{term}</dt><dd>{value}</dd>" for term, value in rows)
    return f'<footer class="card"><h2>Where this comes from</h2><dl>{facts}</dl></footer>'
