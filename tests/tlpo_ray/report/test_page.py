from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.tlpo_ray.report.folders import (
    ATTACK,
    METHODS,
    advantage_json,
    answer,
    comparison,
    group,
    make_experiment,
    make_run,
    row,
    shift_json,
)
from tlpo_ray.commands.report import report_command
from tlpo_ray.config.baseline import load_baseline
from tlpo_ray.config.decoding import RULES
from tlpo_ray.config.load import dump_config
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.files import write_lines
from tlpo_ray.flow.metrics import METRICS, RENAMED_METRICS
from tlpo_ray.report.experiment_figures import ROWS
from tlpo_ray.report.page import Report, write_report
from tlpo_ray.report.probed_figures import UNDECIDED
from tlpo_ray.report.run_page import MAX_POINTS, MAX_QUESTIONS
from tlpo_ray.report.source import RunSource, read_source
from tlpo_ray.report.style import key

RESULT = {
    "rpr_before": 0.74, "rpr_after": 0.991, "wpr_before": 0.93, "wpr_after": 0.998, "accuracy_before": 0.739,
    "accuracy_after": 0.99, "accuracy_any_language_before": 0.997, "updates": 12, "stack": {"torch": "2.13.0"},
}  # fmt: skip


class Page(HTMLParser):
    """Tags, ids, targets and text of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.html = file.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.text = ""
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.targets.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Write the report of an experiment that has everything."""
    folder = tmp_path_factory.mktemp("experiments") / "comparison"
    make_experiment(folder, comparison(), advantage=advantage_json(), shift=shift_json())
    return write_report(folder, folder / "report")


def report_of(folder: Path) -> Page:
    return Page(write_report(folder, folder / "report").page)


def test_a_complete_run(tmp_path: Path) -> None:
    groups = [group(language, confusing=(0,)) for language in ("ko", "ar", "ja")]
    answers = [answer(when, language, 0, confused=when == "before") for when in ("before", "after")
               for language in ("ko", "ar", "ja")]  # fmt: skip
    report = write_report(make_run(tmp_path / "run", groups, answers, result=RESULT, updates=12), tmp_path / "out")
    page = Page(report.page)
    for shown in (
        "99.1 %", "99.8 %", "99.0 %", "73.9 %", "3 of 3 answers were confused", "after it, 0 of 3",
        "50.0 % of probability leads to confusion, 5.0 % after training", "torch 2.13.0", "tlpo train",
    ):  # fmt: skip
        assert shown in page.text, shown
    assert "99.7 %" not in page.text, "accuracy in any language is a different number"
    assert [file.name for file in report.figures] == ["curves.png"]
    assert [file.stem for file in report.tables] == ["before-after", "words", "confusions"]
    for file in (*report.figures, *report.tables, tmp_path / "out" / "figures" / "curves.svg"):
        assert file.stat().st_size > 0
    assert "| ar | рупія | 1 | 0 |" in (tmp_path / "out" / "tables" / "words.md").read_text("utf-8")


def test_a_page_is_self_contained_and_its_ids_are_unique(compared: Report) -> None:
    page = Page(compared.page)
    assert {target for target in page.targets if not target.startswith("#")} == {"data:,"}
    assert len(page.ids) == len(set(page.ids)) > 100
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', page.html))
    assert used and used <= set(page.ids), "every reference within a drawing has its target"
    assert not {"iframe", "object", "embed"} & set(page.tags)
    assert "@import" not in page.html and "url(http" not in page.html


def test_answers_are_escaped(tmp_path: Path) -> None:
    answers = [answer("before", "ko", 0, confused=True), answer("after", "ko", 0, confused=False, text=ATTACK)]
    page = report_of(make_run(tmp_path / ATTACK.replace("/", ""), [group(context=ATTACK)], answers))
    assert page.tags.count("script") == 1 and "img" not in page.tags, "the page's own script and no other"
    assert page.text.count("attacked") >= 2, "shown, not run"
    experiment = make_experiment(
        tmp_path / "e", [row("tlpo", label=ATTACK, rpr=0.9), row("sft", method="sft", rpr=0.8)],
        advantage=advantage_json(), title=ATTACK,
    )  # fmt: skip
    page = report_of(experiment)
    assert "script" not in page.tags and "img" not in page.tags


