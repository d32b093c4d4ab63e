"""The texts that `tlpo detect` checks one at a time: lines of plain text, records of JSONL and CSV files."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tlpo_ray.data.columns import column_records
from tlpo_ray.data.folders import data_format
from tlpo_ray.data.tables import NUL, Defect, Record, TextLines, csv_records, json_line_records, snippet
from tlpo_ray.detect.inputs import OnRead, Source, open_source
from tlpo_ray.errors import UserError

TEXT_FIELDS = ("text", "response", "answer", "completion", "output", "generation", "content")
"""Usual fields of the text, one of which is selected if no field is given and a record has no other of them."""
LANGUAGE_FIELDS = ("language", "lang")
"""Fields that are read for a record's language if no field is given."""
_MAX_FIELDS_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One text that is checked by itself.

    Example: ``Unit(source="ko.csv", number=3, line=17, is_record=True, text="안녕하세요?", language="ko")``
    """

    source: str
    """The input, as output and error messages name it."""
    number: int
    """Line of a text or JSONL file, row of a table below its header; from 1."""
    line: int
    """Line of the file on which the unit begins, from 1; of a Parquet or Arrow file, the row."""
    is_record: bool
    """Whether the unit is a record rather than a line of plain text."""
    text: str
    language: str | None = None
    """Language that the record states; None if it states none."""

    @property
    def place(self) -> str:
        """File and line, for error messages."""
        return f"{self.source} line {self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNames:
    """Fields of a record that are read."""

    text: str | None
    """Field of the text; None selects one of `TEXT_FIELDS`."""
    language: str | None
    """Field of the language; None means one of `LANGUAGE_FIELDS`."""
    needs_language: bool
    """Whether a record without a language is malformed."""


class UnitReader:
    """Reads units, and counts what cannot be read.

    Args:
        fields: the fields of a record to read.
        skip_bad: whether malformed records are counted in `skipped` instead of raised.
    """

    def __init__(self, fields: FieldNames, skip_bad: bool) -> None:
        self._fields = fields
        self._skip_bad = skip_bad
        self.skipped: Counter[str] = Counter()
        """Number of skipped records by the kind of their defect."""
        self.not_utf8 = 0
        """Number of lines with bytes that are not UTF-8."""

    def units(self, source: Source, on_read: OnRead) -> Iterator[Unit]:
        """Yield the units of a source. Blank lines are skipped; a record with an empty text is a unit.

        Raises:
            UserError: The source cannot be read or lacks a field, or a record is malformed and is not to be skipped.
        """
        with open_source(source, on_read) as file:
            lines = TextLines(source.name, file)
            if source.format == "text":
                self._refuse_binary(source.name, file)
                yield from self._text_units(lines)
            elif source.format == "table":
                yield from self._record_units(source.name, column_records(source.name, file))
            elif source.format == "jsonl":
                yield from self._record_units(source.name, json_line_records(source.name, lines))
            else:
                delimiter = "\t" if source.path is not None and data_format(source.path) == ".tsv" else None
                rows = csv_records(lines, lambda header: self._check_header(source.name, header), delimiter=delimiter)
                yield from self._record_units(source.name, rows)
        self.not_utf8 += lines.not_utf8

    def reject(self, place: str, defect: Defect) -> None:
        """Count a malformed record, or raise it.

        Raises:
            UserError: Malformed records are not to be skipped.
        """
        if not self._skip_bad:
            raise UserError(f"{place}: {defect}")
        self.skipped[defect.kind] += 1

    def _refuse_binary(self, source: str, file: io.BufferedReader) -> None:
        """Raise before anything is judged if a file does not begin with text and such lines are not to be skipped."""
        head = file.peek()
        if not self._skip_bad and b"\0" in head:
            raise UserError(f"{source} line {head[: head.index(0)].count(10) + 1}: {NUL}")

    def _text_units(self, lines: TextLines) -> Iterator[Unit]:
        for line in lines:
            text = line.rstrip("\r\n")
            if "\0" in text:
                self.reject(f"{lines.name} line {lines.number}", NUL)
            elif text.strip():
                yield Unit(source=lines.name, number=lines.number, line=lines.number, is_record=False, text=text)

    def _record_units(self, source: str, records: Iterator[Record]) -> Iterator[Unit]:
        field = self._fields.text
        for record in records:
            values = record.content
            if isinstance(values, Defect):
                unit: Unit | Defect = values
            else:
                if field is None:  # the first good record decides for the rest of the file
                    field = _only_text_field(source, values)
                unit = self._unit(source, record, values, field)
            if isinstance(unit, Defect):
                self.reject(record.place, unit)
            else:
                yield unit

    def _unit(self, source: str, record: Record, values: Mapping[str, object], field: str) -> Unit | Defect:
        text, language = values.get(field), self._language(values)
        if not isinstance(text, str):
            kind = f"no text in field {snippet(field)!r}"
            detail = f"; it holds {snippet(json.dumps(text))}" if field in values else f"; {_list_names(values)}"
            return Defect(kind, detail)
        if isinstance(language, Defect):
            return language
        line = record.number if record.line is None else record.line
        return Unit(source=source, number=record.number, line=line, is_record=True, text=text, language=language)

    def _language(self, values: Mapping[str, object]) -> str | Defect | None:
        names = LANGUAGE_FIELDS if self._fields.language is None else (self._fields.language,)
        language = next((values[name] for name in names if name in values), None)
        if isinstance(language, str) and language:
            return language
        if not self._fields.needs_language:
            return None
        if self._fields.language is not None:
            return Defect(f"no language in field {snippet(self._fields.language)!r}", f"; {_list_names(values)}")
        return Defect(
            "no language",
            f" in a field language or lang: give --language or --language-field; {_list_names(values)}",
        )

    def _check_header(self, source: str, header: Sequence[str]) -> None:
        """Raise if a column does not exist: it would be missing in every row, so there is nothing to skip."""
        for option, name in (("--field", self._fields.text), ("--language-field", self._fields.language)):
            if name is not None and name not in header:
                raise UserError(f"{source}: {option} {name}: no such column; {_list_names(header)}")


def _only_text_field(source: str, values: Mapping[str, object]) -> str:
    """Return the one field that plainly is the text."""
    candidates = [name for name in TEXT_FIELDS if isinstance(values.get(name), str)]
    if len(candidates) == 1:
        return candidates[0]
    problem = f"{' and '.join(candidates)} may both be the text" if candidates else "no field is clearly the text"
    raise UserError(f"{source}: {problem}; choose one with --field; {_list_names(values)}")


def _list_names(names: Mapping[str, object] | Sequence[str]) -> str:
    shown = [snippet(name) for name in list(names)[:_MAX_FIELDS_SHOWN]]
    return f"found {', '.join(shown) or 'no field'}{', …' if len(names) > _MAX_FIELDS_SHOWN else ''}"
