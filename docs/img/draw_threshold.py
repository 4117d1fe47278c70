"""Draw docs/img/threshold.svg: the cosine threshold b(t), its least value in a bucket, and a tangent.

python docs/img/draw_threshold.py
"""

from __future__ import annotations

import math
from pathlib import Path

TAU = -1.2
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 660, 340, 60, 290, 20
T_END, B_LOW, B_HIGH = 2.0, 0.2, 1.05
BUCKET = (0.72, 0.95)
TANGENT_AT = 0.4


def threshold(t: float) -> float:
    """``b(t) = 1 + (t / 2)(tau + log t)``: the score is above tau exactly when the cosine is above this."""
    return 1 + t / 2 * (TAU + math.log(t))


def x(t: float) -> float:
    """Where ``t`` is."""
    return LEFT + t / T_END * (WIDTH - LEFT - 20)


def y(b: float) -> float:
    """Where a cosine is."""
    return BOTTOM - (b - B_LOW) / (B_HIGH - B_LOW) * (BOTTOM - TOP)


def text(at_x: float, at_y: float, words: str, colour: str = "#333", anchor: str = "start") -> str:
    """One line of text."""
    return f'<text x="{at_x:.1f}" y="{at_y:.1f}" fill="{colour}" text-anchor="{anchor}">{words}</text>'


def line(t1: float, b1: float, t2: float, b2: float, style: str) -> str:
    """A line between two points of the diagram."""
    return f'<line x1="{x(t1):.1f}" y1="{y(b1):.1f}" x2="{x(t2):.1f}" y2="{y(b2):.1f}" {style}/>'


def drawing() -> str:
    """The picture."""
    curve = [0.02 + i * (T_END - 0.02) / 150 for i in range(151)]
    points = " ".join(f"{x(t):.1f},{y(threshold(t)):.1f}" for t in curve)
    low, high = BUCKET
    turn = math.exp(-1 - TAU)
    least = min(max(turn, low), high)
    slope = (TAU + math.log(TANGENT_AT) + 1) / 2
    start, end = 0.05, 0.98

    def tangent(t: float) -> float:
        return threshold(TANGENT_AT) + slope * (t - TANGENT_AT)

    band = f'x="{x(low):.1f}" y="{TOP}" width="{x(high) - x(low):.1f}" height="{BOTTOM - TOP}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<rect {band} fill="#1f6feb" opacity="0.12"/>',
        line(0, B_LOW, T_END, B_LOW, 'stroke="#333"'),
        line(0, B_LOW, 0, B_HIGH, 'stroke="#333"'),
        *(text(x(t), BOTTOM + 18, f"{t:g}", anchor="middle") for t in (0.5, 1.0, 1.5, 2.0)),
        *(text(LEFT - 8, y(b) + 4, f"{b:.1f}", anchor="end") for b in (0.2, 0.4, 0.6, 0.8, 1.0)),
        text(WIDTH - 20, BOTTOM + 36, "t = sigma² of the probe + sigma² of the reference", anchor="end"),
        text(LEFT + 8, TOP + 4, "cosine"),
        line(start, tangent(start), end, tangent(end), 'stroke="#8250df" stroke-dasharray="5 4" stroke-width="1.5"'),
        text(x(end) + 6, y(tangent(end)) + 4, "a tangent lies below b everywhere", "#8250df"),
        f'<polyline points="{points}" fill="none" stroke="#cf222e" stroke-width="2.5"/>',
        text(x(1.72), y(threshold(1.72)) - 14, "b(t)", "#cf222e"),
        line(low, threshold(least), high, threshold(least), 'stroke="#1f6feb" stroke-width="3"'),
        text(x(low) + 4, y(0.62), "a bucket has one", "#1f6feb"),
        text(x(low) + 4, y(0.62) + 16, "threshold, b(t*)", "#1f6feb"),
        f'<circle cx="{x(turn):.1f}" cy="{y(threshold(turn)):.1f}" r="4" fill="#cf222e"/>',
        text(x(turn) + 8, y(threshold(turn)) + 20, "b turns at exp(-1 - tau)", "#cf222e"),
        text(x(1.05), y(0.9), "above the curve: score above tau", "#666"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("threshold.svg").write_text(drawing(), encoding="utf-8")
