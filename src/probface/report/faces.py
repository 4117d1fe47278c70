"""The two faces of the comparison page: what the network saw, and how sure it is."""

from __future__ import annotations

import base64
import math

from probface.face.image import encode_png
from probface.report.drawing import clouds, distance_of_cosine
from probface.report.wording import facts, shown
from probface.types import EmbeddedFace, Verification

LOW_QUALITY = 30
"""Below it the page advises a better image."""


def face_cards(answer: Verification, with_quality: bool) -> str:
    """Both faces side by side, called A and B.

    Args:
        answer: the comparison.
        with_quality: whether the model has a scale of quality.
    """
    cards = "".join(_card(face, name, with_quality) for face, name in zip(answer.faces, "AB", strict=True))
    return (
        '<section class="card" aria-labelledby="faces"><h2 id="faces">The two faces</h2>'
        f'<div class="faces">{cards}</div></section>'
    )


def poor_images(answer: Verification, with_quality: bool) -> list[str]:
    """The names, A or B, of the faces that say too little for a sure answer."""
    return [
        name
        for face, name in zip(answer.faces, "AB", strict=True)
        if face.warnings or (with_quality and face.quality < LOW_QUALITY)
    ]


def certainty(answer: Verification) -> str:
    """The two faces as clouds."""
    a, b = answer.faces
    role = (
        "This decision was made by the cosine, which looks at the dots alone."
        if answer.metric == "cosine"
        else "The score weighs the distance of the dots against both rings."
    )
    measures = [("Dots apart", f"{distance_of_cosine(answer.cosine):.3f}")]
    measures += [(f"Ring of {name}: &sigma;", f"{math.sqrt(face.sigma_sq):.3f}") for face, name in ((a, "A"), (b, "B"))]
    return (
        '<section class="card" aria-labelledby="certainty"><h2 id="certainty">How sure each face is</h2>'
        f'<figure class="beside">{clouds((a.sigma_sq, b.sigma_sq), answer.cosine)}<figcaption><p>Each dot is where the '
        "network places a face: two photos of one person come close together. No photo tells all, so the truth is "
        "somewhere around the dot, typically at the ring. A blurry, dark or tiny face gets a wide ring.</p>"
        "<p>Near dots with small rings speak for one person, distant dots with small rings for two. Wide rings say "
        f"that the photos do not tell. {role}</p>{facts(measures)}</figcaption></figure></section>"
    )


def _card(face: EmbeddedFace, name: str, with_quality: bool) -> str:
    png = base64.b64encode(encode_png(face.crop)).decode("ascii")
    height, width = face.crop.shape[:2]
    warnings = "".join(f'<p class="warning"><strong>Mind:</strong> {shown(text)}</p>' for text in face.warnings)
    return (
        f'<article class="face" aria-label="Face {name}"><img alt="Face {name}, cut out and aligned" '
        f'src="data:image/png;base64,{png}" width="{width}" height="{height}"><div><h3><span class="tag-'
        f'{name.lower()}">{name}</span> <bdi>{shown(face.source)}</bdi></h3>{_quality(face, with_quality)}'
        f"{facts(_measures(face))}{warnings}</div></article>"
    )


def _quality(face: EmbeddedFace, with_quality: bool) -> str:
    if not with_quality:
        return "<p>Quality: the model has no scale for it.</p>"
    return (
        f"<p>Quality <strong>{face.quality}</strong> of 100</p>"
        f'<meter min="0" max="100" low="{LOW_QUALITY}" high="60" optimum="100" value="{face.quality}" '
        f'aria-label="quality {face.quality} of 100"></meter>'
    )


def _measures(face: EmbeddedFace) -> list[tuple[str, str]]:
    rows = [("Uncertainty &sigma;&sup2;", f"{face.sigma_sq:.4f}")]
    if face.face is None:
        return [*rows, ("Detector", "not asked: given aligned")]
    width, height = face.face.box[2:]
    return [
        *rows,
        ("Face size", f"{width:.0f}&nbsp;&times;&nbsp;{height:.0f}&nbsp;px"),
        ("Detector score", f"{face.face.detector_score:.3f}"),
    ]
