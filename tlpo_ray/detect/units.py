"""What `tlpo detect` judges one at a time: lines of plain text, records of JSONL and CSV."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Never

from tlpo_ray.detect.files import LONGEST_LINE, Advance, Lines, Source, opened
from tlpo_ray.errors import UserError

TEXT_FIELDS = ("text", "response", "answer", "completion", "output", "generation", "content")
"""Fields that are taken for the text when none is named and a record has one of them only."""
LANGUAGE_FIELDS = ("language", "lang")
"""Fields that are taken for the language when none is given."""
_DELIMITERS = ",\t;"
_SNIPPET = 40
"""Characters of what was found that an error shows."""
_SHOWN_FIELDS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One text with a verdict of its own.

    Example: ``Unit(source="ko.csv", number=3, line=17, is_record=True, text="안녕하세요?", language="ko")``
    """

    source: str
    number: int
    """From 1: line of a text or JSONL file, row of a CSV file behind its header."""
    line: int
    """Line of the file on which it begins."""
    is_record: bool
    """False: a line of plain text."""
    text: str
    language: str | None = None
    """None: it does not say."""

    @property
    def place(self) -> str:
        """For errors."""
        return f"{self.source} line {self.line}"


@dataclass(frozen=True, slots=True)
class _Record:
    number: int
    line: int
    found: Mapping[str, object] | _Bad


@dataclass(frozen=True, slots=True)
class _Bad:
    """Why there is no record."""

    kind: str
    """Under which it is counted when it is skipped."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Where a record keeps what."""

    text: str | None
    """None: in one of `TEXT_FIELDS`."""
    language: str | None
    """None: in one of `LANGUAGE_FIELDS`."""
    needs_language: bool
    """Whether a record that does not say its language is a bad one."""


class Reader:
    """Reads units, and counts what it could not read.

    Args:
        skip_bad: whether a bad record is counted in `skipped` rather than raised.
    """

    def __init__(self, fields: Fields, skip_bad: bool) -> None:
        self._fields = fields
        self._skip_bad = skip_bad
        self.skipped: Counter[str] = Counter()
        """Bad records by what is wrong with them."""
        self.not_utf8 = 0
        """Lines with bytes that are not UTF-8."""

    def units(self, source: Source, advance: Advance) -> Iterator[Unit]:
        """The units of a source. Blank lines are none; a record without text is one.

        Raises:
            UserError: it cannot be read, has no such field, or a record is bad and not to be skipped.
        """
        with opened(source, advance) as lines:
            if source.format == "text":
                yield from _text_lines(source.name, lines)
            elif source.format == "jsonl":
                yield from self._of_records(source.name, _jsonl_records(lines))
            else:
                yield from self._of_records(source.name, self._csv_records(source.name, lines))
        self.not_utf8 += lines.not_utf8

    def bad(self, place: str, kind: str, detail: str = "") -> None:
        """Count a bad record, or refuse it.

        Raises:
            UserError: bad records are not skipped.
        """
        if not self._skip_bad:
            raise UserError(f"{place}: {kind}{detail}")
        self.skipped[kind] += 1

    def _of_records(self, source: str, records: Iterator[_Record]) -> Iterator[Unit]:
        field = self._fields.text
        for record in records:
            found = record.found
            if not isinstance(found, _Bad) and field is None:
                field = _only_text_field(source, found)
            unit = found if isinstance(found, _Bad) else self._unit(source, record, found, field or "")
            if isinstance(unit, _Bad):
                self.bad(f"{source} line {record.line}", unit.kind, unit.detail)
            else:
                yield unit

    def _unit(self, source: str, record: _Record, values: Mapping[str, object], field: str) -> Unit | _Bad:
        text, language = values.get(field), self._language(values)
        if not isinstance(text, str):
            kind = f"no text in field {_shown(field)!r}"
            return _Bad(kind, f"; it holds {_shown(json.dumps(text))}" if field in values else f"; {_list(values)}")
        if isinstance(language, _Bad):
            return language
        return Unit(source=source, number=record.number, line=record.line, is_record=True, text=text, language=language)

    def _language(self, values: Mapping[str, object]) -> str | _Bad | None:
        names = LANGUAGE_FIELDS if self._fields.language is None else (self._fields.language,)
        language = next((values[name] for name in names if name in values), None)
        if isinstance(language, str) and language:
            return language
        if not self._fields.needs_language:
            return None
        if self._fields.language is not None:
            return _Bad(f"no language in field {_shown(self._fields.language)!r}", f"; {_list(values)}")
        return _Bad(
            "no language", f" in a field language or lang: give --language or --language-field; {_list(values)}"
        )

    def _csv_records(self, source: str, lines: Lines) -> Iterator[_Record]:
        """Rows by the names of the header; quoted fields may hold line breaks."""
        csv.field_size_limit(LONGEST_LINE)
        first = next(lines, None)
        if first is None:
            return
        delimiter = max(_DELIMITERS, key=first.count)
        # Not `strict`, a quote that is never closed would silently take the rest of the file for one field.
        rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        number = 0
        while True:
            begins = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                if header is None or "expected after" not in str(error):
                    _refuse_csv(source, begins, error)
                number += 1
                yield _Record(number, begins, _Bad("not CSV", f" ({error}); a quote inside quotes is written twice"))
                continue
            if header is None:
                header = self._checked_header(source, row)
            elif row:
                number += 1
                yield _Record(number, begins, _by_name(header, row))

    def _checked_header(self, source: str, header: list[str]) -> list[str]:
        """A column that is missing is missing in every row, so that is no bad record."""
        for option, name in (("--field", self._fields.text), ("--language-field", self._fields.language)):
            if name is not None and name not in header:
                raise UserError(f"{source}: {option} {name}: no such column; {_list(header)}")
        return header


