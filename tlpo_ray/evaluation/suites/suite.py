"""What a suite is, and how its records become prompts with everything needed to judge the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlpo_ray.data.readers import Record, read_records
from tlpo_ray.flow.errors import PromptFileError, UserError

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
    """The right answer; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a suite's records of one language lie."""

    hub: str
    """Name of a hub dataset; empty where there is none."""
    subset: str | None = None
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
    item: Callable[[Fields, str, str], Item | str | None]
    """Of (fields, language, id): the item; a reason to leave it out; or None where it is another language's."""
    needs: tuple[str, ...]
    """Fields that every record must have."""
    correct: Callable[[str, str], bool] | None = None
    """Whether an answer agrees with its reference."""
    hint: str = ""
    """How to get the data where the hub has none."""


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
    for language in languages:
        if language not in suite.languages:
            raise UserError(f"--suite {suite.name} has no language {language!r}: it has {', '.join(suite.languages)}")
        found = [_item(suite, record, language, skip_bad) for record in _records(suite, source, language)]
        dropped.update(one for one in found if isinstance(one, str))
        mine = [one for one in found if isinstance(one, Item)]
        if not mine:
            raise PromptFileError(f"{source or suite.name}: no prompt in language {language!r}")
        items += mine
    return ItemSet(items=tuple(items), dropped=dict(dropped))


def _records(suite: Suite, source: str | None, language: str) -> list[Record]:
    place = suite.place(language)
    if source is None and not place.hub:
        raise UserError(f"--suite {suite.name} needs --source: {suite.hint}")
    path = Path(source or place.hub)
    if path.is_dir() and place.file is not None:
        return list(read_records(str(_file_of(path, place.file)), None, place.split))
    if path.is_dir() and place.subset is not None and (path / place.subset).is_dir():
        return list(read_records(str(path / place.subset), None, place.split))
    return list(read_records(str(path), place.subset, place.split, place.file))


def _file_of(folder: Path, name: str) -> Path:
    """`ko.jsonl`, or where the folder has only a localized edition, `ko_local.jsonl`."""
    stem, _, suffix = name.partition(".")
    names = (name, f"{stem}_local.{suffix}")
    found = next((folder / one for one in names if (folder / one).is_file()), None)
    if found is None:
        raise PromptFileError(f"{folder}: neither {names[0]} nor {names[1]} lies there")
    return found


def _item(suite: Suite, record: Record, language: str, skip_bad: bool) -> Item | str | None:
    fields = record.fields
    missing = [name for name in suite.needs if fields is not None and fields.get(name) in (None, "")]
    if fields is None or missing:
        problem = record.problem or f"field {missing[0]!r} is missing or empty, as a record of {suite.name} has it"
        if not skip_bad:
            raise PromptFileError(f"{record.place}: {problem}; repair it, or skip such records with --skip-bad")
        return "cannot be read"
    return suite.item(fields, language, record.name)
