"""The page of an evaluation: the figures with their intervals, the curves, the thresholds, and the faces behind them.

One self-contained HTML file: no outside address, one small script that the policy names by its digest, complete
without it. The same results always give the same page.
"""

from __future__ import annotations

from collections.abc import Callable

from probface.eval.results import Results, Section, System
from probface.report.charts import chart_card
from probface.report.evaluation_faces import Faces, ladder, worst_errors
from probface.report.evaluation_tables import figures_table
from probface.report.evaluation_thresholds import thresholds_table
from probface.report.evaluation_wording import SPACE, reading
from probface.report.page import document, write_page
from probface.report.wording import METRIC_NAMES, facts, shown
from probface.types import Image

__all__ = ["evaluation_page", "write_page"]


def evaluation_page(
    results: Results, *, pictures: Callable[[str], Image | None] | None = None, names: bool = True
) -> str:
    """Tell an evaluation as a page.

    Args:
        results: what was found.
        pictures: gives the aligned face, RGB uint8 (height, width, 3), of an image by its name, None for one that is
            not at hand. Without it the page shows no faces and says so.
        names: whether the page shows the names of images. They may stay in the results' own notes and command.

    Returns:
        A whole HTML document; any text in it can be encoded as UTF-8.
    """
    faces = Faces(pictures, names)
    order = {system.key: place for place, system in enumerate(results.systems)}
    parts = (
        _summary(results),
        _notes(results),
        _thresholds(results),
        *(_section(part, place + 1, results, order) for place, part in enumerate(results.sections)),
        ladder(results.ladder, faces),
        worst_errors(results.errors, results.systems, faces),
        _reading(results),
        _provenance(results),
    )
    return document(
        f"{shown(results.title)} - ProbFace",
        "\n".join(part for part in parts if part),
        styles=("style.css", "evaluation.css"),
        script="evaluation.js",
    )


def _summary(results: Results) -> str:
    sentences = "".join(f"<p>{shown(sentence).replace(' %', f'{SPACE}%')}</p>" for sentence in results.summary)
    kept = results.provenance
    comparisons = f"{kept.genuine:,} genuine and {kept.impostor:,} impostor comparisons"
    links = [("thresholds", "Thresholds")]
    links += [(f"part-{place + 1}", shown(section.title)) for place, section in enumerate(results.sections)]
    links += [("ladder", "Surest to least sure")] if results.ladder else []
    links += [("errors", "Worst errors")] if results.errors else []
    links += [("reading", "How to read this"), ("origin", "Where this comes from")]
    items = "".join(f'<li><a href="#{anchor}">{text}</a></li>' for anchor, text in links)
    return (
        f'<header class="summary"><p class="kicker">Evaluation, protocol {shown(results.protocol)}</p>'
        f'<h1>{shown(results.title)}</h1><div class="sentences">{sentences}</div>'
        f'<p class="soft">Judged on {shown(kept.data)}: {kept.images:,} images of {kept.subjects:,} people, '
        f"{comparisons}.</p>"
        f'<nav aria-label="On this page"><ul>{items}</ul></nav></header>'
    )


def _notes(results: Results) -> str:
    if not results.notes:
        return ""
    items = "".join(f"<li>{shown(note)}</li>" for note in results.notes)
    return (
        '<section class="card notes" aria-labelledby="notes"><h2 id="notes">What to know first</h2>'
        f"<ul>{items}</ul></section>"
    )


def _thresholds(results: Results) -> str:
    return (
        '<section class="card" aria-labelledby="thresholds"><h2 id="thresholds">Thresholds, with what they were '
        f"measured on</h2>{thresholds_table(results)}</section>"
    )


def _section(section: Section, place: int, results: Results, order: dict[str, int]) -> str:
    name = f"part-{place}"
    text = f"<p>{shown(section.text)}</p>" if section.text else ""
    charts = "".join(chart_card(chart, order) for chart in section.charts)
    return (
        f'<section class="card" aria-labelledby="{name}"><h2 id="{name}">{shown(section.title)}</h2>{text}'
        f"{figures_table(section.figures, results.systems, section.title)}"
        + (f'<div class="charts">{charts}</div>' if charts else "")
        + "</section>"
    )


