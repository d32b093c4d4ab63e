"""Prompts for training from a dataset: which are kept, and why the others are dropped (`tlpo data prepare`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import detectors
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.appendix_b import asks_for_no_code, names_no_language, rejects_foreign_text
from tlpo_ray.data.conversations import answer_text
from tlpo_ray.data.folders import files_in
from tlpo_ray.data.output import Row, free_report_path, write_output
from tlpo_ray.data.prompts import Reading, each_prompt, usual_field
from tlpo_ray.data.readers import SUFFIXES
from tlpo_ray.data.requests import PrepareRequest
from tlpo_ray.data.rules import OTHER_LANGUAGE, Rule, Spans, in_language, no_duplicates, not_longer_than, user_text
from tlpo_ray.errors import PromptFileError
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener

BACTRIAN_X = "MBZUAI/Bactrian-X"
MAX_EXAMPLES = 3
"""Number of dropped prompts kept as examples per reason."""
NO_ANSWER = "has no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedPrompt:
    """An example of a prompt that was dropped.

    Example: ``DroppedPrompt(id="alpaca-7", text="일본어로 번역하세요.", spans=((0, 3),))``
    """

    id: str
    """The prompt's id; the place of a record that cannot be read."""
    text: str
    """The part of the prompt that the reason looks at; of a record that cannot be read, what is wrong with it."""
    spans: tuple[tuple[int, int], ...] = ()
    """Code points [start, end) of the words that are the reason."""

    @property
    def words(self) -> list[str]:
        """The words that are the reason."""
        return [self.text[start:end] for start, end in self.spans]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilteredPrompts:
    """Prompts that are kept, and an account of the others: `read == len(prompts) + sum(dropped.values())`."""

    prompts: tuple[Prompt, ...]
    """Prompts in the source's order: `prompts[i].index == i`."""
    answers: tuple[str, ...]
    """One answer per prompt; empty if none were requested."""
    read: int
    """Number of records in the source."""
    dropped: Mapping[str, int]
    """Number of dropped prompts by the first reason that applies."""
    examples: Mapping[str, tuple[DroppedPrompt, ...]]
    """First dropped prompts of each reason."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What the user may not expect about the prompts that are kept, with their number (`Reading.notes`)."""

    def reasons(self) -> list[tuple[str, int]]:
        """Return reasons and numbers of dropped prompts, the most frequent reason first."""
        return sorted(self.dropped.items(), key=lambda item: (-item[1], item[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPrompts:
    """What `prepare_prompts` has written."""

    filtered: FilteredPrompts
    source: str
    """File, folder or hub dataset that was read."""
    output: Path
    """JSONL file with the prompts that are kept."""
    report: Path
    """JSON file with counts and examples of the others."""


def prepare_prompts(request: PrepareRequest, progress: ProgressListener = SILENT) -> PreparedPrompts:
    """Write the prompts of a dataset that Appendix B keeps, and a report of those that it drops.

    Raises:
        UnknownLanguageError: No detector exists for the language.
        UserError: The output already exists or has a wrong name.
        PromptFileError: The source cannot be read, or no prompt in it is kept.
        ResourceError: The output cannot be written.
    """
    detector = detectors.language(request.language, request.english)
    report = free_report_path(request.output)
    data = _source(request)
    rules = _rules(request, detector)
    with progress.phase(f"{data.prompts} · {request.language}"):
        filtered = filter_prompts(data, rules, request.answer_field if request.with_answers else None)
    if not filtered.prompts:
        others = {word: None for example in filtered.examples.get(OTHER_LANGUAGE, ()) for word in example.words}
        found = f"; languages found: {', '.join(map(repr, others))}" if others else ""
        raise PromptFileError(
            f"{data.prompts}: none of {filtered.read:,} prompts is left (dropped: {dict(filtered.dropped)}{found}); "
            f"check --language, --prompt-field and the file"
        )
    answers: list[Row] = [{"answer": answer} for answer in filtered.answers] or [{}] * len(filtered.prompts)
    rows = (prompt.to_row() | answer for prompt, answer in zip(filtered.prompts, answers, strict=True))
    write_output(request.output, rows, report, _summary(request, data, filtered, detector.version))
    return PreparedPrompts(filtered=filtered, source=data.prompts, output=request.output, report=report)


def filter_prompts(data: DataConfig, rules: Sequence[Rule], answer_field: str | None = None) -> FilteredPrompts:
    """Read every record of a source and keep the prompts that no rule rejects.

    Args:
        data: source and fields. Its filters, order and limit are those of a run and are not applied here.
        rules: rules in the order in which they are tried.
        answer_field: field of the answer; prompts without one are dropped. None: answers are not read.

    Raises:
        PromptFileError: The source cannot be read, or contains a malformed record and `data.skip_bad` is false.
    """
    prompts: list[Prompt] = []
    answers: list[str] = []
    dropped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    examples: dict[str, list[DroppedPrompt]] = {}
    for reading in each_prompt(data, identify=True):
        answer = _answer(reading, answer_field) if answer_field else None
        rejection = _rejection(reading, rules)
        if rejection is None and answer_field and answer is None:
            rejection = NO_ANSWER, None
        if rejection is None:
            assert reading.prompt is not None
            prompts.append(replace(reading.prompt, index=len(prompts)))
            answers += [] if answer is None else [answer]
            notes.update(reading.notes)
            continue
        reason, rule = rejection
        dropped[reason] += 1
        if dropped[reason] <= MAX_EXAMPLES:
            examples.setdefault(reason, []).append(_example(reading, rule))
    return FilteredPrompts(
        prompts=tuple(prompts),
        answers=tuple(answers),
        read=len(prompts) + dropped.total(),
        dropped=dict(dropped),
        examples={reason: tuple(dropped_prompts) for reason, dropped_prompts in examples.items()},
        notes=dict(notes),
    )


def file_of_language(source: str, language: str) -> str:
    """Return the only file of a folder that is named after the language (Bactrian-X: `ko.json.gz`), else the source."""
    if not source or not Path(source).is_dir():
        return source
    names = {f"{language}{suffix}" for suffix in SUFFIXES}
    files = files_in(Path(source), lambda file: file.name in names)
    return str(files[0]) if len(files) == 1 else source


def _answer(reading: Reading, answer_field: str) -> str | None:
    """Return the answer in a field, or the one that the conversation ended with; None if there is none."""
    given = answer_text((reading.record.fields or {}).get(answer_field))
    return answer_text(reading.answer) if given is None else given


def _rejection(reading: Reading, rules: Sequence[Rule]) -> tuple[str, Rule | None] | None:
    """Return the first reason to drop a record, with the rule that gives it; None if the record is kept."""
    if reading.prompt is None:
        return reading.problem, None
    for rule in rules:
        reason = rule.reject(reading.prompt)
        if reason is not None:
            return reason, rule
    return None


def _example(reading: Reading, rule: Rule | None) -> DroppedPrompt:
    prompt = reading.prompt
    if prompt is None:
        return DroppedPrompt(id=reading.record.place, text=reading.detail)
    if rule is None:
        return DroppedPrompt(id=prompt.id, text=prompt.text)
    return DroppedPrompt(id=prompt.id, text=rule.text(prompt), spans=tuple(rule.spans(prompt)))


def _source(request: PrepareRequest) -> DataConfig:
    """Return where the records are: the language's file in a folder, the language's subset of Bactrian-X."""
    is_bactrian_x = request.source == BACTRIAN_X and not Path(request.source).exists()
    subset = request.subset or (request.language if is_bactrian_x else None)
    data = DataConfig(
        prompts=file_of_language(request.source, request.language), language=request.language, subset=subset,
        split=request.split, skip_bad=request.skip_bad, system_field=request.system_field,
        context_field=request.context_field,
    )  # fmt: skip
    return data.model_copy(update={"prompt_field": request.prompt_field or usual_field(data)})


def _rules(request: PrepareRequest, detector: detectors.LanguageDetector) -> list[Rule]:
    """Return the requested rules, cheap ones first; the order decides under which reason a prompt is counted."""

    def foreign_words(prompt: Prompt) -> Spans:
        return [(finding.start, finding.end) for finding in detectors.spans(user_text(prompt), detector)]

    rules = [in_language(request.language), not_longer_than(request.max_characters)]
    if not request.keep_language_names:
        rules.append(names_no_language(request.language))
    if not request.keep_code:
        rules.append(asks_for_no_code(request.language))
    if not request.keep_foreign:
        rules.append(Rule(reject=rejects_foreign_text(request.english), spans=foreign_words, text=user_text))
    if not request.keep_duplicates:
        rules.append(no_duplicates())
    return rules


def _summary(request: PrepareRequest, data: DataConfig, filtered: FilteredPrompts, detector_version: str) -> Row:
    dropped = [
        {
            "reason": reason,
            "prompts": number,
            "examples": [
                {"id": example.id, "prompt": example.text, "found": example.words}
                for example in filtered.examples[reason]
            ],
        }
        for reason, number in filtered.reasons()
    ]
    settings = {name: value for name, value in asdict(request).items() if name not in ("source", "output")}
    return {
        "source": data.prompts, "output": str(request.output), "read": filtered.read, "kept": len(filtered.prompts),
        "dropped": dropped, "notes": dict(filtered.notes),
        "settings": settings | {"prompt_field": data.prompt_field, "subset": data.subset},
        "detector_version": detector_version,
        # To be filled in by hand: this package has no record of the paper's counts.
        "paper_table_3": None,
    }  # fmt: skip
