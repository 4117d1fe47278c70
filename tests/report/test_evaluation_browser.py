"""The page of an evaluation in a real browser: what a script does, and that all is there without one."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation_results import evaluation, face
from probface.eval.results import Chart, ChartAxis, Section, Series
from probface.report.charts import Plot
from probface.report.evaluation import evaluation_page, write_page
from probface.report.evaluation_wording import reading

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here: the page is not tried in a browser")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page is not tried in a browser"),
]
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
]
WIDE = """() => [...document.querySelectorAll('main *')].filter(e => !e.closest('.table, svg, .unseen, thead'))
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1
            || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline' && !e.matches('button'))
  .map(e => e.outerHTML.slice(0, 100))"""
LETTERS = """() => [...document.querySelectorAll('.lines text')].map(e => [e, e.getBoundingClientRect()])
  .filter(([e, r]) => r.width && (r.left < 0 || r.right > document.documentElement.clientWidth || r.height < 11))
  .map(([e, r]) => e.textContent)"""
CROWDED = """() => [...document.querySelectorAll('.lines')].flatMap(svg => {
  const boxes = [...svg.querySelectorAll('text[text-anchor=middle]')].map(e => e.getBoundingClientRect())
    .filter(r => r.width);
  return boxes.slice(1).filter((r, i) => r.left < boxes[i].right).map(() => svg.getAttribute('aria-label')) })"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET, headless=True)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(evaluation_page(evaluation(), pictures=face), path)
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """Opens the page; afterwards nothing has been complained of, and nothing asked for but the page itself."""
    contexts, complaints, requests = [], [], []

    def open_page(width: int = 1280, **settings):
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("**/*", lambda route: (requests.append(route.request.url), route.continue_()))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} <= {address}


def card(page, title: str):
    return page.locator("figure.chart-card").filter(has=page.locator("h3", has_text=re.compile(f"^{title}$")))


def chart(title: str) -> tuple[Chart, Plot]:
    charts = [chart for section in evaluation().sections for chart in section.charts if chart.title == title]
    order = {system.key: place for place, system in enumerate(evaluation().systems)}
    return charts[0], Plot.of(charts[0], order)


def told(figure) -> tuple[str, list[str]]:
    values = figure.locator(".keys .value").all_text_contents()
    return figure.locator(".readout").text_content(), values


def expected(title: str, x: float) -> tuple[str, list[str]]:
    drawn, plot = chart(title)
    ys = [plot.read(series, x) for series in drawn.series]
    values = ["–" if y is None else reading(y, plot.y.percent) for y in ys]
    return f"{drawn.x.label}: {reading(x, plot.x.percent)}", values


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_overflows(opened, width: int) -> None:
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(WIDE) == []
    assert page.evaluate(LETTERS) == []
    assert page.evaluate(CROWDED) == []
    faces = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert faces == [112] * (14 + 16)


@pytest.mark.parametrize("title", ["ROC", "DET", "CMC", "Scores", "Reliability", "Among distractors"])
def test_a_pointer_reads_the_nearest_point(opened, title: str) -> None:
    page = opened()
    figure = card(page, title)
    height = page.evaluate("document.documentElement.scrollHeight")
    cursor = figure.locator(".cursor")
    cursor.scroll_into_view_if_needed()
    box = cursor.bounding_box()
    drawn, plot = chart(title)
    stops = sorted({x for series in drawn.series for x in series.x})
    for share in (0.02, 0.31, 0.66, 0.97):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        x = min(stops, key=lambda stop: abs(plot.x.place(stop) - 100 * share))
        assert told(figure) == expected(title, x)
        line = figure.locator(".crossline").bounding_box()
        assert line["x"] - box["x"] == pytest.approx(plot.x.place(x) / 100 * box["width"], abs=1.5)
    assert page.evaluate("document.documentElement.scrollHeight") == height  # nothing jumps under the pointer
    page.mouse.move(0, 0)
    assert "Point at the chart" in told(figure)[0]
    assert not figure.locator(".cross").is_visible()


def test_a_finger_reads_too(opened) -> None:
    page = opened(390, has_touch=True, is_mobile=True)
    figure = card(page, "ROC")
    figure.locator(".cursor").scroll_into_view_if_needed()
    figure.locator(".cursor").tap()
    words, values = told(figure)
    assert words.startswith("FMR: ")
    assert all(value.endswith("%") for value in values)


def test_arrow_keys_move_the_readout(opened) -> None:
    page = opened()
    figure = card(page, "Risk-controlled accuracy")
    cursor = figure.locator(".cursor")
    cursor.focus()
    assert cursor.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    xs = (0.0, 0.1, 0.2, 0.3)
    for key, x in (("ArrowRight", 0), ("ArrowRight", 1), ("ArrowUp", 2), ("ArrowLeft", 1), ("End", 3),
                   ("ArrowRight", 3), ("Home", 0), ("PageUp", 1)):  # fmt: skip
        page.keyboard.press(key)
        assert told(figure) == expected("Risk-controlled accuracy", xs[x]), key
    spoken = cursor.get_attribute("aria-valuetext").replace("\u00a0", " ")
    assert spoken == "comparisons set aside: 10 %. ProbFace, FastMLS 98.62 %, ProbFace, cosine 98.33 %"
    page.keyboard.press("Escape")
    assert "Point at the chart" in told(figure)[0]


def test_a_step_is_wide_enough_to_see(opened) -> None:
    page = opened()
    figure = card(page, "ROC")
    figure.locator(".cursor").focus()
    steps = 0
    while steps < 300 and told(figure)[0] != "FMR: 100\u00a0%":
        page.keyboard.press("ArrowRight")
        steps += 1
    assert 50 <= steps <= 101


