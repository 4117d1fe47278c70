import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import probface
from probface.contract import InputSpec, ModelContract, QualityScale, ScoreHistogram, Threshold
from probface.errors import StorageError
from probface.report.comparison import comparison_page, write_page
from probface.report.drawing import clouds, distributions
from probface.report.wording import one_in, percent
from probface.types import EmbeddedFace, Embeddings, Face, Metric, Verification

VOID = {"meta", "link", "img", "br", "hr", "input", "line", "circle", "path", "stop"}
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
        told = values.get("alt") or values.get("aria-label") or values.get("aria-hidden") == "true"
        if tag in ("img", "svg") and not told and self.open.count("svg") < 2:  # a chart speaks for its parts
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
        quality=QualityScale(-1.2, 0.2),
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


def read(page: str) -> str:
    """The words of a page that is whole, as a reader sees them."""
    return " ".join(" ".join(checked(page).words).split())


def test_the_page_is_whole_and_fetches_nothing() -> None:
    page = comparison_page(answer(), contract(), command="probface verify a b")
    checker = checked(page)
    assert sorted(address.split(",")[0] for address in checker.addresses) == [
        *("data:", "data:image/png;base64", "data:image/png;base64")  # no icon is asked for; the two faces
    ]
    assert not re.search(r"url\((?!data:|#)|@import|https?://|<script", page)
    assert """content="default-src 'none'; img-src data:; style-src 'unsafe-inline'\"""" in page
    assert checker.images_without_text == 0


def test_every_number_is_there() -> None:
    text = read(comparison_page(answer(), contract()))
    for expected in (
        *("-0.422", "-0.771", "1 in 1,000", "10,882 of 10,881,932", "bound: 1 in 833"),
        *("0.3123", "0.8345", "Quality 88 of 100", "Quality 21 of 100", "0.931", "91 × 117 px", "face of 14 pixels"),
        *("0.01", "0.001", "1e-05", "100,000", "83,300", "-1.0234", "-0.7712", "-0.3111", "0.7133"),
        *("0.757", "0.559", "0.914", "ab" * 32, "Apache-2.0", probface.__version__),  # 0.757: sqrt(2 - 2 * 0.7133)
        "all pairs of some held-out people",
        "the true doubt is larger",
    ):
        assert expected in text, expected


def test_the_picture_of_the_clouds_is_to_scale() -> None:
    page = comparison_page(answer(), contract())
    rings = re.findall(r'class="cloud-\w" fill="[^"]*" cx="([^"]+)" cy="[^"]+" r="([^"]+)"', page)
    (first, small), (second, large) = [(float(x), float(radius)) for x, radius in rings]
    assert large / small == pytest.approx((0.8345 / 0.3123) ** 0.5, rel=2e-3)
    assert (second - first) / small == pytest.approx(((2 - 2 * 0.7133) / 0.3123) ** 0.5, rel=5e-3)


@given(
    cosine=st.floats(-1, 1),
    sigma_sq=st.tuples(st.floats(1e-4, 100), st.floats(1e-4, 100)),
)
def test_the_clouds_stay_within_their_picture(cosine: float, sigma_sq: tuple[float, float]) -> None:
    rings = re.findall(r'cx="([^"]+)" cy="([^"]+)" r="([^"]+)"', clouds(sigma_sq, cosine))
    assert len(rings) == 4
    for x, y, radius in (map(float, ring) for ring in rings):
        assert radius - 0.2 <= x <= 360.2 - radius
        assert radius - 0.2 <= y <= 190.2 - radius


def test_the_score_is_placed_among_others() -> None:
    # Of the impostors' shares 0.8, 0.2, 0 over bins of width 1, 0.2 * 0.4217 lie above -0.4217; of the genuine
    # ones' 0.1, 0.2, 0.7, 0.1 + 0.2 * (1 - 0.4217) below it.
    text = read(comparison_page(answer(), contract()))
    assert "Of the pairs of different people, about 8.4 % scored higher" in text
    assert "of the pairs of one person, about 22 % scored lower" in text


