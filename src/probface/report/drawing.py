"""The two small pictures of the comparison page, as SVG text. Colours and line styles are the page's, by class."""

from __future__ import annotations

import math
from collections.abc import Sequence

from probface.contract import ScoreHistogram

WIDTH, HEIGHT, MARGIN = 720, 230, 14
FLOOR = HEIGHT - 42


def distributions(histogram: ScoreHistogram, score: float, threshold: float) -> str:
    """Genuine and impostor scores as step curves, each scaled to its own peak, with the threshold and this score."""
    low, high = min(histogram.edges[0], score), max(histogram.edges[-1], score)

    def x(value: float) -> float:
        return MARGIN + (value - low) / (high - low) * (WIDTH - 2 * MARGIN)

    curves = "".join(
        _steps(name, [x(edge) for edge in histogram.edges], shares)
        for name, shares in (("impostor", histogram.impostor), ("genuine", histogram.genuine))
    )
    ticks = "".join(
        f'<text class="soft" x="{x(value):.1f}" y="{FLOOR + 18}" text-anchor="middle">{value:g}</text>'
        for value in _ticks(low, high)
    )
    words = f"Score {score:.3f}, threshold {threshold:.3f}, over the distributions of genuine and impostor scores"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">{curves}'
        f'<line class="axis" x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{FLOOR}" y2="{FLOOR}"/>{ticks}'
        f'<line class="threshold" x1="{x(threshold):.1f}" x2="{x(threshold):.1f}" y1="30" y2="{FLOOR}"/>'
        f"{_label('threshold', x(threshold), 24, '')}"
        f'<line class="score" x1="{x(score):.1f}" x2="{x(score):.1f}" y1="52" y2="{FLOOR + 4}"/>'
        f"{_label('this pair', x(score), 46, 'score-label')}</svg>"
    )


def clouds(sigma_sq: Sequence[float], cosine: float) -> str:
    """The two faces as clouds: centres as far apart as the means, radii the standard deviations."""
    distance = math.sqrt(max(0.0, 2 - 2 * cosine))
    radii = [math.sqrt(value) for value in sigma_sq]
    reach = [max(radii[0], radii[1] - distance), max(radii[1], radii[0] - distance)]
    scale = min((WIDTH - 2 * MARGIN) / (reach[0] + distance + reach[1]), (HEIGHT - 70) / (2 * max(radii)))
    middle = (HEIGHT - 46) / 2 + 8
    first = WIDTH / 2 - (distance + reach[1] - reach[0]) * scale / 2
    centres = (first, first + distance * scale)
    words = f"Two clouds, centres {distance:.2f} apart, radii {radii[0]:.2f} and {radii[1]:.2f}"
    circles = "".join(
        f'<circle class="cloud-{name} haze" cx="{cx:.1f}" cy="{middle:.1f}" r="{radius * scale * share:.1f}"/>'
        for name, cx, radius in zip("ab", centres, radii, strict=True)
        for share in (1.0, 0.75, 0.5, 0.25)
    )
    line = f'<line class="axis" x1="{centres[0]:.1f}" x2="{centres[1]:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
    names = "".join(
        f'<circle class="cloud-{name}" cx="{cx:.1f}" cy="{middle:.1f}" r="5"/>'
        f'<text x="{cx:.1f}" y="{HEIGHT - 14}" text-anchor="{anchor}">{label}</text>'
        for name, cx, label, anchor in zip("ab", centres, ("first face", "second face"), ("end", "start"), strict=True)
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">{circles}{line}{names}</svg>'


def _steps(name: str, edges: Sequence[float], shares: Sequence[float]) -> str:
    peak = max(shares) or 1.0
    points = [f"M{edges[0]:.1f},{FLOOR}"]
    for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True):
        top = FLOOR - share / peak * (FLOOR - 62)
        points.append(f"L{left:.1f},{top:.1f}L{right:.1f},{top:.1f}")
    path = "".join(points) + f"L{edges[-1]:.1f},{FLOOR}"
    return f'<path class="{name}-area" d="{path}Z"/><path class="{name}-line" d="{path}"/>'


def _label(text: str, x: float, y: float, name: str) -> str:
    anchor = "start" if x < WIDTH / 4 else "end" if x > WIDTH * 3 / 4 else "middle"
    return f'<text class="{name}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{text}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Five to ten round numbers in a range."""
    raw = (high - low) / 7
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= raw)
    first = math.ceil(low / step)
    return [round(k * step, 10) for k in range(first, math.floor(high / step) + 1)]