def test_the_legend_hides_a_curve_and_brings_it_back(opened) -> None:
    page = opened()
    figure = card(page, "ROC")
    button, curve = figure.locator(".keys button").nth(1), figure.locator("g.series").nth(1)
    assert curve.is_visible()
    button.focus()
    page.keyboard.press("Enter")
    assert not curve.is_visible()
    assert figure.locator("g.series").nth(0).is_visible()
    assert button.get_attribute("aria-pressed") == "false"
    figure.locator(".cursor").hover()
    assert told(figure)[1][1] == ""
    assert all(told(figure)[1][place] for place in (0, 2))
    for place in (0, 2):
        figure.locator(".keys button").nth(place).click()
    figure.locator(".cursor").hover()  # nothing left to read
    assert "Point at the chart" in told(figure)[0]
    button.click()
    assert curve.is_visible()
    assert button.get_attribute("aria-pressed") == "true"


PASTE = "() => { const t = document.createElement('textarea'); document.body.append(t); t.focus(); }"


@pytest.mark.parametrize("clipboard", [True, False])
def test_a_threshold_is_copied(opened, clipboard: bool) -> None:
    page = opened()
    if not clipboard:
        page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    else:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.locator("button[data-copy]").nth(3)
    wanted = page.locator(f"#{button.get_attribute('data-copy')}").text_content()
    button.click()
    page.locator(".status", has_text="Copied").wait_for()
    page.evaluate(PASTE)
    page.keyboard.press("Control+V")
    assert page.locator("textarea").input_value() == wanted


def test_a_threshold_that_cannot_be_copied_is_selected(opened) -> None:
    page = opened()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.evaluate("document.execCommand = () => false")
    button = page.locator("button[data-copy]").nth(3)
    button.click()
    page.locator(".status", has_text="press Ctrl+C").wait_for()
    wanted = page.locator(f"#{button.get_attribute('data-copy')}")
    assert wanted.is_visible()
    assert page.evaluate("getSelection().toString()").split() == wanted.text_content().split()


def test_without_a_script_all_is_there(opened) -> None:
    page = opened(java_script_enabled=False)
    total = sum(len(section.charts) for section in evaluation().sections)
    assert page.locator("figure .lines").count() == total
    assert all(page.locator("figure .lines").nth(place).is_visible() for place in range(total))
    assert page.locator("pre").first.is_visible()
    assert [button for button in page.locator("button").all() if button.is_visible()] == []
    assert not page.locator(".readout").first.is_visible()
    page.locator("summary", has_text="The other thresholds").click()
    assert all(text.is_visible() for text in page.locator("pre").all())
    numbers = card(page, "ROC").locator("details")
    numbers.locator("summary").click()
    assert numbers.locator("tbody tr").count() == 21


def test_every_chart_is_printed(opened) -> None:
    page = opened()
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    page.emulate_media(media="print")
    for figure in page.locator("figure.chart-card").all():
        assert figure.locator(".curve").first.bounding_box()["width"] > 0
        assert figure.locator(".lines").bounding_box()["height"] > 100
        assert not figure.locator(".readout").is_visible()
    assert not page.locator("button[data-copy]").first.is_visible()
    page.set_viewport_size({"width": 718, "height": 1000})  # an A4 sheet between its margins
    cut = "[...document.querySelectorAll('.table')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert page.evaluate(cut) == 0
    assert page.evaluate(CROWDED) == []


def test_the_dark_page_is_dark_and_legible(opened) -> None:
    page = opened(color_scheme="dark")
    dim = """() => {
      const channels = text => text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      const luminance = text => { const [r, g, b] = channels(text); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const ground = e => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor; if (c !== 'rgba(0, 0, 0, 0)') return c; } };
      const svg = e => e.closest('svg') !== null;
      return [...document.querySelectorAll('main *')]
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
        .map(e => { const style = getComputedStyle(e);
          const [a, b] = [luminance(svg(e) ? style.fill : style.color), luminance(ground(e))].sort((x, y) => x - y);
          return [(b + 0.05) / (a + 0.05), e.outerHTML.slice(0, 90)]; })
        .filter(([contrast]) => contrast < 4.5); }"""
    assert page.evaluate(dim) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 22, 27)"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(dim) == []


def test_hard_curves_are_read_alike_by_script_and_python(browser, tmp_path: Path) -> None:
    hard = Chart(
        "det", "hard", "", ChartAxis("FMR", "log", True), ChartAxis("FNMR", "log", True),
        (Series("falls to 0", (1e-6, 1e-4, 0.2), (0.99998, 0.031, 0.0), "fastmls"),
         Series("jumps", (1e-5, 1e-3, 1e-3, 0.5), (0.4, 0.2, 0.1, 0.05), "cosine"), Series("empty", (), ())),
    )  # fmt: skip
    results = evaluation()
    page_text = evaluation_page(
        type(results)("bin", "t", (), results.systems, (Section("s", charts=(hard,)),), results.provenance)
    )
    write_page(page_text, tmp_path / "hard.html")
    page = browser.new_page()
    page.goto((tmp_path / "hard.html").as_uri())
    page.locator(".cursor").focus()
    plot = Plot.of(hard, {"fastmls": 0, "cosine": 1})
    for x in (1e-6, 1e-5, 1e-4, 1e-3, 0.2, 0.5):
        page.keyboard.press("ArrowRight")
        ys = [plot.read(series, x) for series in hard.series]
        values = ["–" if y is None else reading(y, percent=True) for y in ys]
        assert told(page.locator("figure")) == (f"FMR: {reading(x, percent=True)}", values)
    page.close()
