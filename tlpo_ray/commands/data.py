"""`tlpo data`: prompts for a run by Appendix B, and preference pairs of a model's own answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.box import ROUNDED
from rich.table import Table

import detectors
from tlpo_ray.commands.detect import english_setting
from tlpo_ray.commands.display import console, step
from tlpo_ray.commands.train import foreign
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.appendix_b import about_code, names_a_language, repeated
from tlpo_ray.data.pairs import PairSet, preference_pairs
from tlpo_ray.data.prompts import PromptSet, Reject, read_prompts
from tlpo_ray.evaluation.judge import read_answers
from tlpo_ray.evaluation.sampling import Sampling, asked_model, sampled_answers
from tlpo_ray.flow.errors import ResourceError, UserError
from tlpo_ray.flow.files import write_json, write_lines
from tlpo_ray.flow.records import Prompt

EXAMPLES = 3
"""Prompts shown of each reason."""
SHOWN_CHARACTERS = 60


def prepare_command(data: DataConfig, output: Path, *, languages: bool, code: bool, duplicates: bool) -> None:
    """Write the prompts that Appendix B keeps, and say what was dropped and why.

    Args:
        data: where they come from; one language.
        languages: keep prompts that name a language.
        code: keep prompts about code.
        duplicates: keep prompts that repeat another.

    Raises:
        UserError: the source cannot be read, no prompt is left, or `output` exists already.
    """
    assert data.language is not None
    detectors.profile(data.language)
    _refuse_existing(output)
    rejects: list[Reject] = [foreign("neutral")]
    rejects += [] if languages else [names_a_language]
    rejects += [] if code else [about_code]
    rejects += [] if duplicates else [repeated()]
    examples: dict[str, list[str]] = {}

    def reject(prompt: Prompt) -> str | None:
        reason = next((said for one in rejects if (said := one(prompt)) is not None), None)
        if reason is not None and len(shown := examples.setdefault(reason, [])) < EXAMPLES:
            shown.append(prompt.text)
        return reason

    with step(f"{data.prompts} · {data.language}"):
        found = read_prompts(data, 0, reject)
    if not found.prompts:
        raise UserError(f"{data.prompts}: none of {found.total} prompts is left ({dict(found.skipped)})")
    _write(output, found, examples, data)
    console.print(_table(found, examples, data.language))
    console.print(f"prompts: {output}\nreport:  {_report_file(output)}", soft_wrap=True)


def pairs_command(
    prompts: DataConfig, output: Path, english: str, answers: Path | None, model: str | None, like: str | None,
    sampling: Sampling,
) -> None:  # fmt: skip
    """Write preference pairs of answers that a model samples now, or that `tlpo evaluate --output` kept.

    Raises:
        UserError: neither or both of `answers` and `model` are given, no pair is left, or `output` exists already.
    """
    setting = english_setting(english)
    if (answers is None) == (model is None):
        raise UserError("expected one of --model (its answers are sampled) and --answers (they were kept)")
    _refuse_existing(output)
    asked = read_prompts(prompts, sampling.seed).prompts
    given = _kept(answers, asked) if answers is not None else _sampled(model or "", asked, like, sampling)

    def is_clean(prompt: Prompt, answer: str) -> bool:
        return detectors.find(answer, detectors.profile(prompt.language, setting)) is None

    found = preference_pairs(asked, given, is_clean, sampling.seed)
    if not found.pairs:
        raise UserError(f"no pair from {len(asked)} prompts: {_counts(found)}")
    _write_rows(output, [asdict(pair) for pair in found.pairs])
    console.print(f"{len(found.pairs):,} pairs from {len(asked):,} prompts; {_counts(found)}\npairs: {output}")


def _sampled(model: str, asked: Sequence[Prompt], like: str | None, sampling: Sampling) -> dict[int, list[str]]:
    given: dict[int, list[str]] = {}
    with step(f"{len(asked):,} prompts × {sampling.samples} answers · {model} ({sampling.engine})"):
        for answer in sampled_answers(asked_model(model, sampling.max_new_tokens, like), asked, sampling):
            given.setdefault(answer.prompt_index, []).append(answer.text)
    return given


def _kept(answers: Path, asked: Sequence[Prompt]) -> dict[int, list[str]]:
    by_id: dict[str, list[str]] = {}
    for one in read_answers(answers, None):
        by_id.setdefault(one.item.id, []).append(one.answer)
    return {prompt.index: by_id[prompt.id] for prompt in asked if prompt.id in by_id}


def _counts(found: PairSet) -> str:
    return (
        f"{found.all_clean:,} prompts had only clean answers, {found.all_confused:,} only confused ones, "
        f"{found.unanswered:,} none"
    )


def _refuse_existing(output: Path) -> None:
    if output.exists():
        raise UserError(f"--output {output} exists already: choose another name, or move it away")


def _report_file(output: Path) -> Path:
    return output.with_suffix(".report.json")


def _write(output: Path, found: PromptSet, examples: dict[str, list[str]], data: DataConfig) -> None:
    rows = [{"id": prompt.id, "language": prompt.language, "prompt": prompt.text} for prompt in found.prompts]
    _write_rows(output, rows)
    report = {
        "source": data.prompts, "language": data.language, "read": found.total, "kept": len(found.prompts),
        "dropped": dict(found.skipped), "examples": examples,
    }  # fmt: skip
    write_json(_report_file(output), report)


def _write_rows(output: Path, rows: Sequence[object]) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_lines(output, rows)
    except OSError as error:
        raise ResourceError(f"cannot write {output}: {error.strerror or error}") from error


def _table(found: PromptSet, examples: dict[str, list[str]], language: str) -> Table:
    table = Table(title=f"prompts in {language}", title_justify="left", title_style="bold", box=ROUNDED)
    table.add_column("")
    table.add_column("prompts", justify="right")
    table.add_column("for example")
    for reason, number in sorted(found.skipped.items(), key=lambda item: -item[1]):
        shown = "\n".join(_short(text) for text in examples.get(reason, []))
        table.add_row(reason, f"{number:,}", shown, end_section=True)
    table.add_row("kept", f"{len(found.prompts):,}", f"of {found.total:,}")
    return table


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}…"
