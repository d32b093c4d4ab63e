"""`make lcb LCB=FOLDER`: pass rates of the answers to the Language Confusion Benchmark, as a page of the manual.

FOLDER holds the benchmark's `outputs/*.csv` (columns model, completion, task, source, language), packed or not.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import get_args

from detectors import Counts, English, Rates, count, profile, rates_of
from tlpo_ray.files import replacing

PAGE = Path("docs/lcb.md")
TASKS = ("monolingual", "crosslingual")
NAMES = {"neutral": "English neutral", "confusion": "English is confusion"}
PUBLISHED = {
    "monolingual": ("gpt-3.5-turbo", "command-r", "mistral-8x7b", "llama-2-instruct"),
    "crosslingual": ("gpt-3.5-turbo", "mistral-8x7b", "command-r", "llama-2-instruct"),
}
"""The order of these models in the benchmark's paper by its line-level pass rate, best first; in it a line of English
is an error, and words of another language are none. Command R Base is in another table there."""
LEGEND = (
    "Means over languages. RPR: answers without a confused word among those with a word of their language; RPR of all: "
    "among all answers; WPR: words without confusion; lines: lines without confusion. Where English is neutral, an "
    "all-English answer in a language of another script has no word of its language, so the two RPR differ; where "
    "English is confusion it fails."
)
FIELD_LIMIT = 1 << 30
Key = tuple[str, str, str, English]
"""Model, task, language, setting."""


def answers_in(file: Path) -> Iterator[tuple[str, str, str, str]]:
    """Model, task, language and text of every answer of a file."""
    csv.field_size_limit(FIELD_LIMIT)
    opens = gzip.open if file.suffix == ".gz" else open
    with opens(file, "rt", encoding="utf-8", newline="") as lines:  # type: ignore[operator]
        for row in csv.DictReader(lines):
            yield row["model"], row["task"], row["language"], row["completion"] or ""


def counted(folder: Path) -> dict[Key, list[Counts]]:
    """The words of every answer, in both settings."""
    found: dict[Key, list[Counts]] = defaultdict(list)
    files = sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")])
    for model, task, language, text in chain.from_iterable(map(answers_in, files)):
        for english in get_args(English):
            found[model, task, language, english].append(count(text, profile(language, english)))
    return found


def page(found: dict[Key, list[Counts]]) -> str:
    """The page in Markdown."""
    models = sorted({key[0] for key in found})
    languages = sorted({key[2] for key in found})
    return (
        "\n\n".join(
            [
                "# The detectors on the Language Confusion Benchmark",
                f"{sum(map(len, found.values())) // 2:,} answers of {len(models)} models in {len(languages)} languages "
                f"({', '.join(languages)}), the benchmark's own outputs. Made by `make lcb LCB=FOLDER`; detector "
                f"`{profile('es').version}`. {LEGEND}",
                *(_overview(found, models, languages, task) for task in TASKS),
                _order(found, models, languages),
                *(_by_language(found, models, languages, english) for english in get_args(English)),
            ]
        )
        + "\n"
    )


def _rates(found: dict[Key, list[Counts]], model: str, tasks: Iterable[str], language: str, english: English) -> Rates:
    return rates_of([one for task in tasks for one in found.get((model, task, language, english), [])])


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * mean(known):.1f}" if known else "–"


def _overview(found: dict[Key, list[Counts]], models: Sequence[str], languages: Sequence[str], task: str) -> str:
    rows = []
    for model in models:
        cells = [model]
        for english in get_args(English):
            rates = [_rates(found, model, [task], language, english) for language in languages]
            rates = [rate for rate in rates if rate.answers]
            cells += [
                _mean(rate.rpr for rate in rates),
                _mean(rate.rpr_of_all for rate in rates),
                _mean(rate.wpr for rate in rates),
                _mean(rate.line_pass_rate for rate in rates),
            ]
        rows.append(cells)
    columns = ("RPR", "RPR of all", "WPR", "lines")
    head = ["model", *(f"{english}: {name}" for english in get_args(English) for name in columns)]
    return f"## {task.capitalize()}, %\n\n{_table(head, rows)}"


def _order(found: dict[Key, list[Counts]], models: Sequence[str], languages: Sequence[str]) -> str:
    lines = []
    for task in TASKS:
        rpr = {
            model: mean(_rates(found, model, [task], language, "confusion").rpr or 0.0 for language in languages
                        if found.get((model, task, language, "confusion")))
            for model in models if model in PUBLISHED[task]
        }  # fmt: skip
        ours = sorted(rpr, key=lambda model: -rpr[model])
        published = [model for model in PUBLISHED[task] if model in rpr]
        verdict = "the same" if ours == published else "another"
        figures = ", ".join(f"{model} {100 * rpr[model]:.1f}" for model in ours)
        lines.append(f"* {task}: published {' > '.join(published)}; ours is {verdict}: {figures}")
    return (
        "## Against the benchmark's own order\n\n"
        "By line-level pass rate in the benchmark's paper (Marchisio et al. 2024), and by our RPR where English is "
        "confusion, which also fails an answer for one word of another language:\n\n" + "\n".join(lines)
    )


def _by_language(
    found: dict[Key, list[Counts]], models: Sequence[str], languages: Sequence[str], english: English
) -> str:
    rows = []
    for language in languages:
        rates = [_rates(found, model, TASKS, language, english) for model in models]
        rows.append([language, *(_triple(rate) for rate in rates)])
    title = f"## By language, both tasks, {NAMES[english]}: RPR / WPR / lines, %"
    return f"{title}\n\n{_table(['', *models], rows)}"


def _triple(rates: Rates) -> str:
    return " / ".join(_mean([value]) for value in (rates.rpr, rates.wpr, rates.line_pass_rate))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    if not any(folder.glob("*.csv*")) or len(sys.argv) != 2:
        sys.exit("make lcb LCB=FOLDER: the folder of the benchmark's answers, outputs/*.csv or *.csv.gz")
    with replacing(PAGE) as partial:
        partial.write_text(page(counted(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
