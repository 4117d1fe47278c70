"""The table that users take their threshold from, and the same as text for a configuration."""

from __future__ import annotations

from itertools import groupby

from probface.eval.results import INSUFFICIENT, MeasuredThreshold, Results, System
from probface.report.evaluation_wording import SPACE, absent, fine_share, reading, signed
from probface.report.wording import one_in, shown

USUAL_FMR = 1e-3
"""The rate whose text stands open; the others are a click away."""


def thresholds_table(results: Results) -> str:
    """Each system's thresholds, the laxest first, with what they were measured on and a text to copy."""
    if not results.thresholds:
        return "<p>This protocol measures no thresholds.</p>"
    systems = {system.key: system for system in results.systems}
    order = list(systems)
    rows = sorted(results.thresholds, key=lambda row: (order.index(row.system), -row.fmr))
    heads = (
        *("FMR asked for", "Threshold", f"FMR interval ({reading(results.provenance.confidence, percent=True)})"),
        *("TMR", "Impostor comparisons"),
    )
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    bodies = ""
    for key, members in groupby(enumerate(rows), key=lambda numbered: numbered[1].system):
        lines = "".join(_row(row, _anchor(place), heads) for place, row in members)
        label = f'<tr class="group"><th scope="rowgroup" colspan="6">{shown(systems[key].label)}</th></tr>'
        bodies += f"<tbody>{label}{lines}</tbody>"
    return (
        '<div class="table" role="region" tabindex="0" aria-label="Measured thresholds"><table class="thresholds">'
        f'<thead><tr>{head}<td class="copy"></td></tr></thead>{bodies}</table></div>'
        f'<p class="status" role="status"></p>{_texts(rows, systems, results)}'
    )


def _anchor(place: int) -> str:
    return f"threshold-{place + 1}"


def _row(row: MeasuredThreshold, anchor: str, heads: tuple[str, ...]) -> str:
    rate = reading(row.fmr, percent=True)
    label = f'<tr><th scope="row">{rate} <small class="soft">1{SPACE}in{SPACE}{one_in(row.fmr)}</small></th>'
    if row.threshold is None:
        note = row.note or INSUFFICIENT
        told = str(row.impostor) in note.replace(",", "")
        counts = "" if told else f' <span class="remark">({row.impostor:,} impostor comparisons)</span>'
        return f'{label}<td colspan="5" class="wide">{absent(note)}{counts}</td></tr>'
    interval = "not known"
    if row.fmr_low is not None and row.fmr_high is not None:
        interval = f"[{reading(row.fmr_low, percent=True)}, {reading(row.fmr_high, percent=True)}]"
    cells = (
        f'<span class="number">{signed(row.threshold, 4)}</span>'
        + (f'<span class="remark">{shown(row.note)}</span>' if row.note else ""),
        interval,
        "not known" if row.tmr is None else fine_share(row.tmr),
        f'{row.impostor:,} <span class="count">{row.false_matches:,} matched</span>',
    )
    body = "".join(f'<td data-label="{head}">{cell}</td>' for head, cell in zip(heads[1:], cells, strict=True))
    button = (
        f'<button type="button" data-copy="{anchor}" hidden>Copy<span class="unseen"> the threshold for FMR {rate} '
        "into your configuration</span></button>"
    )
    return f'{label}{body}<td class="copy">{button}</td></tr>'


def _texts(rows: list[MeasuredThreshold], systems: dict[str, System], results: Results) -> str:
    """What the buttons copy, readable without them: the usual rate's open, the others folded."""
    usable = [(place, row) for place, row in enumerate(rows) if row.threshold is not None]
    if not usable:
        return ""
    texts = [f'<pre id="{_anchor(place)}">{_snippet(row, systems[row.system], results)}</pre>' for place, row in usable]
    own = [place for place, (_, row) in enumerate(usable) if row.system == usable[0][1].system]
    first = next((place for place in own if usable[place][1].fmr <= USUAL_FMR * (1 + 1e-9)), own[-1])
    usual = texts.pop(first)
    more = f"<details><summary>The other thresholds as text</summary>{''.join(texts)}</details>" if texts else ""
    return (
        "<h3>Copy this into your configuration</h3><p>Two images match when their score is <strong>above</strong> the "
        "threshold. The lines are TOML and Python alike. The command decides by the thresholds that the model carries; "
        "take the number where you compare scores yourself, on photos like the ones judged here.</p>"
        f"{usual}{more}"
    )


def _snippet(row: MeasuredThreshold, system: System, results: Results) -> str:
    """The threshold is the very number, not a rounded one. As HTML, line by line."""
    bounds = ""
    if row.fmr_low is not None and row.fmr_high is not None:
        confidence = reading(results.provenance.confidence, percent=True)
        bounds = f", {confidence} interval of the rate: {row.fmr_low:.3g} to {row.fmr_high:.3g}"
    lines = (
        f"# {_plain(system.label)}: match when score > threshold",
        f"# measured on {_plain(results.provenance.data)}: {row.false_matches:,} of {row.impostor:,} impostor "
        f"comparisons matched{bounds}",
        f"# probface verify A B --metric {system.metric} --fmr {row.fmr:g}",
        f'metric = "{system.metric}"',
        f"fmr = {row.fmr!r}",
        f"threshold = {row.threshold!r}",
    )
    return "\n".join(shown(line.replace(SPACE, " ")) for line in lines)


def _plain(text: str) -> str:
    """Foreign text on one line, so that a comment cannot end where it should not."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
