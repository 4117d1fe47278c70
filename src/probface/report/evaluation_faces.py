"""Faces of the evaluation page: from the surest to the least sure, and where the worst errors are."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image as Pillow

from probface.eval.results import ErrorKind, LadderFace, System, WorstError
from probface.report.evaluation_wording import SPACE, reading, signed
from probface.report.wording import facts, shown
from probface.types import Image

JPEG_QUALITY = 90

ABOUT: dict[ErrorKind, tuple[str, str]] = {
    "false match": ("Different people called a match", "The score is above the threshold, and the people differ."),
    "false non-match": ("One person not recognised", "The score is not above the threshold, and the person is one."),
}


@dataclass(frozen=True, slots=True)
class Faces:
    """What of the people may be shown.

    Attributes:
        pictures: gives the aligned face of an image by its name, None where there is none; None shows no faces.
        names: whether names are shown.
    """

    pictures: Callable[[str], Image | None] | None = None
    names: bool = True

    def picture(self, name: str, alternative: str) -> str:
        """The face as an image inside the page, or nothing where faces are not shown."""
        if self.pictures is None:
            return ""
        image = self.pictures(name)
        if image is None:
            return '<span class="missing">no picture</span>'
        height, width = image.shape[:2]
        return (
            f'<img alt="{alternative}" src="data:image/jpeg;base64,{_jpeg(image)}" width="{width}" height="{height}">'
        )

    def name(self, name: str) -> str:
        """The name, as HTML; it may break after a slash or a low line."""
        if not self.names:
            return "name hidden"
        return f"<bdi>{shown(name).replace('/', '/<wbr>').replace('_', '_<wbr>')}</bdi>"

    def privacy(self) -> str:
        """A sentence on what is not shown, as HTML; empty where everything is."""
        hidden = [*(["faces"] if self.pictures is None else []), *([] if self.names else ["names"])]
        return f"<p>For privacy, this page is made without {' and without '.join(hidden)}.</p>" if hidden else ""


def ladder(rungs: Sequence[LadderFace], faces: Faces) -> str:
    """Faces sorted by sigma^2, as the paper shows them."""
    if not rungs:
        return ""
    cards = "".join(_rung(rung, place + 1, faces) for place, rung in enumerate(sorted(rungs, key=_variance)))
    return (
        '<section class="card" aria-labelledby="ladder"><h2 id="ladder">From the surest face to the least sure</h2>'
        "<p>The network's own doubt, &sigma;&sup2;, sorts these faces; nobody told it which photos are good. The "
        "smaller it is, the surer the network is of what it saw. Sharp, frontal faces should come first, blurred, "
        f"dark or turned ones last.</p>{faces.privacy()}<ol class="
        f'"ladder{"" if faces.pictures else " words"}">{cards}</ol></section>'
    )


def worst_errors(errors: Sequence[WorstError], systems: Sequence[System], faces: Faces) -> str:
    """The comparisons decided wrongly by the widest margin, false matches and false non-matches apart."""
    if not errors:
        return ""
    parts = ""
    for kind, (title, text) in ABOUT.items():
        shares = [(system, [e for e in errors if (e.kind, e.system) == (kind, system.key)]) for system in systems]
        cards = [_cards(system, share, faces) for system, share in shares if share]
        if cards:
            parts += f'<h3>{title} <small class="soft">{kind}es</small></h3><p>{text}</p>{cards[0][1]}'
            parts += "".join(f"<details><summary>{summary}</summary>{body}</details>" for summary, body in cards[1:])
    return (
        '<section class="card" aria-labelledby="errors"><h2 id="errors">The worst errors</h2><p>Wrong by the widest '
        "margin, the widest first. Look here for labels that are wrong, twins, and photos that no one could tell "
        f"apart, before the figures are blamed on the network.</p>{faces.privacy()}{parts}</section>"
    )


def _variance(rung: LadderFace) -> float:
    return rung.sigma_sq


def _rung(rung: LadderFace, place: int, faces: Faces) -> str:
    quality = "" if rung.quality is None else f"<span>quality{SPACE}{rung.quality}</span>"
    return (
        f"<li>{faces.picture(rung.name, f'Face {place} of the ladder')}<strong>&sigma;&sup2;{SPACE}{rung.sigma_sq:.4f}"
        f'</strong>{quality}<span class="name">{faces.name(rung.name)}</span></li>'
    )


def _cards(system: System, errors: list[WorstError], faces: Faces) -> tuple[str, str]:
    """What the errors of one system are called where they are folded, and the errors."""
    cards = "".join(_error(error, system, faces) for error in errors)
    return f"{shown(system.label)}: {len(errors)}", f'<ul class="errors">{cards}</ul>'


def _error(error: WorstError, system: System, faces: Faces) -> str:
    sides = "".join(
        f'<div class="side">{faces.picture(name, f"Face {letter}")}{_doubt(sigma_sq)}'
        f'<span class="name">{faces.name(name)}</span></div>'
        for letter, name, sigma_sq in (("A", error.a, error.sigma_sq_a), ("B", error.b, error.sigma_sq_b))
    )
    rows = [
        ("System", shown(system.label)),
        ("Score", f"<strong>{signed(error.score, 3)}</strong>"),
        ("Threshold", f"{signed(error.threshold, 3)}, FMR{SPACE}{reading(error.fmr, percent=True)}"),
    ]
    if system.metric != "cosine":
        rows.append(("Cosine", signed(error.cosine, 3)))
    return f'<li class="error"><div class="pair">{sides}</div>{facts(rows)}</li>'


def _doubt(sigma_sq: float | None) -> str:
    """The variance of a face; of a person who trained the head none is shown."""
    if sigma_sq is None:
        return '<span class="soft">trained the head</span>'
    return f"<strong>&sigma;&sup2;{SPACE}{sigma_sq:.4f}</strong>"


def _jpeg(image: Image) -> str:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
