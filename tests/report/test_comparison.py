import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import probface
from probface.contract import InputSpec, ModelContract, ScoreHistogram, Threshold
from probface.errors import StorageError
from probface.report.comparison import comparison_page, write_page
from probface.types import EmbeddedFace, Embeddings, Face, Verification

VOID = {"meta", "img", "br", "hr", "input", "line", "circle", "path"}
HOSTILE = "photos/<script>alert('x')</script>\"&.jpg"


class Checker(HTMLParser):
    """Every tag closed in order; what is fetched, and the words, remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.images_without_text = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.addresses += [values[name] or "" for name in ("src", "href", "action", "poster") if name in values]
        if (tag == "img" and not values.get("alt")) or (tag == "svg" and not values.get("aria-label")):
            self.images_without_text += 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def face(name: str, sigma_sq: float, quality: int, warnings: tuple[str, ...] = ()) -> EmbeddedFace:
    crop = np.random.default_rng(quality).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    mu = np.eye(1, 8, dtype=np.float32)
    found = Face((10, 20, 91, 117), ((1, 1), (2, 1), (1.5, 2), (1, 3), (2, 3)), 0.9312)
    return EmbeddedFace(name, found, crop, Embeddings(mu, np.array([[sigma_sq]], np.float32)), quality, warnings)


def contract() -> ModelContract:
    thresholds = tuple(
        Threshold("fastmls", fmr, score, 1.2 * fmr, 10_881_932, round(fmr * 10_881_932), "held-out")
        for fmr, score in ((1e-2, -1.0234), (1e-3, -0.7712), (1e-5, -0.3111))
    )
    histogram = ScoreHistogram("fastmls", (-2.0, -1.0, 0.0, 1.0), (0.1, 0.2, 0.7), (0.8, 0.2, 0.0), "held-out")
    return ModelContract(
        "test-model",
        8,
        1,
        InputSpec(),
        "ab" * 32,
        "Apache-2.0",
        "MIT",
        "nobody <b>you</b> know",
        thresholds=thresholds,
        histograms=(histogram,),
        data={"held-out": "all pairs of some held-out people"},
    )


def answer(score: float = -0.4217) -> Verification:
    faces = (face("a.jpg", 0.3123, 88), face(HOSTILE, 0.8345, 21, ("face of 14 pixels",)))
    return Verification(score > -0.7712, score, "fastmls", -0.7712, 1e-3, 0.7133, faces)


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def test_the_page_is_whole_and_fetches_nothing() -> None:
    page = comparison_page(answer(), contract(), command="probface verify a b")
    checker = checked(page)
    assert len(checker.addresses) == 2  # the two faces
    assert all(address.startswith("data:image/png;base64,") for address in checker.addresses)
    assert not re.search(r"url\((?!data:|#)|@import|https?://|<script", page)
    assert checker.images_without_text == 0


def test_every_number_is_there() -> None:
    text = " ".join(checked(comparison_page(answer(), contract())).words)
    for expected in (
        *("-0.422", "-0.771", "1 in 1,000", "10,882 of 10,881,932", "0.0012"),
        *("0.3123", "0.8345", "88 of 100", "21 of 100", "0.931", "91 x 117", "face of 14 pixels"),
        *("-1.0234", "-0.7712", "-0.3111", "0.7133", "ab" * 32, "Apache-2.0", probface.__version__),
        "all pairs of some held-out people",
    ):
        assert expected in text, expected


@pytest.mark.parametrize(("score", "title", "passed"), [(-0.4217, "Match", 2), (-1.5, "No match", 0)])
def test_the_verdict_follows_the_threshold(score: float, title: str, passed: int) -> None:
    page = comparison_page(answer(score), contract())
    assert f"<h1>{title}</h1>" in page
    assert page.count("<td>match</td>") == passed
    assert page.count("<td>no match</td>") == 3 - passed


def test_names_cannot_break_out() -> None:
    page = comparison_page(answer(), contract(), command=f"probface verify {HOSTILE}")
    assert "<script" not in page
    assert "<b>you</b>" not in page
    assert HOSTILE in "".join(checked(page).words)


def test_a_model_without_histograms_still_gets_a_page() -> None:
    bare = replace(contract(), histograms=(), data={}, trained_on="")
    text = " ".join(checked(comparison_page(answer(), bare)).words)
    assert "no score distributions" in text
    assert "unknown data" in text


@pytest.mark.parametrize("score", [-40.0, 12.0])
def test_a_score_beyond_the_distributions_stays_within_the_picture(score: float) -> None:
    page = comparison_page(answer(score), contract())
    for value in re.findall(r'class="score" x1="([^"]+)"', page):
        assert 0 <= float(value) <= 720


def test_the_same_comparison_gives_the_same_page() -> None:
    assert comparison_page(answer(), contract()) == comparison_page(answer(), contract())


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        write_page("text", tmp_path / "file" / "page.html")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here: the page is not laid out in a browser")
@pytest.mark.parametrize("width", [360, 1100])
def test_a_browser_lays_the_page_out_without_overflow(tmp_path: Path, width: int) -> None:
    page = comparison_page(answer(), contract())
    framed = (
        f'<!DOCTYPE html><title></title><iframe id="f" width="{width}" height="900" src="page.html"></iframe>'
        "<script>onload = () => { const d = document.getElementById('f').contentDocument;"
        " document.title = [d.documentElement.scrollWidth, d.documentElement.clientWidth,"
        " [...d.images].every(i => i.naturalWidth === 112)].join(' ') }</script>"
    )
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    (tmp_path / "frame.html").write_text(framed, encoding="utf-8")
    command = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--allow-file-access-from-files", "--window-size=1300,1000", f"--user-data-dir={tmp_path / 'profile'}"),
        *("--virtual-time-budget=3000", "--dump-dom", (tmp_path / "frame.html").as_uri()),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    title = re.search(r"<title>(\d+) (\d+) (\w+)</title>", dom)
    assert title, dom[:500]
    assert int(title[1]) <= int(title[2])
    assert title[3] == "true"
