"""What a suite is, and how its records become prompts with everything needed to judge the answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlpo_ray.data.readers import SUFFIXES, Record, read_records
from tlpo_ray.errors import PromptFileError, UserError, first_line

PAPER_LANGUAGES = ("ko", "zh", "ar", "ja")
Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One prompt of a suite in one language.

    Example: ``Item(suite="mmmlu", task="anatomy", source="mmmlu", id="17", language="ko", prompt="…", reference="B")``
    """

    suite: str
    task: str
    """Part of the suite that rates are given for."""
    source: str
    """Where the suite has the prompt from."""
    id: str
    language: str
    """That the answer should be in."""
    prompt: str
    reference: str = ""
    """What a right answer is measured by; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a suite's records of one language lie."""

    hub: str
    """Name of a hub dataset; empty where there is none."""
    subset: str | None = None
    """Configuration of a hub dataset; in a local folder the file or folder called so."""
    file: str | None = None
    """File of the dataset, where a language is a file of its own."""
    split: str = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A benchmark with the paper's rules (Appendix E)."""

    name: str
    about: str
    languages: tuple[str, ...]
    temperature: float
    max_new_tokens: int
    place: Callable[[str], Place]
    """Of a language."""
    item: Callable[[Fields, str, Record], Item | str | None]
    """Of (fields, language, record): the item; a reason to leave it out; or None where it is another language's."""
    needs: tuple[str, ...]
    """Fields that every record must have."""
    prompt: Callable[[Fields, str], str] = lambda fields, language: str(fields["prompt"])
    """Of (fields, language): what is asked."""
    reference: Callable[[Fields], str] = lambda fields: ""
    """What a right answer to a record is measured by."""
    correct: Callable[[str, str], bool] | None = None
    """Whether an answer agrees with its reference."""
    missing: Callable[[], str] = str
    """What `correct` needs and is not installed, in one line; empty when all is there."""
    hint: str = ""
    """How to get the data where the hub has none."""

    @property
    def by_language(self) -> bool:
        """Whether every language has a file or folder of its own."""
        return len({self.place(language) for language in self.languages}) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSet:
    """Items of a suite, and what was left out."""

    items: tuple[Item, ...]
    dropped: Mapping[str, int]
    """How many, by reason."""


def read_items(suite: Suite, source: str | None, languages: Sequence[str], *, skip_bad: bool = False) -> ItemSet:
    """A suite's items in the order of languages and records.

    Args:
        source: file, folder or hub dataset; none takes the suite's own.
        skip_bad: count records that cannot be read, and go on.

    Raises:
        UserError: a language that the suite has not, or no source.
        PromptFileError: the source or a record of it cannot be read, or a language has no prompt in it.
    """
    dropped: Counter[str] = Counter()
    items: list[Item] = []
    _check(suite, source, languages)
    for language in languages:
        found = [_item(suite, record, language, skip_bad) for record in _records(suite, source, language)]
        dropped.update(one for one in found if isinstance(one, str))
        mine = [one for one in found if isinstance(one, Item)]
        if not mine:
            raise PromptFileError(f"{source or suite.name}: no prompt in language {language!r}")
        items += mine
    return ItemSet(items=tuple(items), dropped=dict(dropped))


def read_documents(
    suite: Suite, source: str | None, language: str, *, skip_bad: bool = False
) -> list[dict[str, object]]:
    """All of a suite's records in a language, those too whose answers' language is not judged, with their `prompt`.

    Raises:
        UserError: as `read_items`.
        PromptFileError: as `read_items`.
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
        if language not in suite.languages:
            raise UserError(f"suite {suite.name} has no language {language!r}: it has {', '.join(suite.languages)}")
    if suite.by_language and len(languages) > 1 and source is not None and Path(source).is_file():
        raise UserError(
            f"--source {source}: a file of {suite.name} holds one language, asked were {', '.join(languages)}; "
            f"give the folder, or one language"
        )


def _records(suite: Suite, source: str | None, language: str) -> Iterator[Record]:
    place = suite.place(language)
    if source is None and not place.hub:
        raise UserError(f"suite {suite.name} needs --source: {suite.hint}")
    path = Path(source or place.hub)
    if path.is_dir():
        return read_records(str(_part_of(path, suite, place, language)), None, place.split)
    if place.file is not None and not path.exists() and not path.name.endswith(SUFFIXES):
        return read_records(_hub_file(str(path), place.file), None, place.split)
    return read_records(str(path), place.subset, place.split)


def _part_of(folder: Path, suite: Suite, place: Place, language: str) -> Path:
    """What a local folder holds of a language (of LCB: of a task), or the folder where it is not divided so.

    It is called as the file (`zh_local.jsonl`), or else the language, or as the subset (`KO_KR/`, `mmlu_KO-KR.csv`).
    """
    names = (place.subset,) if place.file is None else (place.file.partition(".")[0], language, f"{language}_local")
    for name in filter(None, names):
        if _is_called(folder.resolve(), name):
            return folder
        for path in sorted(folder.rglob("*")):
            if _is_called(path, name) and (path.is_dir() or path.name.endswith(SUFFIXES)):
                return path
    if suite.by_language:
        raise PromptFileError(f"{folder}: nothing called {' or '.join(filter(None, names))} lies there")
    return folder


def _is_called(path: Path, name: str) -> bool:
    """Whether a file's or folder's name has this name in it, `-` and `_` and small and capital letters alike."""
    stem = path.name.partition(".")[0].replace("-", "_")
    return re.search(rf"(^|_){name}($|_)", stem, re.IGNORECASE) is not None


def _hub_file(dataset: str, name: str) -> str:
    """A file of a hub dataset, downloaded as it is: a broken line of it is then told by its number."""
    from huggingface_hub import hf_hub_download

    try:
        return str(hf_hub_download(dataset, name, repo_type="dataset"))
    except Exception as error:  # the library raises errors of many libraries
        raise PromptFileError(
            f"{dataset} ({name}): no such file or folder here, and the hub dataset cannot be loaded: "
            f"{first_line(error)}; without a network give a file or folder as --source"
        ) from error


def _problem(suite: Suite, record: Record) -> str:
    fields = record.fields
    missing = [name for name in suite.needs if fields is not None and fields.get(name) in (None, "")]
    if fields is not None and not missing:
        return ""
    return record.problem or f"field {missing[0]!r} is missing or empty, as a record of {suite.name} has it"


def _item(suite: Suite, record: Record, language: str, skip_bad: bool) -> Item | str | None:
    problem = _problem(suite, record)
    if problem:
        if not skip_bad:
            raise PromptFileError(f"{record.place}: {problem}; repair it, or skip such records with --skip-bad")
        return "cannot be read"
    assert record.fields is not None
    return suite.item(record.fields, language, record)