def test_omissions_are_mentioned(tmp_path: Path) -> None:
    groups = [group(language, number) for language in ("ko", "ar", "ja") for number in range(40)]
    answers = [answer(when, language, number, confused=when == "before") for language in ("ko", "ar", "ja")
               for number in range(100) for when in ("before", "after")]  # fmt: skip
    page = report_of(make_run(tmp_path / "run", groups, answers))
    assert f"Showing {MAX_POINTS} of 120 confusion points, evenly across languages." in page.text
    assert f"Showing {MAX_QUESTIONS} of 300 questions, evenly across languages." in page.text
    shown = re.findall(r'<article class="item" data-language="(\w+)">', page.html)
    assert len(shown) == MAX_POINTS + MAX_QUESTIONS
    assert {language: shown.count(language) for language in shown} == {"ko": 60, "ar": 60, "ja": 60}


def test_a_page_of_long_answers_and_a_long_run_stays_small(tmp_path: Path) -> None:
    answers = [answer(when, "ko", number, confused=when == "before", text="체코의 통화는 чеська" + "긴 대답" * 5000)
               for number in range(150) for when in ("before", "after")]  # fmt: skip
    groups = [group("ko", number, context="아주 긴 문맥 " * 3000) for number in range(80)]
    folder = make_run(tmp_path / "run", groups, answers, updates=5000)
    assert write_report(folder, folder / "report").page.stat().st_size < 3_000_000


def test_a_running_run_is_shown_so_far(tmp_path: Path) -> None:
    page = report_of(make_run(tmp_path / "run", updates=2))
    assert "This run has not ended" in page.text
    assert "sampled answers without a foreign word, first and last update" in page.text
    page = report_of(make_run(tmp_path / "started", updates=0))
    assert "This run has not ended" in page.text and "svg" not in page.tags


def test_a_run_without_a_probe_shows_its_candidates_alone(tmp_path: Path) -> None:
    page = report_of(make_run(tmp_path / "run", [group()], probed=False))
    assert "37.5 % of probability leads to confusion" in page.text
    assert "after training" not in page.text and "lower bar" not in page.text


def test_an_undecided_candidate_is_shown_as_such(tmp_path: Path) -> None:
    decided, undecided = group(), group(number=1)
    undecided.rewards[5] = 0
    assert "· undecided" not in report_of(make_run(tmp_path / "decided", [decided])).text
    page = report_of(make_run(tmp_path / "undecided", [undecided]))
    assert "· undecided" in page.text and page.html.count('"token undecided"') == 1


KINDS = {"clean": "+", "confused": "−", "undecided": "·"}


def test_the_candidates_of_an_experiment_are_of_three_kinds(tmp_path: Path) -> None:
    decided, undecided = advantage_json(), advantage_json()
    undecided["candidates"][5]["reward"] = 0.0
    page = report_of(make_experiment(tmp_path / "decided", comparison(), advantage=decided))
    assert f"{UNDECIDED.glyph}</i> undecided" not in page.html and page.html.count('<span class="confused"><i>') == 1
    page = report_of(make_experiment(tmp_path / "undecided", comparison(), advantage=undecided))
    counts = {kind: page.html.count(f'<span class="{kind}"><i>{sign}</i>') for kind, sign in KINDS.items()}
    assert counts == {"clean": 14, "confused": 1, "undecided": 1}
    assert f"{UNDECIDED.glyph}</i> undecided" in page.html, "in the legend of the figure"


