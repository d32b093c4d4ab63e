"""`make lcb LCB=FOLDER`: pass rates of the answers of the Language Confusion Benchmark, as a page of the manual.

FOLDER contains the benchmark's `outputs/*.csv` (columns model, completion, task, source, language), gzipped or not.
"""

from __future__ import annotations

import csv
import gzip
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import get_args

import detectors
from detectors import Counts, English, Rates, rates_of
from tlpo_ray.files import atomic_write

PAGE = Path("docs/lcb.md")
WIDTH = 128
"""Longest line of running text, in characters."""
TASKS = ("monolingual", "crosslingual")
TITLES = {"neutral": "English neutral", "confusion": "English is confusion"}
PUBLISHED = {
    "monolingual": ("gpt-3.5-turbo", "command-r", "mistral-8x7b", "llama-2-instruct"),
    "crosslingual": ("gpt-3.5-turbo", "mistral-8x7b", "command-r", "llama-2-instruct"),
}
"""Order of these models in the benchmark's paper by its line-level pass rate, best first. There a line of English is an
error, and words of another language are not. Command R Base is in a separate table of the paper."""
LEGEND = (
    "Rates are means over languages. RPR: share of answers without a confused word, among answers with a word of their "
    "language; RPR of all: among all answers; WPR: share of words without confusion; lines: share of lines without "
    "confusion. Where English is neutral, an all-English answer in a language of another script has no word of its "
    "language, so the two RPR differ; where English is confusion it fails."
)
FIELD_LIMIT = 1 << 30
"""Longest field of a CSV file, in characters: answers may be longer than Python's default allows."""
Key = tuple[str, str, str, English]
"""Model, task, language, English setting."""
Results = Mapping[Key, Sequence[Counts]]
"""The counts of every answer."""


def answers_in(file: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield model, task, language and text of every answer of a file."""
    csv.field_size_limit(FIELD_LIMIT)
    open_file = gzip.open if file.suffix == ".gz" else open
    with open_file(file, "rt", encoding="utf-8", newline="") as lines:  # type: ignore[operator]
        for row in csv.DictReader(lines):
            yield row["model"], row["task"], row["language"], row["completion"] or ""


def count_answers(folder: Path) -> Results:
    """Count the words of every answer under both English settings."""
    results: dict[Key, list[Counts]] = defaultdict(list)
    files = sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")])
    for model, task, language, text in chain.from_iterable(map(answers_in, files)):
        for english in get_args(English):
            counts = detectors.language(language, english).count(text)
            results[model, task, language, english].append(counts)
    return results


def page(results: Results) -> str:
    """Return the page in Markdown."""
    models = sorted({key[0] for key in results})
    languages = sorted({key[2] for key in results})
    introduction = (
        f"{sum(map(len, results.values())) // 2:,} answers of {len(models)} models in {len(languages)} languages "
        f"({', '.join(languages)}), the benchmark's own outputs. Made by `make lcb LCB=FOLDER`; detector "
        f"`{detectors.language('es').version}`. {LEGEND}"
    )
    sections = [
        "# The detectors on the Language Confusion Benchmark",
        textwrap.fill(introduction, WIDTH, break_on_hyphens=False),
        *(_overview(results, models, languages, task) for task in TASKS),
        _order(results, models, languages),
        *(_by_language(results, models, languages, english) for english in get_args(English)),
    ]
    return "\n\n".join(sections) + "\n"


def _rates(results: Results, model: str, tasks: Iterable[str], language: str, english: English) -> Rates:
    return rates_of([counts for task in tasks for counts in results.get((model, task, language, english), [])])


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * mean(known):.1f}" if known else "–"


def _overview(results: Results, models: Sequence[str], languages: Sequence[str], task: str) -> str:
    """Return the section of a task: one table of all models per English setting."""
    parts = [f"## {task.capitalize()}, %"]
    for english in get_args(English):
        rows = []
        for model in models:
            rates = [_rates(results, model, [task], language, english) for language in languages]
            rates = [rate for rate in rates if rate.answers]
            rows.append(
                [
                    model,
                    _mean(rate.rpr for rate in rates),
                    _mean(rate.rpr_of_all for rate in rates),
                    _mean(rate.wpr for rate in rates),
                    _mean(rate.line_pass_rate for rate in rates),
                ]
            )
        parts += [f"{TITLES[english]}:", _table(["model", "RPR", "RPR of all", "WPR", "lines"], rows)]
    return "\n\n".join(parts)


def _order(results: Results, models: Sequence[str], languages: Sequence[str]) -> str:
    """Return the section that compares the order of the models with the published one."""
    items = []
    for task in TASKS:
        rpr = {
            model: mean(
                _rates(results, model, [task], language, "confusion").rpr or 0.0
                for language in languages
                if results.get((model, task, language, "confusion"))
            )
            for model in models
            if model in PUBLISHED[task]
        }
        ours = sorted(rpr, key=lambda model: -rpr[model])
        published = [model for model in PUBLISHED[task] if model in rpr]
        verdict = "the same" if ours == published else "different"
        figures = ", ".join(f"{model} {100 * rpr[model]:.1f}" for model in ours)
        item = f"* {task}: published {' > '.join(published)}; ours is {verdict}: {figures}"
        items.append(textwrap.fill(item, WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    basis = (
        "The published order is by line-level pass rate (Marchisio et al. 2024). Ours is by RPR where English is "
        "confusion, which also fails an answer for one word of another language:"
    )
    return "\n\n".join(
        ["## Against the benchmark's own order", textwrap.fill(basis, WIDTH, break_on_hyphens=False), "\n".join(items)]
    )


def _by_language(results: Results, models: Sequence[str], languages: Sequence[str], english: English) -> str:
    rows = []
    for language in languages:
        rates = [_rates(results, model, TASKS, language, english) for model in models]
        rows.append([language, *(_triple(rate) for rate in rates)])
    title = f"## By language, both tasks, {TITLES[english]}: RPR / WPR / lines, %"
    return f"{title}\n\n{_table(['', *models], rows)}"


def _triple(rates: Rates) -> str:
    return " / ".join(_mean([value]) for value in (rates.rpr, rates.wpr, rates.line_pass_rate))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write the page from the folder that the command line names."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    if not any(folder.glob("*.csv*")) or len(sys.argv) != 2:
        sys.exit("make lcb LCB=FOLDER: FOLDER has to contain the benchmark's answers, outputs/*.csv or *.csv.gz")
    with atomic_write(PAGE) as partial:
        partial.write_text(page(count_answers(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
