"""Draw docs/img/evaluation.svg: images are embedded once, then any protocol scores them.

python docs/img/draw_evaluation.py
"""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT = 760, 232
STAGES = (
    ("images", "of a protocol's lists", "or ready embeddings"),
    ("faces, once", "mu, sigma_sq, norm,", "sharpness, detector"),
    ("comparisons", "pairs, templates,", "searches"),
    ("figures", "with intervals over", "people, not pairs"),
)
OUT = (("results.json", "every number"), ("report.html", "a page to read"), ("the model's contract", "calibrate"))
BOX, GAP, TOP = 148, 44, 22


def words(x: float, y: float, text: str, colour: str = "#555") -> str:
    """One centred line of text."""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" text-anchor="middle">{text}</text>'


def box(x: float, y: float, height: float, fill: str, stroke: str) -> str:
    """A rectangle as wide as all the others."""
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX}" height="{height:.0f}" rx="6" fill="{fill}" stroke="{stroke}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line with a head."""
    return f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="#555" marker-end="url(#head)"/>'


def drawing() -> str:
    """The whole picture as SVG."""
    parts = []
    for place, (title, first, second) in enumerate(STAGES):
        x = 14 + place * (BOX + GAP)
        parts += [
            box(x, TOP, 74, "#f6f8fa", "#8c959f"),
            words(x + BOX / 2, TOP + 23, title, "#0a3069"),
            words(x + BOX / 2, TOP + 43, first),
            words(x + BOX / 2, TOP + 60, second),
        ]
        if place:
            parts.append(arrow(x - GAP + 2, TOP + 37, x - 4, TOP + 37))
    from_x, from_y = 14 + 3 * (BOX + GAP) + BOX / 2, TOP + 74
    for place, (title, what) in enumerate(OUT):
        x, y = 14 + (place + 1) * (BOX + GAP), 160
        parts += [
            box(x, y, 52, "#e7f2ec", "#1c7356"),
            words(x + BOX / 2, y + 21, title, "#1c7356"),
            words(x + BOX / 2, y + 40, what),
            arrow(from_x, from_y, x + BOX / 2, y - 4),
        ]
    parts += [
        words(14 + BOX / 2, 180, "people who trained", "#ad4f27"),
        words(14 + BOX / 2, 197, "are left out", "#ad4f27"),
    ]
    return (
        "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
                'font-family="sans-serif" font-size="13">',
                '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="4" orient="auto">'
                '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
                f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
                *parts,
                "</svg>",
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    Path(__file__).with_name("evaluation.svg").write_text(drawing(), encoding="utf-8")