def test_a_log_with_the_metric_names_of_earlier_releases_gives_every_curve(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", result=RESULT, updates=4)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    former = {old: 0.5 for old in RENAMED_METRICS}
    write_lines(folder / "metrics.jsonl", (line | former for line in lines))
    source = read_source(folder)
    assert isinstance(source, RunSource)
    for line in source.metrics:
        assert set(RENAMED_METRICS.values()) <= line.keys() <= METRICS.keys() | {"step", "time"}
    assert [file.name for file in write_report(folder, folder / "report").figures] == ["curves.png"]


def test_a_run_of_another_method_is_reproduced_with_its_own_settings(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", result={"steps": 48, "seconds": {"training": 7.6}})
    config = load_baseline("sft-toy", "quickstart", ["model.path=/models/toy", "trainer.lr=3e-3"])
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    page = report_of(folder)
    assert "SFT run" in page.text and "tlpo baseline config.yaml config.yaml" in page.text
    file = str(folder / "config.yaml")
    assert load_baseline(file, file).trainer == config.trainer, "the command on the page does that"


def test_a_comparison_has_every_figure(compared: Report) -> None:
    assert [file.stem for file in compared.figures] == ["scatter", "over-training", "cost", "shift", "advantage-forms"]
    assert [file.stem for file in compared.tables] == ["comparison", "shift", "advantage-forms"]
    assert all(file.is_file() and file.with_suffix(".svg").is_file() for file in compared.figures)
    text = Page(compared.page).text.replace("\u00a0", " ")
    assert "lose probability: 0.0040 before, 0.0010 after" in text
    assert all(label in text for label in METHODS.values()) and "KL clean, 0.0090 ± 0.0000 nats: DPO" in text


def test_decoding_methods_have_a_row_each(tmp_path: Path) -> None:
    names = ("baseline", "tlpo", "sft", *RULES, "retry")
    rows = [
        row(name, method={"baseline": "none"}.get(name, name), label=f"by {name}", rpr=0.9, accuracy=0.9, wanted=0.5,
            **({"times_plain": 1.5} if name in (*RULES, "retry") else {}))
        for name in names
    ]  # fmt: skip
    report = write_report(make_experiment(tmp_path / "e", rows), tmp_path / "report")
    assert "methods" in [file.stem for file in report.figures]
    svg = (tmp_path / "report" / "figures" / "methods.svg").read_text("utf-8")
    assert all(svg.count(f">by {name}</text>") == len(ROWS) - 1 for name in names), "no panel for what nobody measured"


def test_a_legend_distinguishes_36_things() -> None:
    looks = [key(number, "") for number in range(36)]
    assert len({(look.color, look.marker) for look in looks}) == 36
    assert len({look.color for look in looks[:6]}) == len({look.marker for look in looks[:6]}) == 6


def test_a_figure_without_data_is_left_out(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "few", [row("baseline", method="none", rpr=0.5)])
    report = write_report(folder, folder / "report")
    assert report.figures == () and Page(report.page).tags.count("figure") == 0


def test_a_gain_outside_the_candidates_is_reported_as_such(tmp_path: Path) -> None:
    page = report_of(make_experiment(tmp_path / "e", [row("tlpo", rpr=0.9)], shift=shift_json(beyond_after=0.009)))
    assert "gain probability: 0.0040 before, 0.0090 after" in page.text


def test_ablations_have_their_figures(tmp_path: Path) -> None:
    forms = [row(f"{form}-{way}", axes={"advantage": form, "selection": way}, rpr=0.9, accuracy=0.9)
             for form in ("tlpo", "unweighted", "grpo") for way in ("ranked", "multinomial")]  # fmt: skip
    sizes = [row(f"n{n}", axes={"candidates": n}, rpr=0.9, accuracy=0.9) for n in (16, 2, 8)]
    before = row("baseline", method="none", rpr=0.7, accuracy=0.8)
    folder = make_experiment(tmp_path / "e", [before, *forms, *sizes])
    report = write_report(folder, folder / "report")
    assert [file.stem for file in report.figures] == ["advantage-selection", "over-candidates"]
    svg = (folder / "report" / "figures" / "over-candidates.svg").read_text("utf-8")
    ticks = [tick for tick in re.findall(r">(\d+)</text>", svg) if tick in ("2", "8", "16")]
    assert ticks[:3] == ["2", "8", "16"], "by size"


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "e", [row(name, seconds=3.0) for name in ("tlpo", "other")])
    first = write_report(folder, folder / "report").page.read_bytes()
    assert write_report(folder, folder / "report").page.read_bytes() == first, "the same folder, the same page"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (None, "", r"holds neither a run \(config.yaml\) nor an experiment \(experiment.yaml\)"),
        ("experiment.yaml", "name: x\n", "no trial has ended yet"),
        ("experiment.yaml", "- x\n", "experiment.yaml holds list, expected keys and values"),
        ("config.yaml", "name: [\n", "a file in it is damaged"),
        ("metrics.jsonl", '{"step": 1}\n{"step"\n', "metrics.jsonl line 2: not JSON"),
        ("experiences/groups.parquet", "no parquet", "a file in it is damaged"),
        ("result.json", "[]", "result.json: not a JSON object"),
    ],
)
def test_an_unreadable_folder_is_reported_in_one_line(
    tmp_path: Path, file: str | None, text: str, message: str
) -> None:
    folder = tmp_path / "folder"
    (folder / "experiences").mkdir(parents=True)
    if file is not None:
        (folder / "config.yaml").write_text("name: x\n")
        if file == "experiment.yaml":
            (folder / "results.jsonl").write_text(json.dumps(row("tlpo", rpr=1.0)) if text != "name: x\n" else "")
        (folder / file).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        write_report(folder, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write the report to"):
        write_report(folder, tmp_path / "file" / "report")


def test_the_command_prints_where_everything_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run", result=RESULT)
    report_command(folder, None)
    output = capsys.readouterr().out
    assert str(folder / "report" / "report.html") in output and "before-after.md" in output
    assert (folder / "report" / "report.html").is_file()
