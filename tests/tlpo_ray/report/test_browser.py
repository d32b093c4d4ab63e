"""The report of a real run and of an experiment, opened in a real headless browser, wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import browser
from tests.tlpo_ray.report.test_report import experiment, row
from tlpo_ray.commands.quickstart import quickstart_command
from tlpo_ray.report.page import write_report

pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser.PATH is None, reason=browser.MISSING)]
WIDTHS = (1280, 390)
LIMIT_BYTES = 3 << 20


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "quickstart"
    quickstart_command("local", False, 0, ["data.limit=512", f"folder={folder}"])
    return folder / "report" / "report.html"


@pytest.fixture(scope="module")
def experiment_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    curve = [{"share": n / 9, "rpr": 0.5 + n / 20, "reward": n / 10, "length": 12 + n} for n in range(10)]
    rows = [
        row(name, seed, method, rpr=0.7 + number / 10, wpr=0.9, accuracy=0.99, kl_clean=0.01, seconds=10.0 * number)
        | {"curve": curve}
        for number, (name, method) in enumerate([("baseline", "none"), ("tlpo", "tlpo"), ("grpo", "grpo")])
        for seed in (0, 1)
    ]
    folder = experiment(tmp_path_factory.mktemp("experiment"), rows)
    candidates = [{"token": t, "probability": p, "reward": r, "tlpo": r * p, "unweighted": r, "grpo": r}
                  for t, p, r in (("єн", 0.6, -1.0), ("엔", 0.4, 1.0))]  # fmt: skip
    (folder / "advantage.json").write_text(json.dumps({"prompt": "?", "context": "", "candidates": candidates}))
    return write_report(folder, folder / "report").page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser.PATH, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(chromium: Any, page: Path, width: int, scheme: str = "light") -> tuple[Any, list[str]]:
    """The page in a browser without a network, and what went wrong."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    tab, problems = context.new_page(), []
    tab.on("console", lambda message: problems.append(f"console: {message.text}"))
    tab.on("pageerror", lambda error: problems.append(f"error: {error}"))
    tab.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    tab.goto(page.as_uri())
    return tab, problems


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["run_page", "experiment_page"])
def test_opens_without_errors_network_or_sideways_scrolling(
    chromium: Any, which: str, width: int, scheme: str, request: pytest.FixtureRequest
) -> None:
    page: Path = request.getfixturevalue(which)
    assert page.stat().st_size <= LIMIT_BYTES
    tab, problems = opened(chromium, page, width, scheme)
    assert problems == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("h1").inner_text()
    for drawing in tab.locator("figure svg").all():
        box = drawing.bounding_box()
        assert box["width"] > 200 and box["height"] > 100
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids)), "figures share no ids"


def test_answers_and_points_are_filtered_by_language(chromium: Any, run_page: Path) -> None:
    tab, _ = opened(chromium, run_page, 1280)
    for section in tab.locator("section.filtered").all():
        items = section.locator(".item")
        everything = items.filter(visible=True).count()
        section.locator("button[data-language=ko]").click()
        shown = items.filter(visible=True)
        assert 0 < shown.count() < everything
        assert {item.get_attribute("data-language") for item in shown.all()} == {"ko"}
        section.locator("button[data-language='']").click()
        assert items.filter(visible=True).count() == everything


def test_confusion_is_marked_and_candidates_have_bars(chromium: Any, run_page: Path) -> None:
    tab, _ = opened(chromium, run_page, 1280)
    assert tab.locator("mark").count() > 10
    first = tab.locator(".bars").first
    assert first.locator(".token").count() == 16
    widths = [bar.bounding_box()["width"] for bar in first.locator(".fill").all()]
    assert max(widths) > 20 and len(widths) == 32, "before and after"


def test_it_prints(chromium: Any, run_page: Path, tmp_path: Path) -> None:
    tab, problems = opened(chromium, run_page, 1280)
    tab.emulate_media(media="print")
    assert not tab.locator(".filter").first.is_visible()
    tab.pdf(path=str(tmp_path / "report.pdf"))
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF") and problems == []
