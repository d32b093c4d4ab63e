"""A benchmark suite, and how its records become prompts with everything that is needed to judge the answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from tlpo_ray.data.folders import DEFAULT_SPLIT, UNNAMED, find_splits
from tlpo_ray.data.readers import SUFFIXES, read_records
from tlpo_ray.data.tables import Record
from tlpo_ray.errors import PromptFileError, UserError, first_line
from tlpo_ray.flow.conversation import Conversation

PAPER_LANGUAGES = ("ko", "zh", "ar", "ja")
"""The four target languages of the paper."""
Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One prompt of a suite in one language.

    Example: ``Item(suite="mmmlu", task="anatomy", source="mmmlu", id="17", language="ko", prompt="…", reference="B")``
    """

    suite: str
    task: str
    """Part of the suite for which rates are reported separately."""
    source: str
    """Collection from which the suite has taken the prompt."""
    id: str
    language: str
    """Language that the answer should be in."""
    prompt: str
    reference: str = ""
    """What a right answer is compared with; empty if the suite has no right answers."""
    conversation: Conversation | None = None
    """The conversation that the prompt is; `prompt` is then the user's last message."""

    @property
    def asked(self) -> str:
        """Everything that is asked, as one text."""
        return self.prompt if self.conversation is None else self.conversation.dumps()

    def to_json(self) -> dict[str, object]:
        """Return the fields that are not empty, with those of the conversation among them."""
        names = (each.name for each in fields(self) if each.name != "conversation")
        conversation = {} if self.conversation is None else self.conversation.to_json()
        return {name: value for name in names if (value := getattr(self, name)) != ""} | conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLocation:
    """Location of a suite's records in one language."""

    hub: str
    """Name of a hub dataset; empty if the suite is not on the hub."""
    subset: str | None = None
    """Configuration of the hub dataset; in a local folder, the file or folder of that name."""
    file: str | None = None
    """File of the dataset, for suites with one file per language."""
    split: str = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A benchmark with the paper's rules for it (Appendix E)."""

    name: str
    languages: tuple[str, ...]
    temperature: float
    """Sampling temperature; 0 is greedy."""
    max_new_tokens: int
    location: Callable[[str], DataLocation] = lambda language: DataLocation(hub="")
    """Maps a language to the location of its records."""
    item: Callable[[Fields, str, Record], Item | str | None] = lambda fields, language, record: None
    """Maps (fields, language, record) to the item, to the reason for leaving it out, or to None for a record of another
    language."""
    required_fields: tuple[str, ...] = ()
    """Fields that every record must have."""
    make_items: Callable[[Sequence[str], int | None, int], Sequence[Item]] | None = None
    """Maps (languages, largest number of each, seed) to the items of a suite that has no records; None reads them."""
    prompt: Callable[[Fields, str], str] = lambda fields, language: str(fields["prompt"])
    """Maps (fields, language) to the text of the prompt."""
    reference: Callable[[Fields], str] = lambda fields: ""
    """Maps a record's fields to what a right answer is compared with."""
    correct: Callable[[str, str, str], bool] | None = None
    """Maps (answer, reference, language) to whether the answer is right; None if the suite has no right answers."""
    score_name: str = "accuracy"
    """Name of the share of right answers."""
    rated: bool = True
    """Whether answers have pass rates. False for a suite whose prompts ask for foreign text, which is no confusion."""
    missing: Callable[[], str] = str
    """Returns what `correct` needs and is not installed, in one line; empty if nothing is missing."""
    hint: str = ""
    """How to get the data if they are not on the hub."""

    @property
    def split_by_language(self) -> bool:
        """True if every language has a file or folder of its own."""
        return len({self.location(language) for language in self.languages}) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSet:
    """Items of a suite, and the number of records that were left out."""

    items: tuple[Item, ...]
    dropped: Mapping[str, int]
    """Number of records left out, by reason."""


