"""Draw docs/img/direction.svg: FastMLS against t = sigma_i^2 + sigma_j^2, for several squared distances d.

python docs/img/draw_direction.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probface.score.fast_mls import fast_mls_of_cosine

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 360, 56, 40, 16
LOW, HIGH = -4.5, 1.7
TITLE = (
    "FastMLS; dots: the peaks, at t = d.",
    "Left of its dot (dashed) doubt raises a score, right of it doubt lowers it.",
)
COLOURS = {0.2: "#1f7a5c", 0.6: "#5d8a2c", 1.2: "#b98a1b", 2.0: "#b4552d"}


def x(t: float) -> float:
    """Place of t on the axis."""
    return LEFT + t / 3 * (WIDTH - LEFT - 20)


def y(score: float) -> float:
    """Place of a score on the axis."""
    return TOP + (HIGH - score) / (HIGH - LOW) * (HEIGHT - TOP - BOTTOM)


def curve(d: float) -> str:
    """One distance: its curve, dashed up to the peak at t = d and solid from there, and its name."""
    peak = -1 - np.log(d)
    name_y = y(peak) + (22 if d > 1 else -9)
    return (
        _line(d, np.linspace(0.02, d, 300), ' stroke-dasharray="6 4"')
        + _line(d, np.linspace(d, 3, 300), "")
        + f'<circle cx="{x(d):.1f}" cy="{y(peak):.1f}" r="5" fill="{COLOURS[d]}"/>'
        f'<text x="{x(d) + 8:.1f}" y="{name_y:.1f}" fill="{COLOURS[d]}">d = {d:g}</text>'
    )


def _line(d: float, t: NDArray[np.float64], dashes: str) -> str:
    score = fast_mls_of_cosine(np.full_like(t, 1 - d / 2), t)
    seen = (score >= LOW) & (score <= HIGH)
    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(t[seen], score[seen], strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{COLOURS[d]}" stroke-width="2.5"{dashes}/>'


def drawing() -> str:
    """The whole picture as SVG."""
    ticks = "".join(
        f'<text x="{x(t):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{t:g}</text>'
        for t in (0, 0.5, 1, 1.5, 2, 2.5, 3)
    ) + "".join(
        f'<text x="{LEFT - 8}" y="{y(s) + 4:.1f}" text-anchor="end">{s}</text>'
        f'<line x1="{LEFT}" x2="{x(3):.1f}" y1="{y(s):.1f}" y2="{y(s):.1f}" stroke="#ddd"/>'
        for s in (-4, -3, -2, -1, 0, 1)
    )
    title = "".join(
        f'<text x="{LEFT + 6}" y="{TOP + 8 + 17 * line}">{words}</text>' for line, words in enumerate(TITLE)
    )
    curves = "".join(curve(d) for d in COLOURS)
    label = f'<text x="{x(1.5):.1f}" y="{HEIGHT - 4}" text-anchor="middle">t, the two variances together</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{ticks}{label}{title}{curves}</svg>\n'
    )


if __name__ == "__main__":
    Path(__file__).with_name("direction.svg").write_text(drawing(), encoding="utf-8")
