"""Draw docs/img/search.svg: how references are ordered, filtered and rescored.

python docs/img/draw_search.py
"""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT = 760, 250
BUCKETS = ((0, 5), (5, 11), (11, 16), (16, 18), (18, 19), (19, 20))  # tiles: large sigma^2 is rare, its buckets small
TILE_WIDTH, LEFT, TOP = 30, 60, 46


def words(x: float, y: float, text: str, colour: str = "#333", anchor: str = "start") -> str:
    """One line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{text}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str = "#fff") -> str:
    """A rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" stroke="{stroke}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line with a head."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#555" marker-end="url(#head)"/>'


def drawing() -> str:
    """The whole picture as SVG."""
    shelf = []
    for bucket, (start, end) in enumerate(BUCKETS):
        shade = f"hsl(212, 70%, {88 - 9 * bucket}%)"
        shelf += [box(LEFT + tile * TILE_WIDTH, TOP, TILE_WIDTH, 40, shade) for tile in range(start, end)]
        first, last = LEFT + start * TILE_WIDTH, LEFT + end * TILE_WIDTH
        shelf.append(f'<path d="M{first + 2} {TOP + 46}v6h{last - first - 4}v-6" fill="none" stroke="#1f6feb"/>')
    right = LEFT + BUCKETS[-1][1] * TILE_WIDTH
    stages = (
        ("one threshold", "a probe and bucket", "b(t*) less the bound"),
        ("64 products", "whole numbers or float32", "compared in registers"),
        ("the survivors", "about 100 of 100,000", "scored in float64"),
        ("the k best", "ties to the lower row", "raise tau"),
    )
    road = []
    for place, (title, first_line, second_line) in enumerate(stages):
        at = 24 + place * 184
        road += [
            box(at, 160, 156, 70, "#f6f8fa", "#8c959f"),
            words(at + 78, 182, title, "#0a3069", "middle"),
            words(at + 78, 202, first_line, "#555", "middle"),
            words(at + 78, 219, second_line, "#555", "middle"),
        ]
        if place:
            road.append(arrow(at - 28, 195, at - 4, 195))
    return (
        "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
                'font-family="sans-serif" font-size="13">',
                '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
                '<path d="M0 0L6 3L0 6z" fill="#555"/></marker></defs>',
                box(0, 0, WIDTH, HEIGHT, "#fff"),
                words(LEFT, 20, "references sorted by sigma²: small"),
                words(right, 20, "large", anchor="end"),
                words(LEFT, 36, "each square a tile of 64 that share a scale", "#777"),
                *shelf,
                words(LEFT, TOP + 70, "buckets of like sigma²", "#1f6feb"),
                arrow(right, TOP + 66, right - 150, TOP + 66),
                words(right - 158, TOP + 70, "searched from here on", "#555", "end"),
                *road,
                "</svg>",
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    Path(__file__).with_name("search.svg").write_text(drawing(), encoding="utf-8")
