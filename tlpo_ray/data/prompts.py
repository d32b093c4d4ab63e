"""The prompts of a run: read from records, filtered, and put into the run's order, with every record accounted for."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from detectors import code_or_name, selected
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.readers import read_records
from tlpo_ray.data.spool import write_prompts
from tlpo_ray.data.tables import Record
from tlpo_ray.errors import PromptFileError
from tlpo_ray.flow.records import Prompt

UNREADABLE = "cannot be read"
CONTEXT_FIELD = "input"
"""Field of Bactrian-X with the text that an instruction refers to; it is appended to the instruction on a new line."""
USUAL_FIELDS = ("prompt", "instruction", "question", "text")
"""Fields in which public datasets keep their prompts, the most specific first."""
RECORDS_SEARCHED = 100
"""Number of records in which `usual_field` looks for one of these fields."""

Reject = Callable[[Prompt], str | None]
"""Returns the reason to skip a prompt, or None to keep it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """The prompts of a run.

    Example: 540 prompts in ``{"ko"}``, ``skipped={"cannot be read": 1}``, ``total=541``.
    """

    prompts: Sequence[Prompt]
    """Prompts in the run's order: `prompts[i].index == i`."""
    languages: frozenset[str]
    """Languages of the prompts."""
    skipped: Mapping[str, int]
    """Number of prompts that were not taken, by reason."""
    total: int
    """len(prompts) + sum of skipped. Prompts in languages that are not selected or beyond `data.limit` do not belong to
    the run."""


def read_prompts(data: DataConfig, seed: int, reject: Reject | None = None, spool: Path | None = None) -> PromptSet:
    """Read, filter, shuffle and limit the prompts of a source, in this order.

    The order depends on the records and `seed` alone: it is the same on every machine.

    Args:
        data: source, fields, filters and limit.
        seed: seed of the shuffle.
        reject: last filter; it sees only prompts that would be taken.
        spool: folder for files from which the prompts are then read; None keeps them in memory.

    Raises:
        PromptFileError: The source cannot be read; it contains a malformed record and `data.skip_bad` is false; or all
            of its records are malformed.
        ResourceError: `spool` cannot be written.
    """
    skipped: Counter[str] = Counter()

    def store(name: str, prompts: Iterator[Prompt]) -> Sequence[Prompt]:
        return tuple(prompts) if spool is None else write_prompts(spool / f"{name}.arrow", prompts)

    readable = store("readable", _readable(data, skipped))
    # Shuffle indices, not prompts: on disk they stay where they are, and an index takes 8 bytes.
    order = array("q", range(len(readable)))
    if data.shuffle:
        random.Random(f"tlpo prompts {seed}").shuffle(order)
    taken = islice(_accepted((readable[index] for index in order), reject, skipped), data.limit)
    languages: set[str] = set()

    def numbered() -> Iterator[Prompt]:
        for index, prompt in enumerate(taken):
            languages.add(prompt.language)
            yield replace(prompt, index=index)

    prompts = store("prompts", numbered())
    return PromptSet(
        prompts=prompts, languages=frozenset(languages), skipped=dict(skipped), total=len(prompts) + skipped.total()
    )


def each_prompt(data: DataConfig) -> Iterator[tuple[Record, Prompt | None]]:
    """Yield every record of a source in its order with its prompt, or None if it contains no valid prompt.

    Raises:
        PromptFileError: As `read_prompts`.
    """
    readable = unreadable = 0
    first_problem = ""
    for record in read_records(data.prompts, data.subset, data.split):
        prompt = _prompt(record, data, readable)
        if isinstance(prompt, Prompt):
            readable += 1
            yield record, prompt
            continue
        unreadable += 1
        first_problem = first_problem or f"{record.place}: {prompt}"
        if not data.skip_bad:
            raise PromptFileError(f"{first_problem}; repair it, or skip such lines with --skip-bad")
        yield record, None
    if unreadable and not readable:
        raise PromptFileError(f"{data.prompts}: none of {unreadable} lines can be read; {first_problem}")


def usual_field(data: DataConfig) -> str:
    """Return the first of the usual prompt fields that a record has, or `data.prompt_field` if there is none.

    Raises:
        PromptFileError: The source cannot be read.
    """
    for record in islice(read_records(data.prompts, data.subset, data.split), RECORDS_SEARCHED):
        for name in USUAL_FIELDS:
            if record.fields is not None and name in record.fields:
                return name
    return data.prompt_field


def too_long(max_characters: int) -> str:
    """Return the reason under which prompts of more than `max_characters` characters are skipped."""
    return f"longer than {max_characters} characters"


def _accepted(prompts: Iterable[Prompt], reject: Reject | None, skipped: Counter[str]) -> Iterator[Prompt]:
    for prompt in prompts:
        reason = reject(prompt) if reject is not None else None
        if reason is None:
            yield prompt
        else:
            skipped[reason] += 1


def _readable(data: DataConfig, skipped: Counter[str]) -> Iterator[Prompt]:
    """Yield the prompts of the selected languages that are not too long, in the source's order; count the others."""
    for _, prompt in each_prompt(data):
        if prompt is None:
            skipped[UNREADABLE] += 1
            continue
        language = selected(prompt.language, data.languages) if data.languages else prompt.language
        if language is None:
            continue
        if len(prompt.text) > data.max_characters:
            skipped[too_long(data.max_characters)] += 1
        else:
            yield replace(prompt, language=language)


def _prompt(record: Record, data: DataConfig, index: int) -> Prompt | str:
    """Return the prompt in a record, or what is wrong with the record."""
    fields = record.fields
    if fields is None:
        return record.problem
    text = fields.get(data.prompt_field)
    if not isinstance(text, str) or not text.strip():
        return _missing_text(fields, data.prompt_field)
    context = fields.get(CONTEXT_FIELD)
    if data.prompt_field != CONTEXT_FIELD and isinstance(context, str) and context.strip():
        text = f"{text}\n{context}"
    language = fields.get(data.language_field) or data.language
    if language is None:
        return f"no language in field {data.language_field!r}; set data.language or data.language_field"
    if not isinstance(language, str):
        return f"field {data.language_field!r} holds {type(language).__name__}, expected the name of a language"
    name = fields.get(data.id_field)
    prompt = Prompt(
        index=index, id=record.name if name is None else str(name), language=code_or_name(language), text=text
    )
    if not _is_encodable(prompt.id + prompt.language + prompt.text):
        return "a text holds half a surrogate pair, which no tokenizer takes"
    return prompt


def _missing_text(fields: Mapping[str, object], name: str) -> str:
    if name in fields:
        value = fields[name]
        return f"field {name!r} " + (
            "is empty" if isinstance(value, str) else f"holds {type(value).__name__}, not text"
        )
    likely = next((usual for usual in USUAL_FIELDS if isinstance(fields.get(usual), str)), None)
    hint = f"; set data.prompt_field={likely}" if likely else ""
    return f"no field {name!r}; found {', '.join(fields) or 'no fields'}{hint}"


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
