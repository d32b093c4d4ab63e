"""The prompts of a run: read from records, filtered, and put into the run's order, with every record accounted for."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import detectors
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.conversations import CONVERSATION_FIELDS, NOT_TEXT, Asked, asked
from tlpo_ray.data.readers import read_records
from tlpo_ray.data.spool import write_prompts
from tlpo_ray.data.tables import Defect, Record, snippet
from tlpo_ray.errors import PromptFileError
from tlpo_ray.flow.conversation import parts_of
from tlpo_ray.flow.records import Prompt

UNREADABLE = "cannot be read"
USUAL_FIELDS = ("prompt", "instruction", "question", *CONVERSATION_FIELDS, "text")
"""Fields in which public datasets keep their prompts, the most specific first."""
NOT_SELECTED, BEYOND_LIMIT = "in another language than those asked for", "beyond the limit"
LANGUAGES_NAMED = 5
"""Number of languages that are left out which a note names, the most frequent ones."""
ANSWER_LEFT_OUT = "ends with an answer, which is left out"
RECORDS_SEARCHED = 100
"""Number of records in which `usual_field` looks for one of these fields."""

Form = tuple[object, ...]
"""What decides whether a chat template accepts a conversation: its roles, and which messages are more than a text."""
Reject = Callable[[Prompt], str | None]
"""Returns the reason to skip a prompt, or None to keep it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A record of a source, and the prompt that was read from it."""

    record: Record
    prompt: Prompt | None
    """The prompt; None if the record contains no valid one."""
    problem: str = ""
    """Reason under which a record without a valid prompt is counted; empty for the others."""
    detail: str = ""
    """What is wrong with such a record, e.g. "field 'prompt' is empty"; empty for the others."""
    answer: str | None = None
    """Answer that a conversation ended with and that its prompt leaves out; None if it did not."""
    notes: tuple[str, ...] = ()
    """What the user may not expect about the prompt, e.g. `ANSWER_LEFT_OUT`."""


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
    the run; `notes` has their numbers."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What the user may not expect about the prompts that were read, with their number (`Reading.notes`)."""
    examples: tuple[tuple[str, Prompt], ...] = ()
    """One (file and line, prompt) for every form of prompt: texts, and conversations with the same roles."""

    def note_lines(self) -> list[str]:
        """Return `notes` as lines for the user, e.g. "12 prompts: states no language, identified as ko"."""
        return note_lines(self.notes)


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
    notes: Counter[str] = Counter()
    examples: dict[Form, tuple[str, Prompt]] = {}

    def store(name: str, prompts: Iterator[Prompt]) -> Sequence[Prompt]:
        return tuple(prompts) if spool is None else write_prompts(spool / f"{name}.arrow", prompts)

    readable = store("readable", _readable(data, skipped, notes, examples))
    # Shuffle indices, not prompts: on disk they stay where they are, and an index takes 8 bytes.
    order = array("q", range(len(readable)))
    if data.shuffle:
        random.Random(f"tlpo prompts {seed}").shuffle(order)
    rejected: Counter[str] = Counter()
    taken = islice(_accepted((readable[index] for index in order), reject, rejected), data.limit)
    languages: set[str] = set()
    forms: set[Form] = set()

    def numbered() -> Iterator[Prompt]:
        for index, prompt in enumerate(taken):
            languages.add(prompt.language)
            forms.add(_form(prompt))
            yield replace(prompt, index=index)

    prompts = store("prompts", numbered())
    # Those that the last filter has rejected before the limit was reached are among `skipped`.
    tried = len(prompts) + rejected.total()
    if beyond := len(readable) - tried:
        notes[BEYOND_LIMIT] = beyond
    skipped += rejected
    return PromptSet(
        prompts=prompts, languages=frozenset(languages), skipped=dict(skipped), total=len(prompts) + skipped.total(),
        notes=dict(notes), examples=tuple(example for form, example in examples.items() if form in forms),
    )  # fmt: skip


def each_prompt(data: DataConfig, *, identify: bool = False) -> Iterator[Reading]:
    """Yield every record of a source in its order with the prompt in it.

    Args:
        data: source and fields.
        identify: whether the language of a prompt that states none is identified even if `data.language` is given,
            which is then the language of those that are not certain.

    Raises:
        PromptFileError: As `read_prompts`.
    """
    readable = unreadable = 0
    first_problem = ""
    for record in read_records(data.prompts, data.subset, data.split):
        reading = _reading(record, data, readable, identify=identify)
        if isinstance(reading, Reading):
            readable += 1
            yield reading
            continue
        unreadable += 1
        first_problem = first_problem or f"{record.place}: {reading}"
        if not data.skip_bad:
            raise PromptFileError(f"{first_problem}; repair it, or skip such lines with --skip-bad")
        is_named = isinstance(reading, Defect) and reading.kind == NOT_TEXT
        yield Reading(record=record, prompt=None, problem=NOT_TEXT if is_named else UNREADABLE, detail=str(reading))
    if unreadable and not readable:
        raise PromptFileError(f"{data.prompts}: none of {unreadable} lines can be read; {first_problem}")