@pytest.mark.parametrize(("score", "title", "passed"), [(-0.4217, "Match", 2), (-1.5, "No match", 0)])
def test_the_verdict_follows_the_threshold(score: float, title: str, passed: int) -> None:
    page = comparison_page(answer(score), contract())
    assert f"<h1>{title}</h1>" in page
    assert page.count('aria-current="true"') == 1
    assert page.count("<td>match</td>") == passed
    assert page.count("<td>no match</td>") == 3 - passed


def test_names_cannot_break_out() -> None:
    page = comparison_page(answer(), contract(), command=f"probface verify {HOSTILE}")
    assert "<script" not in page
    assert "<b>you</b>" not in page
    assert checked(page).words.count(HOSTILE) == 2  # at the face and among the images


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        (os.fsdecode(b"photo-\xe9.jpg"), r"photo-\udce9.jpg"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("two\nlines\x00.jpg", r"two\nlines\x00.jpg"),
        ("Zoë  山田.jpg", "Zoë 山田.jpg"),
    ],
    ids=["no UTF-8", "turned direction", "control characters", "letters"],
)
def test_a_name_is_shown_as_what_it_is(tmp_path: Path, name: str, seen: str) -> None:
    asked = answer()
    renamed = replace(asked, faces=(replace(asked.faces[0], source=name), asked.faces[1]))
    write_page(comparison_page(renamed, contract(), command=f"probface verify {name}"), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert read(page).count(seen) == 3  # at the face, among the images, in the command
    assert "\u202e" not in page


def test_a_model_without_histograms_still_gets_a_page() -> None:
    bare = replace(contract(), histograms=(), data={}, trained_on="")
    text = read(comparison_page(answer(), bare))
    assert "no score distributions" in text
    assert "unknown data" in text


def test_a_model_without_thresholds_claims_no_rate() -> None:
    text = read(comparison_page(answer(), replace(contract(), thresholds=())))
    assert "not known how often" in text
    assert "carries no measured thresholds" in text
    assert "1 in" not in text


def test_a_threshold_that_was_not_measured_borrows_no_rate() -> None:
    text = read(comparison_page(replace(answer(), threshold=-0.9), contract()))
    assert "not known how often" in text
    assert "▸ 0.001" not in text


def test_a_bound_that_is_none_is_unknown() -> None:
    entry = replace(contract().thresholds[1], fmr_upper=0.0)
    text = read(comparison_page(answer(), replace(contract(), thresholds=(entry,))))
    assert "bound: 1 in unknown" in text


def test_a_model_without_a_scale_of_quality_shows_no_meter() -> None:
    page = comparison_page(answer(), replace(contract(), quality=None))
    checked(page)
    assert "<meter" not in page
    assert "of 100" not in page


def test_poor_images_are_told_with_the_verdict() -> None:
    good = answer()
    assert "Image B tells little" in comparison_page(good, contract())
    both = replace(good, faces=(replace(good.faces[0], quality=29), good.faces[1]))
    assert "Images A and B tell little" in comparison_page(both, contract())
    none = replace(good, faces=(good.faces[0], good.faces[0]))
    assert "little" not in comparison_page(none, contract())


def test_a_face_given_aligned_has_no_box() -> None:
    asked = answer()
    aligned = replace(asked, faces=(replace(asked.faces[0], face=None), asked.faces[1]))
    assert "given aligned" in read(comparison_page(aligned, contract()))


@pytest.mark.parametrize("metric", ["mls", "cosine"])
def test_other_scores_have_their_page(metric: Metric) -> None:
    thresholds = (replace(contract().thresholds[1], metric=metric),)
    page = comparison_page(replace(answer(), metric=metric), replace(contract(), thresholds=thresholds))
    assert f"{'cosine' if metric == 'cosine' else 'MLS'} score of -0.422" in read(page)
    assert ("the dots alone" in page) is (metric == "cosine")


@given(
    score=st.floats(-1e4, 1e4),
    threshold=st.floats(-1e4, 1e4),
    low=st.floats(-1e3, 1e3),
    width=st.floats(1e-3, 1e4),
)
def test_every_score_stays_within_the_picture(score: float, threshold: float, low: float, width: float) -> None:
    histogram = ScoreHistogram("mls", (low, low + width / 2, low + width), (0.0, 1.0), (1.0, 0.0), "made up")
    picture = distributions(histogram, score, threshold)
    places = re.findall(r' x[12]?="([-\d]+\.\d\d)%', picture)
    assert len(places) >= 3 * 2 + 4  # two markers with labels, and the numbers of the axis
    assert all(2 <= float(place) <= 98 for place in places)
    points = [float(value) for value in re.findall(r"[ML]([-\d.]+),", picture)]
    assert 2 <= min(points) <= max(points) <= 98


def test_a_score_far_off_points_beyond_the_edge() -> None:
    assert "&larr; this pair -40.000" in comparison_page(answer(-40.0), contract())
    assert "this pair 12.000 &rarr;" in comparison_page(answer(12.0), contract())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme: str) -> None:
    """WCAG 2.2, contrast: 4.5 for text, 3 for the lines of a drawing."""
    style = resources.files("probface.report").joinpath("style.css").read_text(encoding="utf-8")
    blocks = [dict(re.findall(r"--(\w+): #(\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)]
    colours = blocks[0] if scheme == "light" else blocks[1]
    assert len(colours) == 10

    def luminance(name: str) -> float:
        channels = np.array([int(colours[name][i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(a: str, b: str) -> float:
        darker, lighter = sorted((luminance(a), luminance(b)))
        return (lighter + 0.05) / (darker + 0.05)

    for text in ("ink", "soft", "accent", "impostor"):
        assert contrast(text, "card") >= 4.5, text
    assert min(contrast("ink", "yes"), contrast("ink", "no"), contrast("ink", "ground")) >= 4.5
    assert min(contrast("genuine", "card"), contrast("genuine", "yes"), contrast("impostor", "no")) >= 3


def test_the_same_comparison_gives_the_same_page() -> None:
    assert comparison_page(answer(), contract()) == comparison_page(answer(), contract())


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1e-5, "100,000"),
        (1e-3, "1,000"),
        (1.0134e-3, "986"),
        (0.010042, "99.5"),
        (0.5, "2"),
        (1.0, "1"),
        (0.0, "unknown"),
    ],
)
def test_a_rate_is_never_told_rarer_than_it_is(rate: float, words: str) -> None:
    assert one_in(rate) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "fewer than 0.1 %"),
        (0.0312, "about 3.1 %"),
        (0.4678, "about 47 %"),
        (0.9951, "about 99.5 %"),
        (1.0, "more than 99.9 %"),
    ],
)
def test_a_share_is_told_no_finer_than_it_is_known(share: float, words: str) -> None:
    assert percent(share) == words


def test_the_version_is_the_callers_to_name() -> None:
    assert "9.8.7-test" in comparison_page(answer(), contract(), version="9.8.7-test")


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        write_page("text", tmp_path / "file" / "page.html")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here: the page is not laid out in a browser")
@pytest.mark.parametrize("width", [360, 720, 1100])
def test_a_browser_lays_the_page_out_without_overflow(tmp_path: Path, width: int) -> None:
    page = comparison_page(answer(), contract())
    framed = (
        f'<!DOCTYPE html><title></title><iframe id="f" width="{width}" height="900" src="page.html"></iframe>'
        "<script>onload = () => { const d = document.getElementById('f').contentDocument;"
        " const wide = [d.documentElement, ...d.querySelectorAll('.table, dl, figure')]"
        ".filter(e => e.scrollWidth > e.clientWidth).map(e => e.tagName);"
        " const letters = [...d.querySelectorAll('svg text')].map(e => e.getBoundingClientRect())"
        ".filter(r => r.width && (r.height < 11 || r.left < 0 || r.right > d.documentElement.clientWidth));"
        " document.title = JSON.stringify({wide, letters,"
        " faces: [...d.images].filter(i => i.naturalWidth === 112).length}) }</script>"
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
    title = re.search(r"<title>(\{.*\})</title>", dom)
    assert title, dom[:500]
    assert json.loads(title[1]) == {"wide": [], "letters": [], "faces": 2}