def select_items(
    suite: Suite, source: str | None, languages: Sequence[str], *, limit: int | None, seed: int, skip_bad: bool = False
) -> ItemSet:
    """Return a suite's items, at most `limit` of each language.

    They are spread evenly over the records: a suite's parts follow each other in its files, and its first records are
    all of one part. A suite that makes its items itself does so with the seed.

    Raises:
        UserError: See `read_items`; or the suite has no records, and a source is given.
        PromptFileError: See `read_items`.
    """
    if suite.make_items is not None:
        _check(suite, None, languages)
        if source is not None:
            raise UserError(f"suite {suite.name} makes its prompts itself: leave --source {source} out")
        made = {language: suite.make_items((_data_language(suite, language),), limit, seed) for language in languages}
        return ItemSet(
            items=tuple(replace(item, language=language) for language in made for item in made[language]), dropped={}
        )
    read = read_items(suite, source, languages, skip_bad=skip_bad)
    items: list[Item] = []
    for language in languages:
        language_items = [item for item in read.items if item.language == language]
        stride = max(1, len(language_items) // limit) if limit else 1
        items += language_items[::stride][:limit]
    return ItemSet(items=tuple(items), dropped=read.dropped)


def read_items(suite: Suite, source: str | None, languages: Sequence[str], *, skip_bad: bool = False) -> ItemSet:
    """Return a suite's items in the order of languages and records.

    Args:
        suite: The suite.
        source: File, folder or hub dataset; None takes the suite's own.
        languages: Languages to read, in this order.
        skip_bad: Count records that cannot be read instead of raising.

    Raises:
        UserError: The suite does not have one of the languages, or needs a source.
        PromptFileError: The source or one of its records cannot be read, or a language has no prompt in it.
    """
    dropped: Counter[str] = Counter()
    items: list[Item] = []
    _check(suite, source, languages)
    for language in languages:
        data = _data_language(suite, language)
        read = [_item(suite, record, data, skip_bad) for record in _records(suite, source, data)]
        dropped.update(reason for reason in read if isinstance(reason, str))
        language_items = [replace(item, language=language) for item in read if isinstance(item, Item)]
        if not language_items:
            raise PromptFileError(f"{source or suite.name}: no prompt in language {language!r}")
        items += language_items
    return ItemSet(items=tuple(items), dropped=dict(dropped))


def read_documents(
    suite: Suite, source: str | None, language: str, *, skip_bad: bool = False
) -> list[dict[str, object]]:
    """Return the fields of a suite's records in a language, each with its `prompt`, for a dataset of lm-eval.

    Unlike `read_items`, this includes the records that are left out when answers are judged by language.

    Raises:
        UserError: See `read_items`.
        PromptFileError: See `read_items`.
    """
    _check(suite, source, (language,))
    records = [(record, _problem(suite, record)) for record in _records(suite, source, language)]
    broken = next((f"{record.place}: {problem}" for record, problem in records if problem), None)
    if broken and not skip_bad:
        raise PromptFileError(f"{broken}; repair it, or skip such records with --skip-bad")
    readable = [record.fields for record, problem in records if record.fields is not None and not problem]
    if not readable:
        raise PromptFileError(f"{source or suite.name}: no prompt in language {language!r}")
    return [{**fields, "prompt": suite.prompt(fields, language)} for fields in readable]


def _check(suite: Suite, source: str | None, languages: Sequence[str]) -> None:
    for language in languages:
        if _data_language(suite, language) not in suite.languages:
            raise UserError(
                f"suite {suite.name} does not have language {language!r}; it has {', '.join(suite.languages)}"
            )
    if suite.split_by_language and len(languages) > 1 and source is not None and Path(source).is_file():
        raise UserError(
            f"--source {source}: a file of {suite.name} holds one language, but {', '.join(languages)} were requested; "
            f"give the folder, or one language"
        )


def _data_language(suite: Suite, language: str) -> str:
    """Return the language under which a suite has a language: its Chinese prompts are asked for both writings."""
    return language if language in suite.languages else language.split("-")[0]


def _records(suite: Suite, source: str | None, language: str) -> Iterator[Record]:
    location = suite.location(language)
    if source is None and not location.hub:
        raise UserError(f"suite {suite.name} needs --source: {suite.hint}")
    path = Path(source or location.hub)
    if path.is_dir():
        path = _language_part(path, suite, location, language)
        return read_records(str(path), None, _local_split(path, location.split))
    if location.file is not None and not path.exists() and not path.name.endswith(SUFFIXES):
        path = Path(_download(str(path), location.file))
    if path.exists():
        return read_records(str(path), None, _local_split(path, location.split))
    return read_records(str(path), location.subset, location.split)


def _local_split(path: Path, split: str) -> str:
    """Return the split to read of a suite's local copy: a file has one split, and so has a folder that names none."""
    return split if path.is_dir() and UNNAMED not in find_splits(path) else DEFAULT_SPLIT


def _language_part(folder: Path, suite: Suite, location: DataLocation, language: str) -> Path:
    """Return the part of a local folder with a language (LCB: a task), or the folder itself if it is not divided.

    The part is named like the file (`zh_local.jsonl`) or the language, or like the subset (`KO_KR/`, `mmlu_KO-KR.csv`).
    """
    if location.file is None:
        candidates: tuple[str | None, ...] = (location.subset,)
    else:
        candidates = (location.file.partition(".")[0], language, f"{language}_local")
    names = [name for name in candidates if name]
    for name in names:
        if _has_name(folder.resolve(), name):
            return folder
        for path in sorted(folder.rglob("*")):
            if _has_name(path, name) and (path.is_dir() or path.name.endswith(SUFFIXES)):
                return path
    if suite.split_by_language:
        raise PromptFileError(f"{folder}: nothing in it is called {' or '.join(names)}")
    return folder


def _has_name(path: Path, name: str) -> bool:
    """Return whether a file's or folder's name contains this name, whatever its case and whether `-` or `_`."""
    stem = path.name.partition(".")[0].replace("-", "_")
    return re.search(rf"(^|_){name}($|_)", stem, re.IGNORECASE) is not None


def _download(dataset: str, name: str) -> str:
    """Download a file of a hub dataset as it is, so that an error can name the line; return its path."""
    from huggingface_hub import hf_hub_download

    try:
        return str(hf_hub_download(dataset, name, repo_type="dataset"))
    except Exception as error:  # the library raises errors of many libraries
        raise PromptFileError(
            f"{dataset} ({name}): no such file or folder here, and the hub dataset cannot be loaded: "
            f"{first_line(error)}; without a network give a file or folder as --source"
        ) from error


def _problem(suite: Suite, record: Record) -> str:
    """Return what is wrong with a record, or an empty string."""
    fields = record.fields
    if fields is None:
        return record.problem
    missing = [name for name in suite.required_fields if fields.get(name) in (None, "")]
    if not missing:
        return ""
    return record.problem or f"field {missing[0]!r} is missing or empty, but a record of {suite.name} has it"


def _item(suite: Suite, record: Record, language: str, skip_bad: bool) -> Item | str | None:
    problem = _problem(suite, record)
    if problem:
        if not skip_bad:
            raise PromptFileError(f"{record.place}: {problem}; repair it, or skip such records with --skip-bad")
        return "cannot be read"
    assert record.fields is not None
    return suite.item(record.fields, language, record)
