"""Reports in a real headless browser, opened as a person does: from disk, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.tlpo_ray.report.folders import (
    ATTACK,
    advantage_json,
    answer,
    comparison,
    group,
    make_experiment,
    make_run,
    shift_json,
)
from tlpo_ray.report.page import write_report

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@dataclass
class Opened:
    """A page in the browser, with its errors and requests."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a page of a run in three languages, with an attack among its answers, and one of an experiment."""
    folder = tmp_path_factory.mktemp("reports")
    groups = [group(language, number) for number in range(8) for language in ("ko", "ar", "ja")]
    answers = [
        answer(when, language, number, confused=when == "before", text=ATTACK if number == 3 else "")
        for number in range(8) for language in ("ko", "ar", "ja") for when in ("before", "after")
    ]  # fmt: skip
    result = {"rpr_before": 0.74, "rpr_after": 0.99, "wpr_before": 0.93, "wpr_after": 0.998, "stack": {"torch": "2"}}
    run = make_run(folder / "run", groups, answers, result=result, updates=12)
    experiment = make_experiment(folder / "e", comparison(), advantage=advantage_json(), shift=shift_json())
    return {"run": write_report(run, folder / "1").page, "experiment": write_report(experiment, folder / "2").page}


def open_page(browser: Any, file: Path, viewport: dict[str, int], **settings: Any) -> Opened:
    page = browser.new_page(viewport=viewport, **settings)
    opened = Opened(page)
    page.on("console", lambda message: opened.errors.append(message.text))
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(file.as_uri())
    return opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["1280", "390"])
@pytest.mark.parametrize("kind", ["run", "experiment"])
def test_a_page_opens_without_an_error_a_request_or_a_sideways_scroll(
    browser: Any, reports: dict[str, Path], kind: str, viewport: dict[str, int], scheme: str
) -> None:
    opened = open_page(browser, reports[kind], viewport, color_scheme=scheme)
    for summary in opened.page.query_selector_all("details:not([open]) > summary"):
        if summary.is_visible():
            summary.click()
    assert opened.errors == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [reports[kind].as_uri()]
    assert opened.page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    assert "attacked" not in opened.page.title()
    paper, ink = opened.page.evaluate("(({backgroundColor: a, color: b}) => [a, b])(getComputedStyle(document.body))")
    assert (contrast(paper, ink) > 10) and (luminance(paper) < 0.1) == (scheme == "dark")
    opened.page.close()


@pytest.mark.parametrize("kind", ["run", "experiment"])
def test_a_page_is_at_most_3_mb(reports: dict[str, Path], kind: str) -> None:
    assert reports[kind].stat().st_size <= 3_000_000


def visible(page: Any, section: int) -> list[str]:
    items = page.query_selector_all(".filtered")[section].query_selector_all(".item")
    return [item.get_attribute("data-language") for item in items if item.is_visible()]


def test_the_filter_shows_one_language_everywhere_and_all_items_on_demand(
    browser: Any, reports: dict[str, Path]
) -> None:
    page = open_page(browser, reports["run"], DESKTOP).page
    last = len(page.query_selector_all(".filtered")) - 1
    assert last == 3, "words, confusions, answers, points"
    assert visible(page, last) == ["ko", "ar", "ja", "ko", "ar", "ja"], "the first few"
    page.get_by_role("button", name="Arabic").click()
    assert [set(visible(page, section)) for section in range(4)] == [{"ar"}] * 4
    assert visible(page, last) == ["ar"] * 6
    page.get_by_role("button", name="show all 8").last.click()
    assert visible(page, last) == ["ar"] * 8
    assert page.get_by_role("button", name="Arabic").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="all languages").click()
    assert sorted(set(visible(page, last))) == ["ar", "ja", "ko"] and len(visible(page, last)) == 24
    page.close()


def test_the_filter_works_with_the_keyboard(browser: Any, reports: dict[str, Path]) -> None:
    page = open_page(browser, reports["run"], PHONE).page
    page.get_by_role("button", name="Korean").focus()
    page.keyboard.press("Enter")
    assert set(visible(page, 2)) == {"ko"}
    page.close()


def test_arabic_answers_are_set_from_right_to_left(browser: Any, reports: dict[str, Path]) -> None:
    page = open_page(browser, reports["run"], DESKTOP).page
    directions = (
        "Array.from(document.querySelectorAll('dd[lang=LANG]'), (answer) => getComputedStyle(answer).direction)"
    )
    arabic = page.evaluate(directions.replace("LANG", "ar"))
    assert arabic.count("rtl") == len(arabic) - 2, "all but the two of the attack, which is Latin"
    assert set(page.evaluate(directions.replace("LANG", "ja"))) == {"ltr"}
    page.close()


def test_without_scripts_everything_is_shown_and_no_button_is_dead(browser: Any, reports: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(reports["run"].as_uri())
    assert page.locator("article.item:visible").count() == 48
    assert page.locator("button:visible").count() == 0
    context.close()


@pytest.mark.parametrize("kind", ["run", "experiment"])
def test_a_page_can_be_printed(browser: Any, reports: dict[str, Path], kind: str) -> None:
    page = open_page(browser, reports[kind], DESKTOP, color_scheme="dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".filter:visible, .more:visible").count() == 0
    assert page.pdf(format="A4")[:5] == b"%PDF-"
    # A sheet is 210 mm wide minus margins; what does not fit is cut off on paper.
    page.set_viewport_size({"width": 718, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    page.close()


def luminance(color: str) -> float:
    """Return the relative luminance (0 to 1) of `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in color[4:-1].split(",")]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(color: str, other: str) -> float:
    low, high = sorted((luminance(color), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(browser: Any, reports: dict[str, Path], scheme: str) -> None:
    page = open_page(browser, reports["run"], DESKTOP, color_scheme=scheme).page
    for selector in (
        ".note",
        ".label",
        ".was",
        "mark",
        ".asked",
        ".token.clean",
        ".token.confused",
        ".value",
        "thead th",
    ):
        ink, paper = page.evaluate(
            """(selector) => {
                let at = document.querySelector(selector);
                const ink = getComputedStyle(at).color;
                while (getComputedStyle(at).backgroundColor === "rgba(0, 0, 0, 0)") at = at.parentElement;
                return [ink, getComputedStyle(at).backgroundColor];
            }""",
            selector,
        )
        assert contrast(ink, paper) >= 4.5, f"{selector}: {ink} on {paper}"
    page.close()
