"""`tlpo data`: prompts to train on, and preference pairs of a model's own answers to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import ROUNDED
from rich.table import Table
from rich.text import Text

import detectors
from tlpo_ray.commands.detect import english_setting
from tlpo_ray.commands.display import console, marked, step
from tlpo_ray.config.run import DataConfig, DetectorConfig, English
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.data.appendix_b import asks_for_no_code, foreign, names_no_language
from tlpo_ray.data.pairs import PairSet, WholeAnswers, preference_pairs, whole_answers
from tlpo_ray.data.prepare import (
    Example,
    Prepared,
    Rule,
    Spans,
    file_of,
    in_language,
    no_second_time,
    not_longer_than,
    prepare,
)
from tlpo_ray.data.prompts import usual_field
from tlpo_ray.errors import PromptFileError, ResourceError, UserError
from tlpo_ray.files import write_json, write_lines
from tlpo_ray.flow.records import Prompt

BACTRIAN_X = "MBZUAI/Bactrian-X"
ANSWER_FIELD = "output"
"""Bactrian-X's."""
EXCERPT = 80
"""Characters of a dropped prompt that the terminal shows."""
Row = dict[str, Any]
_Sampled = tuple[Sequence[Prompt], WholeAnswers]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRequest:
    """What a user asked `tlpo data prepare` for."""

    source: str
    language: str
    output: Path
    english: str = "neutral"
    max_characters: int = 500
    keep_language_names: bool = False
    keep_code: bool = False
    keep_duplicates: bool = False
    with_answers: bool = False
    prompt_field: str | None = None
    answer_field: str = ANSWER_FIELD
    subset: str | None = None
    split: str = "train"
    skip_bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsRequest:
    """What a user asked `tlpo data pairs` for: `prompts` and `model`, or `answers`."""

    output: Path
    language: str
    prompts: str | None = None
    model: str | None = None
    answers: Path | None = None
    english: str = "neutral"
    samples: int = 16
    temperature: float = 0.7
    max_new_tokens: int = 1024
    engine: str = "vllm"
    limit: int | None = None
    seed: int = 0
    skip_bad: bool = False
    like: str | None = None


def prepare_command(request: PrepareRequest) -> None:
    """Write the prompts that Appendix B keeps, with a report beside them of those that it drops.

    Raises:
        UnknownLanguageError: the language has no detector.
        UserError: the output is there already or cannot be written.
        PromptFileError: the source cannot be read, or nothing of it is kept.
    """
    english = english_setting(request.english)
    profile = detectors.profile(request.language, english)
    report = _free(request.output)
    data = _source(request)
    rules = _rules(request, english, profile)
    with step(f"{data.prompts} · {request.language}"):
        found = prepare(data, rules, request.answer_field if request.with_answers else None)
    if not found.prompts:
        raise PromptFileError(
            f"{data.prompts}: none of {found.read:,} prompts is left (dropped: {dict(found.dropped)}); "
            f"check --language, --prompt-field and the file"
        )
    answers = [{"answer": answer} for answer in found.answers] or [{}] * len(found.prompts)
    rows = (_row(prompt) | more for prompt, more in zip(found.prompts, answers, strict=True))
    _write(request.output, rows, report, _prepare_report(request, data, found, profile.version))
    _show_prepared(found, f"{data.prompts} · {request.language} · English: {english}")
    console.print(f"prompts: {request.output}\nreport:  {report}", soft_wrap=True)


def _source(request: PrepareRequest) -> DataConfig:
    """Where the records are: of a folder the file of this language, of Bactrian-X its subset."""
    subset = request.subset or (request.language if request.source == BACTRIAN_X else None)
    data = DataConfig(
        prompts=file_of(request.source, request.language), language=request.language, subset=subset,
        split=request.split, skip_bad=request.skip_bad,
    )  # fmt: skip
    return data.model_copy(update={"prompt_field": request.prompt_field or usual_field(data)})


def _rules(request: PrepareRequest, english: English, profile: detectors.Profile) -> list[Rule]:
    """Cheap ones first."""

    def foreign_words(prompt: Prompt) -> Spans:
        return [(one.index, one.end) for one in detectors.spans(prompt.text, profile)]

    rules = [in_language(request.language), not_longer_than(request.max_characters)]
    if not request.keep_language_names:
        rules.append(names_no_language(request.language))
    if not request.keep_code:
        rules.append(asks_for_no_code(request.language))
    rules.append(Rule(reject=foreign(english), spans=foreign_words))
    if not request.keep_duplicates:
        rules.append(no_second_time())
    return rules


def _prepare_report(request: PrepareRequest, data: DataConfig, found: Prepared, detector_version: str) -> Row:
    def told(example: Example) -> Row:
        return {"id": example.id, "prompt": example.text, "found": example.found}

    dropped = [
        {"reason": reason, "prompts": number, "examples": [told(one) for one in found.examples[reason]]}
        for reason, number in _by_number(found.dropped)
    ]
    settings = {name: value for name, value in asdict(request).items() if name not in ("source", "output")}
    return {
        "source": data.prompts, "output": str(request.output), "read": found.read, "kept": len(found.prompts),
        "dropped": dropped, "settings": settings | {"prompt_field": data.prompt_field, "subset": data.subset},
        "detector_version": detector_version,
        # To be filled in by hand: this package has no record of the paper's counts.
        "paper_table_3": None,
    }  # fmt: skip


