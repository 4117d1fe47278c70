import base64
import hashlib
import io
import re
import tomllib
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as Pillow

from evaluation_results import evaluation, face
from probface.eval.results import Chart, ChartAxis, Figure, LadderFace, Results, Section, Series
from probface.report.evaluation import evaluation_page
from probface.types import Image

VOID = {"meta", "link", "img", "br", "wbr", "line", "circle", "path"}
HOSTILE = "photos/<script>alert('x')</script>\"&\u202e.jpg"


class Reader(HTMLParser):
    """Every tag closed in order; what the page may fetch, what it calls its parts, and its words."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def attributes(self, *names: str) -> list[str]:
        return [str(values[name]) for _, values in self.tags for name in names if name in values]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def words(page: str) -> str:
    return " ".join("".join(f"{word} " for word in read(page).words).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def page() -> str:
    return evaluation_page(evaluation(), pictures=face)


def test_the_page_is_whole_and_fetches_nothing(page: str) -> None:
    reader = read(page)
    assert all(a.startswith(("data:", "#")) for a in reader.attributes("src", "href", "action", "poster"))
    assert not re.search(r"url\(|@import|https?://", page)
    anchors = {a[1:] for a in reader.attributes("href") if a.startswith("#")}
    names = reader.attributes("id")
    assert anchors <= set(names)
    assert len(names) == len(set(names))
    assert set(reader.attributes("aria-labelledby")) <= set(names)


def test_the_policy_lets_this_script_run_and_no_other(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == page.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" + digest + "'"
    assert f'http-equiv="Content-Security-Policy" content="{policy}"' in page
    assert [name for _, values in read(page).tags for name in values if name.startswith("on")] == []


def test_the_parts_come_in_their_order(page: str) -> None:
    parts = re.findall(r'<(?:h1|h2 id="[\w-]+")>([^<]*)', page)
    assert parts == [
        *("How well does probface-sface recognise faces?", "What to know first"),
        *("Thresholds, with what they were measured on", "One to one", "Does the doubt know where the errors are?"),
        *("One among many", "Scores as evidence", "From the surest face to the least sure", "The worst errors"),
        *("How to read this", "Where this comes from"),
    ]


def test_every_number_is_there(page: str) -> None:
    text = words(page)
    for expected in (
        *("FastMLS recognises 98.7 % of the pairs", "3 images have no face", "13,233, 3 could not be embedded"),
        *("5,749", "3,000 genuine, 200,000 impostor", "1,000 resamples of people, seed 7", "ab" * 32, "cd" * 32),
        *("99.38 % [99.21, 99.53]", "0.82 × [0.71, 0.94] ▲ clearly better", "no clear difference", "0.041 bits"),
        *("0.00310 [0.00270, 0.00350]", "FMR 0.1 %, 30 % discarded, sharpness", "FPIR 1 %, 1,680 enrolled"),
        *("σ² 0.1100", "quality 95", "σ² 1.4000", "quality 10", "Score −1.600 Threshold −2.880, FMR 0.1 %"),
        *(
            "Score −3.100 Threshold −2.880",
            "2025-05-04T10:20:30Z",
            "0.2.0",
            "probface evaluate lfw --model sface --data 'my <photos>' --out results",
        ),
        *("Yours & <theirs>", "LFW folds 1 to 6", "1,200 comparisons left out"),
    ):
        assert expected in text, expected


def test_too_few_comparisons_give_no_number(page: str) -> None:
    text = words(page)
    # Once for each system in the table of thresholds; once for all three in the row of figures.
    assert text.count("insufficient data 1,000,000 comparisons of different people are needed") == 3
    assert text.count("insufficient data 200,000 comparisons of different people, 1,000,000 needed") == 1
    assert "measures no thresholds" in words(evaluation_page(replace(evaluation(), thresholds=())))


def test_the_texts_to_copy_are_toml_and_python_and_exact(page: str) -> None:
    texts = {name: unescape(text) for name, text in re.findall(r'<pre id="([^"]+)">(.*?)</pre>', page, re.S)}
    given_rows = [row for row in evaluation().thresholds if row.threshold is not None]
    metrics = {system.key: system.metric for system in evaluation().systems}
    found = []
    for text in texts.values():
        python: dict[str, object] = {}
        exec(text, {"__builtins__": {}}, python)  # noqa: S102
        assert tomllib.loads(text) == python
        found.append((python["metric"], python["fmr"], python["threshold"]))
        assert f"probface verify A B --metric {python['metric']} --fmr {python['fmr']:g}" in text
    assert sorted(found) == sorted((metrics[row.system], row.fmr, row.threshold) for row in given_rows)
    assert re.findall(r'data-copy="([^"]+)"', page) == sorted(texts, key=lambda name: int(name.split("-")[1]))


def test_the_open_text_is_the_usual_rate_of_the_first_system(page: str) -> None:
    (text,) = re.findall(r"<pre[^>]*>(.*?)</pre>", page.split("<summary>The other thresholds")[0], re.S)
    assert text.startswith("# ProbFace, FastMLS")
    assert "fmr = 0.001" in text


def test_a_label_cannot_end_its_comment() -> None:
    results = evaluation()
    hostile = replace(results.systems[0], label="x\nimport os\u2028boom = 1")
    text = evaluation_page(replace(results, systems=(hostile, *results.systems[1:])))
    (snippet,) = re.findall(r'<pre id="threshold-2"[^>]*>(.*?)</pre>', text, re.S)
    assert next(line for line in snippet.split("\n") if not line.startswith("#")).startswith("metric")
    assert len(snippet.splitlines()) == 6


def test_foreign_text_cannot_break_out() -> None:
    results = evaluation()
    kept = replace(results.provenance, data=HOSTILE, command=HOSTILE, version=HOSTILE, date=HOSTILE)
    chart = Chart("lines", HOSTILE, HOSTILE, ChartAxis(HOSTILE), ChartAxis(HOSTILE), (Series(HOSTILE, (0, 1), (0, 1)),))
    figures = (
        Figure(HOSTILE, "fastmls", 0.5, at={HOSTILE: 1.0}, by=HOSTILE, note=HOSTILE),
        Figure("b", "fastmls", 1.0, relation="ratio", against=HOSTILE),
    )
    page = evaluation_page(
        replace(
            results,
            protocol=HOSTILE,
            title=HOSTILE,
            summary=(HOSTILE,),
            notes=(HOSTILE,),
            systems=tuple(replace(s, label=HOSTILE, model=HOSTILE, trained_on=HOSTILE) for s in results.systems),
            sections=(Section(HOSTILE, HOSTILE, figures, (chart,)),),
            ladder=(LadderFace(HOSTILE, 0.3),),
            errors=tuple(replace(error, a=HOSTILE, b=HOSTILE) for error in results.errors),
            provenance=kept,
        )
    )
    read(page)
    assert page.count("<script") == 1
    assert "\u202e" not in page
    assert "<title>photos/&lt;script&gt;" in page


def test_figures_are_pivoted(page: str) -> None:
    table = page[page.index('aria-label="Figures: One to one"') :]
    table = table[: table.index("</table>")]
    heads = [unescape(re.sub("<[^>]*>", "", head)) for head in re.findall(r'<th scope="col">(.*?)</th>', table)]
    assert heads == [
        *("Figure", "ProbFace, FastMLS", "ProbFace, cosine", "Yours & <theirs>"),
        *("ProbFace, FastMLS − ProbFace, cosine", "ProbFace, FastMLS − Yours & <theirs>"),
        *("ProbFace, FastMLS ÷ Yours & <theirs>", "Comparisons"),
    ]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', table)
    assert len(rows) == 6
    for _, cells in rows:
        spans = [int(re.search(r'colspan="(\d)"', cell)[1]) if "colspan" in cell else 1
                 for cell in re.findall(r"<td[^>]*>", cells)]  # fmt: skip
        assert sum(spans) == len(heads) - 1


def test_charts_have_words_and_numbers(page: str) -> None:
    reader = read(page)
    charts = sum(len(section.charts) for section in evaluation().sections)
    told = [values["aria-label"] for tag, values in reader.tags if tag == "svg" and values.get("role") == "img"]
    assert len(told) == charts
    assert all(told)
    assert any("σ² of ProbFace: from 3.1 % at 0 % to 0.208 % at 30 %" in str(text) for text in told)
    assert page.count("<summary>The numbers</summary>") == charts
    assert [values for tag, values in reader.tags if tag == "img" and not values.get("alt")] == []
    assert [values for tag, values in reader.tags if tag == "th" and "scope" not in values] == []


def test_the_ladder_goes_from_the_surest_to_the_least_sure(page: str) -> None:
    shuffled = replace(evaluation(), ladder=tuple(reversed(evaluation().ladder)))
    assert evaluation_page(shuffled, pictures=face) == page
    part = page[page.index('<ol class="ladder') : page.index("</ol>")]
    values = [float(value) for value in re.findall(r"&sigma;&sup2;\xa0([\d.]+)", part)]
    assert values == sorted(values)
    assert len(values) == 14


def test_pictures_are_the_faces_given(page: str) -> None:
    data = re.findall(r'src="data:image/jpeg;base64,([^"]+)" width="112" height="112"', page)
    assert len(data) == 14 + 2 * 8
    first = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(data[0]))), dtype=float)
    assert np.abs(first - face(evaluation().ladder[0].name)).mean() < 4


def test_without_pictures_there_are_no_faces_and_the_page_says_so() -> None:
    page = evaluation_page(evaluation())
    assert "<img" not in page
    assert "made without faces." in page
    assert "person_<wbr>00/<wbr>photo_<wbr>0000.jpg" in page


def test_names_can_be_hidden() -> None:
    page = evaluation_page(evaluation(), names=False)
    assert "made without faces and without names." in page
    assert not re.search(r"person_|photo_", page)
    assert page.count("name hidden") == 14 + 2 * 8
    seen = evaluation_page(evaluation(), pictures=face, names=False)
    assert not re.search(r"person_|photo_", seen)
    assert "made without names." in seen


def test_a_picture_that_is_not_at_hand() -> None:
    def some(name: str) -> Image | None:
        return face(name) if name.startswith("person_00") else None

    page = evaluation_page(evaluation(), pictures=some)
    assert page.count("<img") == 1
    assert page.count("no picture") == 13 + 2 * 8


def test_of_people_who_trained_the_head_no_variance_is_shown() -> None:
    full = evaluation()
    errors = (replace(full.errors[0], sigma_sq_a=None), *full.errors[1:])
    pages = [evaluation_page(results) for results in (full, replace(full, errors=errors))]
    assert [page.count("trained the head</span>") for page in pages] == [0, 1]
    variances = [page.count("<strong>&sigma;&sup2;") for page in pages]
    assert variances == [14 + 2 * 8, 14 + 2 * 8 - 1]
    read(pages[1])
    assert Results.from_json(replace(full, errors=errors).to_json()).errors == errors


def test_results_with_next_to_nothing_still_get_a_page() -> None:
    full = evaluation()
    text = words(evaluation_page(Results("bin", "t", (), full.systems[:1], (), full.provenance)))
    assert "How to read this" in text
    assert "The worst errors" not in text


def test_the_same_results_give_the_same_page_also_through_json(page: str) -> None:
    assert evaluation_page(Results.from_json(evaluation().to_json()), pictures=face) == page


def test_a_name_with_many_rows_is_folded() -> None:
    def fnmr(count: int) -> tuple[Figure, ...]:
        return tuple(Figure("FNMR", "fastmls", 0.01 * n, at={"rejected": 0.01 * n}) for n in range(count))

    eer = Figure("EER", "fastmls", 0.5)
    few = evaluation_page(replace(evaluation(), sections=(Section("s", figures=(*fnmr(12), eer)),)))
    assert "12 rows" not in few
    many = evaluation_page(replace(evaluation(), sections=(Section("s", figures=(*fnmr(13), eer)),)))
    folded = many.split("<details><summary>FNMR: 13 rows</summary>")[1].split("</details>")[0]
    assert folded.count('<th scope="row">') == 13
    assert many.index('<th scope="row">EER') < many.index("FNMR: 13 rows")


def test_reasons_are_told_once_and_of_whom() -> None:
    notes = {"fastmls": "insufficient data: 5 of 10", "cosine": "no such people", "other": "no such people"}
    figures = tuple(Figure("TMR", key, None, note=note) for key, note in notes.items())
    text = words(evaluation_page(replace(evaluation(), sections=(Section("s", figures=figures),))))
    assert "ProbFace, FastMLS: insufficient data 5 of 10" in text
    assert "ProbFace, cosine, Yours & <theirs>: no such people" in text


def test_two_figures_of_one_system_are_compared_without_its_name_twice() -> None:
    ratio = Figure("pAUC", "cosine", 0.3, by="sigma / chance", relation="ratio", against="cosine", unit="area")
    assert "ProbFace, cosine, ratio" in words(
        evaluation_page(replace(evaluation(), sections=(Section("s", "", (ratio,)),)))
    )


def test_errors_of_later_systems_are_folded() -> None:
    results = evaluation()
    more = tuple(replace(error, system="cosine") for error in results.errors[:3])
    page = evaluation_page(replace(results, errors=(*more, *results.errors)))
    part = page[page.index('id="errors"') :]
    assert part.index("<summary>ProbFace, cosine: 3</summary>") > part.index('<ul class="errors">')
    assert part.count('<li class="error">') == len(results.errors) + 3
