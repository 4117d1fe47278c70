"""Figures of an evaluation side by side: a row for an operating point, a column for a system or two compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from probface.eval.results import Figure, Relation, System
from probface.report.evaluation_wording import absent, operating_point, standing, value_with_interval
from probface.report.wording import shown

Column: TypeAlias = tuple[str, Relation, str | None]
"""System, relation, and whom it is compared with."""

Rows: TypeAlias = dict[tuple[tuple[tuple[str, float], ...], str], list[Figure]]
"""The figures of one name by operating point and ``by``."""

FOLDED = 12
"""A name with more rows than that is folded: its chart says it better."""

STANDING = {
    "better": '<span class="standing better">▲ clearly better</span>',
    "worse": '<span class="standing worse">▼ clearly worse</span>',
    "different": '<span class="standing">clearly different</span>',
    "open": '<span class="standing open">no clear difference</span>',
}


def figures_table(figures: Sequence[Figure], systems: Sequence[System], title: str) -> str:
    """One row for an operating point, one column for a system or a comparison of two.

    A name with many rows stands in a table of its own, folded.

    Args:
        figures: in the order in which rows shall appear.
        systems: in the order in which columns shall appear.
        title: names the table for who cannot see it.
    """
    groups = {name: _rows(figures, name) for name in dict.fromkeys(figure.name for figure in figures)}
    text = _table([rows for rows in groups.values() if len(rows) <= FOLDED], systems, title)
    for name, rows in groups.items():
        if len(rows) > FOLDED:
            summary = f"<summary>{shown(name)}: {len(rows)} rows</summary>"
            text += f"<details>{summary}{_table([rows], systems, f'{title}, {name}')}</details>"
    return text


def _rows(figures: Iterable[Figure], name: str) -> Rows:
    rows: Rows = {}
    for figure in figures:
        if figure.name == name:
            rows.setdefault((tuple(figure.at.items()), figure.by), []).append(figure)
    return rows


def _table(groups: list[Rows], systems: Sequence[System], title: str) -> str:
    figures = [figure for rows in groups for members in rows.values() for figure in members]
    if not figures:
        return ""
    labels = {system.key: system.label for system in systems}
    columns = {column: _column_head(column, labels) for column in _columns(figures, systems)}
    counted = any(figure.genuine or figure.impostor for figure in figures)
    heads = ['<span class="unseen">Figure</span>', *columns.values(), *(["Comparisons"] if counted else [])]
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    bodies = "".join(_group(rows, columns, counted) for rows in groups)
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="Figures: {shown(title)}"><table class="figures">'
        f"<thead><tr>{head}</tr></thead>{bodies}</table></div>"
    )


def _columns(figures: Iterable[Figure], systems: Sequence[System]) -> list[Column]:
    """Plain values first, then differences, then ratios; each in the order of the systems."""
    order = [system.key for system in systems]
    kinds = ("value", "difference", "ratio")
    found: dict[Column, None] = dict.fromkeys(_column(figure) for figure in figures)
    return sorted(found, key=lambda column: (kinds.index(column[1]), order.index(column[0])))


def _column(figure: Figure) -> Column:
    return figure.system, figure.relation, figure.against


def _column_head(column: Column, labels: dict[str, str]) -> str:
    system, relation, against = column
    if against is None:
        return shown(labels[system])
    if against == system:  # two figures of one system, the row says which
        return f"{shown(labels[system])}, {relation}"
    return f"{shown(labels[system])} {'−' if relation == 'difference' else '÷'} {shown(labels.get(against, against))}"


def _group(rows: Rows, columns: dict[Column, str], counted: bool) -> str:
    """The rows of one name. A name with a single row needs no heading above it."""
    figures = [figure for members in rows.values() for figure in members]
    better = next((figure.better for figure in figures if figure.better), None)
    name = shown(figures[0].name) + (f' <small class="soft">{better} is better</small>' if better else "")
    heading = ""
    if len(rows) > 1:
        width = 1 + len(columns) + counted
        heading = f'<tr class="group"><th scope="rowgroup" colspan="{width}">{name}</th></tr>'
    body = ""
    for (at, by), members in rows.items():
        point = operating_point(dict(at), by)
        label = (point or "overall") if heading else f"{name}{'<br>' if point else ''}{point}"
        counts = f'<td data-label="Comparisons">{_counts(members)}</td>' if counted else ""
        body += f'<tr><th scope="row">{label}</th>{_cells(members, columns)}{counts}</tr>'
    return f"<tbody>{heading}{body}</tbody>"


def _cells(members: list[Figure], columns: dict[Column, str]) -> str:
    """A cell for each column; where nobody has a number, the reasons stand together."""
    if all(figure.value is None for figure in members):
        return f'<td class="wide" colspan="{len(columns)}">{_reasons(members, columns)}</td>'
    cells = ""
    for column, head in columns.items():
        texts = [_cell(figure) for figure in members if _column(figure) == column]
        cells += f'<td data-label="{head}">{"<br>".join(texts)}</td>' if texts else '<td class="empty">&ndash;</td>'
    return cells


def _reasons(members: list[Figure], columns: dict[Column, str]) -> str:
    """Each reason once, with whom it is about, unless that is all."""
    about: dict[str, list[str]] = {}
    for figure in members:
        about.setdefault(figure.note, []).append(columns[_column(figure)])
    if len(about) == 1 and len(members) == len(columns):
        return absent(members[0].note)
    return "".join(f"<div>{', '.join(heads)}: {absent(note)}</div>" for note, heads in about.items())


def _cell(figure: Figure) -> str:
    says = standing(figure)
    return value_with_interval(figure) + (f" {STANDING[says]}" if says else "")


def _counts(members: list[Figure]) -> str:
    """How many comparisons a row rests on; a range where systems differ, as when people were left out for one."""
    texts = []
    for kind in ("genuine", "impostor"):
        counts = sorted({getattr(f, kind) for f in members if getattr(f, kind)})
        if counts:
            span = f"{counts[0]:,}" + (f"&ndash;{counts[-1]:,}" if len(counts) > 1 else "")
            texts.append(f'<span class="count">{span} {kind}</span>')
    return " ".join(texts) or '<span class="soft">&ndash;</span>'