def _show_prepared(found: Prepared, title: str) -> None:
    """Counts by reason, then examples with what was found in them marked."""
    console.print(Text(title, "bold"), soft_wrap=True)
    table = Table(box=ROUNDED)
    for heading in ("prompts", "number", "share"):
        table.add_column(heading, justify="left" if heading == "prompts" else "right")
    counts = [("read", found.read), ("kept", len(found.prompts)), *_by_number(found.dropped)]
    for number, (name, count) in enumerate(counts):
        table.add_row(name, f"{count:,}", f"{count / found.read:.1%}", end_section=number == 1)
    console.print(table)
    for reason, _ in _by_number(found.dropped):
        for example in found.examples[reason]:
            console.print(Text.assemble((f"{reason}: ", "dim"), f"{example.id} ", _excerpt(example)), soft_wrap=True)
    console.print("[dim]counts of the paper's Table 3: not on record here[/dim]")


def _by_number(dropped: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(dropped.items(), key=lambda item: (-item[1], item[0]))


def _excerpt(example: Example) -> Text:
    """One line around the first thing found."""
    first = example.spans[0][0] if example.spans else 0
    start = max(0, first - EXCERPT // 4)
    end = start + EXCERPT
    text = "".join(char if char.isprintable() else " " for char in example.text[start:end])
    spans = [(one - start, min(other, end) - start) for one, other in example.spans if start <= one < end]
    before, after = "…" if start else "", "…" if end < len(example.text) else ""
    return Text(before) + marked(text, spans) + Text(after)


def pairs_command(request: PairsRequest) -> None:
    """Write a clean and a confused answer for every prompt that has both, with a report of the others.

    Raises:
        UnknownLanguageError: the language has no detector.
        ModelError: there is no such model.
        UserError: the request or the answers are wrong, no prompt gives a pair, or the output is there already.
    """
    from tlpo_ray.baselines.examples import clean_judge

    english = english_setting(request.english)
    version = detectors.profile(request.language, english).version
    report = _free(request.output)
    prompts, answers = _kept_answers(request) if _takes_kept(request) else _new_answers(request)
    judge = clean_judge(DetectorConfig(english=english))
    found = preference_pairs(prompts, answers.texts, judge, request.seed)
    counts = _pair_counts(len(prompts), answers, found)
    told = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items())
    if not found.pairs:
        raise UserError(f"no prompt has a clean and a confused answer ({told}): ask more prompts or raise --samples")
    settings = {name: value for name, value in asdict(request).items() if name != "output"}
    _write(
        request.output, map(asdict, found.pairs), report,
        {"output": str(request.output), **counts, "settings": settings, "detector_version": version,
         "stack": stack_versions()},
    )  # fmt: skip
    console.print(f"{told}\npairs:  {request.output}\nreport: {report}", soft_wrap=True)


def _pair_counts(prompts: int, answers: WholeAnswers, found: PairSet) -> dict[str, int]:
    return {
        "prompts": prompts, "pairs": len(found.pairs), "all_clean": found.all_clean,
        "all_confused": found.all_confused, "unanswered": found.unanswered, "answers_cut_off": answers.cut_off,
        "answers_blank": answers.blank,
    }  # fmt: skip


def _takes_kept(request: PairsRequest) -> bool:
    if (request.answers is None) == (request.prompts is None):
        raise UserError("expected either PROMPTS and --model, or --answers with answers that exist already")
    if (request.prompts is None) != (request.model is None):
        raise UserError("PROMPTS need a --model that answers them; --answers takes none")
    return request.answers is not None


def _new_answers(request: PairsRequest) -> _Sampled:
    from tlpo_ray.commands.asking import ask, prompts_to_ask
    from tlpo_ray.evaluation.sampling import Sampling, engine_named

    assert request.prompts is not None and request.model is not None
    sampling = Sampling(
        samples=request.samples, temperature=request.temperature, max_new_tokens=request.max_new_tokens,
        engine=engine_named(request.engine), seed=request.seed,
    )  # fmt: skip
    prompts = prompts_to_ask(
        request.prompts, request.language, request.limit, request.seed, skip_bad=request.skip_bad
    ).prompts
    answers = ask(request.model, prompts, sampling, request.like)
    return prompts, whole_answers((one.prompt_index, one.text, one.finished) for one in answers)


def _kept_answers(request: PairsRequest) -> _Sampled:
    """Answers as `tlpo evaluate --output` keeps them, in the language asked for."""
    from tlpo_ray.evaluation.judge import read_answers

    assert request.answers is not None
    kept = [one for one in read_answers(request.answers, request.language) if one.item.language == request.language]
    prompts: dict[tuple[str, str], Prompt] = {}
    for one in kept:
        if not one.item.prompt:
            raise UserError(f"{request.answers}: answer {one.item.id!r} lacks the field 'prompt'")
        key = (one.item.id, one.item.prompt)
        prompts.setdefault(
            key, Prompt(index=len(prompts), id=one.item.id, language=one.item.language, text=one.item.prompt)
        )
    if not prompts:
        raise UserError(f"{request.answers}: no answer in language {request.language!r}; check --language")
    found = ((prompts[one.item.id, one.item.prompt].index, one.answer, one.finished) for one in kept)
    return list(prompts.values()), whole_answers(found)


def _row(prompt: Prompt) -> Row:
    return {"id": prompt.id, "language": prompt.language, "prompt": prompt.text}


def _free(output: Path) -> Path:
    """Where the report of an output goes; both must be free.

    Raises:
        UserError: the output is no JSONL file, or one of the two is there already.
    """
    if output.suffix != ".jsonl":
        raise UserError(f"--output {output}: expected a name that ends in .jsonl")
    report = output.with_suffix(".report.json")
    for file in (output, report):
        if file.exists():
            raise UserError(f"{file} is there already: choose another --output, or move it away")
    return report


def _write(output: Path, rows: Iterable[Row], report: Path, told: Row) -> None:
    """The report first, so that an output is complete."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(report, told)
        write_lines(output, rows)
    except OSError as error:
        raise ResourceError(f"cannot write to {output}: {error.strerror or error}") from error