def _reading(results: Results) -> str:
    confidence = reading(results.provenance.confidence, percent=True)
    return (
        '<section class="card" aria-labelledby="reading"><h2 id="reading">How to read this</h2><dl class="terms">'
        "<dt>Genuine, impostor</dt><dd>A comparison of two images of one person; of two people. Where people are "
        "searched for, a search for somebody who is enrolled; who is not.</dd>"
        "<dt>FMR, false-match rate</dt><dd>How often two different people are called a match. Strict gates ask for a "
        "small one.</dd>"
        "<dt>FNMR, false non-match rate</dt><dd>How often one person, seen twice, is not recognised. TMR, the "
        "true-match rate, is the rest. A stricter threshold lowers the FMR and raises the FNMR: compare systems at "
        "the same FMR only.</dd>"
        "<dt>FPIR and FNIR</dt><dd>The same for a search among many enrolled people: how often somebody who is not "
        "enrolled is given a name, and how often somebody who is enrolled is not found. Both grow with the number of "
        "people enrolled.</dd>"
        f"<dt>[from, to]</dt><dd>The {confidence} interval. Other people drawn from the same population would give a "
        "somewhat different figure; most likely within these ends. People are drawn, not comparisons, for one face "
        "takes part in many.</dd>"
        "<dt>Clearly better</dt><dd>The interval of the difference leaves out zero (of a ratio, one). Two figures "
        "without this mark may differ by chance alone.</dd>"
        "<dt>EDC, error versus discard</dt><dd>The share of errors left when the doubtful photos are set aside. A "
        "curve that falls soon means that the doubt knows where the errors are; a flat one, that it does not.</dd>"
        "<dt>Insufficient data</dt><dd>A rate of 1 in N needs at least 10 N impostor comparisons. With "
        "fewer, this page gives no number rather than one that chance made.</dd></dl>"
        "<ul><li><strong>The rates are other people's.</strong> They hold for people and photos like those judged "
        "here. Measure on your own before you decide about someone.</li>"
        "<li><strong>Groups of people differ.</strong> An average can hide that a system fails one group more often "
        "than another.</li>"
        "<li><strong>A match is not proof of identity,</strong> and nothing here tells a live person from a photograph."
        "</li><li><strong>Consent and law come first.</strong> Judge and compare faces only with the consent of the "
        "people, where the law allows it. A page with faces on it is personal data: keep it no longer than you need "
        "it.</li></ul></section>"
    )


def _provenance(results: Results) -> str:
    kept = results.provenance
    failed = f", {kept.failed:,} could not be embedded" if kept.failed else ", none failed"
    confidence = reading(kept.confidence, percent=True)
    rows = [
        ("Data", f"<bdi>{shown(kept.data)}</bdi>"),
        ("Digest of the data", f"<code>{shown(kept.data_digest)}</code> (SHA-256)" if kept.data_digest else "unknown"),
        ("Images", f"{kept.images:,}{failed}"),
        ("People", f"{kept.subjects:,}"),
        ("Comparisons", f"{kept.genuine:,} genuine, {kept.impostor:,} impostor"),
        ("Intervals", f"{confidence}, {kept.resamples:,} resamples of people, seed {kept.seed}"),
        *((f"System {shown(system.label)}", _system(system)) for system in results.systems),
        ("ProbFace", shown(kept.version)),
        ("Date", shown(kept.date)),
        ("Results", f"schema {results.schema}, results.json"),
        ("Command", f"<code>{shown(kept.command)}</code>" if kept.command else "none: made from Python"),
    ]
    return (
        '<footer class="card" aria-labelledby="origin"><h2 id="origin">Where this comes from</h2>'
        f"{facts(rows)}</footer>"
    )


def _system(system: System) -> str:
    digest = f"<br><code>{shown(system.model_digest)}</code> (SHA-256)" if system.model_digest else ""
    trained = f"<br>uncertainty head trained on {shown(system.trained_on)}" if system.trained_on else ""
    left_out = f"<br>{system.left_out:,} comparisons left out: their people trained the head" if system.left_out else ""
    return f"{shown(system.model)}, score {METRIC_NAMES[system.metric]}{digest}{trained}{left_out}"
