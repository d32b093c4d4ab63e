"""`tlpo evaluate`: sampled answers of one model, and how many of them stay in their language."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from rich.box import ROUNDED
from rich.table import Table

import detectors
from tlpo_ray.commands.detect import english_setting
from tlpo_ray.commands.display import console, step
from tlpo_ray.commands.train import stack_versions
from tlpo_ray.config.run import DataConfig, ModelConfig
from tlpo_ray.data.prompts import PromptSet, read_prompts
from tlpo_ray.evaluation.sampling import Engine, Sampling, asked_model, sampled_answers
from tlpo_ray.flow.errors import PromptFileError, ResourceError, UserError
from tlpo_ray.flow.files import replacing, write_json

if TYPE_CHECKING:
    from actors.worker import Answer

RESULT, ANSWERS = "result.json", "answers.jsonl"
Result = dict[str, object]


def evaluate_command(
    *,
    model: str,
    prompts: str,
    language: str,
    english: str,
    samples: int,
    temperature: float,
    max_new_tokens: int,
    engine: str,
    limit: int | None,
    seed: int,
    skip_bad: bool,
    like: str | None,
    output: Path | None,
) -> None:
    """Sample `samples` answers a prompt, print their rates, and keep both in `output` when given.

    Raises:
        UnknownLanguageError: the language has no detector.
        UserError: an option, the prompts or the model is wrong, or `output` holds a result already.
    """
    setting = english_setting(english)
    profile = detectors.profile(language, setting)
    if output is not None:
        _refuse_used(output)
    asked: Result = {
        "model": model, "prompts": prompts, "language": language, "english": english, "samples": samples,
        "temperature": temperature, "max_new_tokens": max_new_tokens, "engine": engine, "limit": limit, "seed": seed,
        "like": like,
    }  # fmt: skip
    chosen = _prompts(_data(prompts, language, limit, skip_bad), seed)
    sampling = Sampling(
        samples=samples, temperature=temperature, max_new_tokens=max_new_tokens, engine=_engine(engine), seed=seed
    )
    answers = _answers(asked_model(model, max_new_tokens, like), chosen, sampling)
    words = [detectors.count(answer.text, profile) for answer in answers]
    rates = detectors.rates_of(words)
    counts = _counts(answers, chosen)
    console.print(_table(rates, counts, f"{model} · {language} · English: {english}"))
    if output is not None:
        versions = {"detector_version": profile.version, "stack": stack_versions()}
        _keep(output, asked | rates.as_json() | counts | versions, _rows(answers, words, chosen, profile))
        console.print(f"answers: {output / ANSWERS}\nresult:  {output / RESULT}")


def _refuse_used(output: Path) -> None:
    for name in (RESULT, ANSWERS):
        if (output / name).exists():
            raise UserError(f"--output {output} holds a {name} already: choose another folder, or move it away")


def _engine(name: str) -> Engine:
    if name not in get_args(Engine):
        raise UserError(f"--engine {name}: expected {' or '.join(get_args(Engine))}")
    return cast(Engine, name)


def _data(prompts: str, language: str, limit: int | None, skip_bad: bool) -> DataConfig:
    """All prompts of one language, however long; with a limit, a sample of them."""
    return DataConfig(
        prompts=prompts,
        language=language,
        languages=(language,),
        limit=limit,
        shuffle=limit is not None,
        max_characters=sys.maxsize,
        skip_bad=skip_bad,
    )


def _prompts(data: DataConfig, seed: int) -> PromptSet:
    chosen = read_prompts(data, seed)
    if not chosen.prompts:
        raise PromptFileError(f"{data.prompts}: no prompt in language {data.language!r}; check --language and the file")
    return chosen


def _answers(model: ModelConfig, chosen: PromptSet, sampling: Sampling) -> list[Answer]:
    with step(f"{len(chosen.prompts):,} prompts · {model.path} ({sampling.engine})") as spinner:

        def show(done: int, total: int) -> None:
            spinner.update(f"{done:,} of {total:,} prompts · {model.path} ({sampling.engine})")

        return sampled_answers(model, chosen.prompts, sampling, show)


def _counts(answers: Sequence[Answer], chosen: PromptSet) -> Result:
    asked = len({answer.prompt_index for answer in answers})
    tokens = sum(len(answer.token_ids) for answer in answers)
    return {
        "prompts_answered": asked,
        "prompts_too_long": len(chosen.prompts) - asked,
        "prompts_skipped": dict(chosen.skipped),
        "answers_cut_off": sum(not answer.finished for answer in answers),
        "mean_tokens": tokens / len(answers),
    }


def _table(rates: detectors.Rates, counts: Result, title: str) -> Table:
    low, high = rates.rpr_interval or (None, None)
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=ROUNDED)
    table.add_row("RPR", _rate(rates.rpr), f"answers without a confused word; 95 %: {_rate(low)} to {_rate(high)}")
    table.add_row(
        "WPR", _rate(rates.wpr), f"words without confusion; {rates.confused_words:,} of {rates.words:,} confused"
    )
    table.add_row("lines", _rate(rates.line_pass_rate), f"lines without confusion; {rates.lines:,} lines")
    table.add_row(
        "answers", f"{rates.answers:,}", f"{rates.failed:,} confused; to {counts['prompts_answered']:,} prompts"
    )
    table.add_row("empty", f"{rates.empty:,}", "answers without a word of the language; not in the RPR")
    table.add_row("length", f"{counts['mean_tokens']:.1f}", f"tokens on average; {counts['answers_cut_off']:,} cut off")
    if counts["prompts_too_long"]:
        table.add_row("too long", f"{counts['prompts_too_long']:,}", "prompts that leave no room for an answer")
    return table


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _rows(
    answers: Sequence[Answer], words: Sequence[detectors.Counts], chosen: PromptSet, profile: detectors.Profile
) -> list[Result]:
    """One line of `answers.jsonl` an answer, with its first confused word."""
    rows: list[Result] = []
    for answer, count in zip(answers, words, strict=True):
        prompt = chosen.prompts[answer.prompt_index]
        found = detectors.find(answer.text, profile)
        rows.append(
            {
                "id": prompt.id,
                "language": prompt.language,
                "prompt": prompt.text,
                "sample": answer.sample,
                "answer": answer.text,
                "finished": answer.finished,
                "status": count.status,
                "words": count.words,
                "confused_words": count.confused_words,
                "first_confusion": None if found is None else [found.index, found.end],
            }
        )
    return rows


def _keep(output: Path, result: Result, rows: Sequence[Result]) -> None:
    """The answers first, so that a folder with a result is complete."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with replacing(output / ANSWERS) as partial:
            partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        write_json(output / RESULT, result)
    except OSError as error:
        raise ResourceError(f"cannot write to {output}: {error.strerror or error}") from error