def usual_field(data: DataConfig) -> str:
    """Return the first of the usual prompt fields that a record has, or `data.prompt_field` if there is none.

    Of a file with conversations it is `data.prompt_field`, too, by whose default they are found beside texts.

    Raises:
        PromptFileError: The source cannot be read.
    """
    for record in islice(read_records(data.prompts, data.subset, data.split), RECORDS_SEARCHED):
        for name in USUAL_FIELDS:
            if record.fields is not None and name in record.fields:
                return data.prompt_field if name in CONVERSATION_FIELDS else name
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


def _readable(
    data: DataConfig, skipped: Counter[str], notes: Counter[str], examples: dict[Form, tuple[str, Prompt]]
) -> Iterator[Prompt]:
    """Yield the prompts of the selected languages that are not too long, in the source's order; count the others."""
    others: Counter[str] = Counter()
    for reading in each_prompt(data):
        prompt = reading.prompt
        notes.update(reading.notes)
        if prompt is None:
            skipped[reading.problem] += 1
            continue
        language = detectors.selected(prompt.language, data.languages) if data.languages else prompt.language
        if language is None:
            others[prompt.language] += 1
            continue
        if len(prompt.text) > data.max_characters:
            skipped[too_long(data.max_characters)] += 1
        else:
            examples.setdefault(_form(prompt), (reading.record.place, prompt))
            yield replace(prompt, language=language)
    if others:
        names = ", ".join(snippet(name) for name, _ in others.most_common(LANGUAGES_NAMED))
        more = ", …" if len(others) > LANGUAGES_NAMED else ""
        notes[f"{NOT_SELECTED} ({names}{more})"] = others.total()


def note_lines(notes: Mapping[str, int]) -> list[str]:
    """Return notes on prompts, with their number, as lines for the user."""
    return [f"{number:,} prompt{'' if number == 1 else 's'}: {note}" for note, number in notes.items()]


def _form(prompt: Prompt) -> Form:
    if prompt.conversation is None:
        return ()
    messages = prompt.conversation.turns
    return (bool(prompt.conversation.tools), *((each["role"], len(parts_of(each)), *sorted(each)) for each in messages))


def _reading(record: Record, data: DataConfig, index: int, *, identify: bool) -> Reading | Defect | str:
    """Return the prompt in a record, or what is wrong with the record."""
    fields = record.fields
    if fields is None:
        return record.problem
    found = asked(fields, data)
    if found is None:
        return _missing_text(fields, data.prompt_field)
    if isinstance(found, Defect):
        return found
    language, note = _language(fields, data, found.text, identify=identify)
    if language is None:
        return note
    name = fields.get(data.id_field)
    prompt = Prompt(
        index=index, id=record.name if name is None else str(name), language=language, text=found.text,
        conversation=found.conversation,
    )  # fmt: skip
    if not _is_encodable(prompt.id + prompt.language + prompt.key):
        return "a text holds half a surrogate pair, which no tokenizer takes"
    notes = (note, *_notes(found))
    return Reading(record=record, prompt=prompt, answer=found.answer, notes=tuple(filter(None, notes)))


def _language(fields: Mapping[str, object], data: DataConfig, text: str, *, identify: bool) -> tuple[str | None, str]:
    """Return the language of a prompt and a note on where it comes from; None and what is wrong if it has none."""
    stated = fields.get(data.language_field)
    if stated and not isinstance(stated, str):
        return None, f"field {data.language_field!r} holds {type(stated).__name__}, expected the name of a language"
    if isinstance(stated, str) and stated:
        return detectors.code_or_name(stated), ""
    if data.language is not None and not identify:
        return data.language, ""
    identified = detectors.identify(text, [data.language] if data.language is not None else data.languages)
    if identified is not None:
        return identified, f"states no language, identified as {identified}"
    if data.language is not None:
        return data.language, f"states no language, and none is certain: taken as {data.language}"
    return None, (
        f"no language in field {data.language_field!r}; set data.language or data.language_field, because the "
        f"text's own is not certain"
    )


def _notes(found: Asked) -> Iterator[str]:
    if found.answer is not None:
        yield ANSWER_LEFT_OUT
    if found.context_field:
        yield f"its retrieved text, in field {found.context_field!r}, is put before the question"


def _missing_text(fields: Mapping[str, object], name: str) -> str:
    if name in fields:
        value = fields[name]
        return f"field {name!r} " + (
            "is empty" if isinstance(value, str) else f"holds {type(value).__name__}, not text"
        )
    usual = (*USUAL_FIELDS, "chosen")
    likely = next((each for each in usual if isinstance(fields.get(each), str | list) and each != name), None)
    hint = f"; set data.prompt_field={likely}" if likely else ""
    return f"no field {name!r}; found {', '.join(fields) or 'no fields'}{hint}"


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