def _text_lines(source: str, lines: Lines) -> Iterator[Unit]:
    for line in lines:
        text = line.rstrip("\r\n")
        if text.strip():
            yield Unit(source=source, number=lines.number, line=lines.number, is_record=False, text=text)


def _jsonl_records(lines: Lines) -> Iterator[_Record]:
    for line in lines:
        if line.strip():
            yield _Record(lines.number, lines.number, _parsed(line.strip()))


def _parsed(line: str) -> Mapping[str, object] | _Bad:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        hint = "; a JSON list is not read, write one record a line" if line.startswith("[") else ""
        return _Bad("not JSON", f" ({error.msg} at column {error.colno}): {_shown(line)}{hint}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        return _Bad("not JSON", f" ({error}): {_shown(line)}")
    return value if isinstance(value, dict) else _Bad("no object with fields", f": {_shown(line)}")


def _by_name(header: Sequence[str], row: Sequence[str]) -> Mapping[str, object] | _Bad:
    if len(row) != len(header):
        return _Bad("not as many fields as the header", f": expected {len(header)}, found {len(row)}")
    return dict(zip(header, row, strict=True))


def _refuse_csv(source: str, line: int, error: csv.Error) -> Never:
    """What cannot be skipped, as nobody knows where the next record begins."""
    if "unexpected end" in str(error) or "limit" in str(error):
        raise UserError(f"{source} line {line}: a quoted field begins in this record and does not end") from error
    raise UserError(f"{source} line {line}: not CSV ({error})") from error


def _only_text_field(source: str, values: Mapping[str, object]) -> str:
    """The one field that is plainly the text."""
    usual = [name for name in TEXT_FIELDS if isinstance(values.get(name), str)]
    if len(usual) == 1:
        return usual[0]
    several = f"{' and '.join(usual)} may both be the text" if usual else "no field is plainly the text"
    raise UserError(f"{source}: {several}; choose one with --field; {_list(values)}")


def _list(names: Mapping[str, object] | Sequence[str]) -> str:
    shown = [_shown(name) for name in list(names)[:_SHOWN_FIELDS]]
    return f"found {', '.join(shown) or 'no field'}{', …' if len(names) > _SHOWN_FIELDS else ''}"


def _shown(text: str) -> str:
    """The beginning of what was found, harmless to a terminal."""
    start = "".join(char if char.isprintable() else "�" for char in text[:_SNIPPET])
    return start if len(text) <= _SNIPPET else f"{start}…"
