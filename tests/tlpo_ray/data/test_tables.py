"""The readers of records: what ends a line, what a malformed record is, and where a record certainly ends."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tlpo_ray.data import tables
from tlpo_ray.data.readers import read_records
from tlpo_ray.data.tables import Defect, Record, TextLines, csv_records, json_line_records
from tlpo_ray.errors import PromptFileError, UserError
from tlpo_ray.files import read_json_lines

TEXTS = ["a\u2028b", "c\u2029d", "e\x85f", "g\x0bh\x0ci\x1cj", "\u2028", "k"]
"""Texts with every character at which `str.splitlines` cuts, though it does not end a line of a file."""


def text_lines(content: bytes) -> TextLines:
    return TextLines("p", io.BytesIO(content))


def csv_rows(content: bytes, **options: Any) -> list[Record]:
    return list(csv_records(text_lines(content), **options))


def defects(records: list[Record]) -> list[tuple[int, str]]:
    return [(record.number, record.problem) for record in records if isinstance(record.content, Defect)]


def from_file(suffix: str) -> Callable[[bytes, Path], Iterator[Record]]:
    def read(content: bytes, folder: Path) -> Iterator[Record]:
        (folder / f"p{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
        return read_records(str(folder / f"p{suffix}"), None, "train")

    return read


JSON_READERS: dict[str, Callable[[bytes, Path], Iterator[Record]]] = {
    "bytes": lambda content, _: json_line_records("p", io.BytesIO(content)),
    "text": lambda content, _: json_line_records("p", text_lines(content)),
    "jsonl": from_file(".jsonl"),
    "json": from_file(".json"),
    "jsonl.gz": from_file(".jsonl.gz"),
}
CSV_READERS: dict[str, Callable[[bytes, Path], Iterator[Record]]] = {
    "text": lambda content, _: iter(csv_rows(content)),
    "UTF-8 only": lambda content, _: iter(csv_rows(content, utf8_only=True)),
    "csv": from_file(".csv"),
    "csv.gz": from_file(".csv.gz"),
}


@pytest.mark.parametrize("name", JSON_READERS)
def test_only_a_line_feed_ends_a_line_of_json(name: str, tmp_path: Path) -> None:
    content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\r\n" for text in TEXTS)
    # json.dumps escapes control characters; U+2028, U+2029 and U+0085 stay as they are.
    assert len(content.splitlines()) > len(TEXTS)
    records = list(JSON_READERS[name](content.encode(), tmp_path))
    assert [record.content for record in records] == [{"text": text} for text in TEXTS]
    assert [record.number for record in records] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", CSV_READERS)
def test_only_a_line_feed_ends_a_line_of_csv(name: str, tmp_path: Path) -> None:
    content = "text,n\n" + "".join(f"{text},1\n" for text in TEXTS)
    records = list(CSV_READERS[name](content.encode(), tmp_path))
    assert [record.content for record in records] == [{"text": text, "n": "1"} for text in TEXTS]


CUT_AT_ANY_SEPARATOR = {
    "actors/vllm_engine.py": "messages",
    "detectors/lexicon.py": "our own list of words",
    "tlpo_ray/cluster/waiting.py": "messages",
    "tlpo_ray/errors.py": "messages",
    "tlpo_ray/experiment/full_size.py": "output of a command",
    "tlpo_ray/quickstart/wheels.py": "output of a command",
    "tlpo_ray/run/journal.py": "JSON in ASCII",
}
"""Modules that may use `str.splitlines`, and what they cut with it."""


def test_no_other_module_cuts_lines_at_any_separator() -> None:
    root = Path(__file__).parents[3]
    files = [
        file for package in ("tlpo_ray", "actors", "learner", "detectors") for file in (root / package).rglob("*.py")
    ]
    users = {str(file.relative_to(root)) for file in files if ".splitlines(" in file.read_text(encoding="utf-8")}
    assert users == set(CUT_AT_ANY_SEPARATOR)


def test_only_a_line_feed_ends_a_line_of_text() -> None:
    lines = text_lines("".join(f"{text}\n" for text in TEXTS).encode())
    assert list(lines) == [f"{text}\n" for text in TEXTS]
    assert lines.number == len(TEXTS)


def test_only_a_line_feed_ends_a_line_of_our_own_files(tmp_path: Path) -> None:
    rows = [{"text": text} for text in TEXTS]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "a.jsonl").write_text("\ufeff" + "\n\n".join(lines), encoding="utf-8")
    assert list(read_json_lines(tmp_path / "a.jsonl")) == list(zip(range(1, 12, 2), rows, strict=True))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[1]", "expected a JSON object, found list"),
        (b'{"a": ', "not JSON (Expecting value: line 1 column 7 (char 6))"),
        (b"\xff", "not JSON ("),
        (b"[" * 100_000, "not JSON ("),
        (b"9" * 5_000, "not JSON ("),
    ],
)
def test_a_malformed_line_of_our_own_files_is_named(tmp_path: Path, line: bytes, problem: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a": 1}\n\n' + line)
    with pytest.raises(UserError) as caught:
        list(read_json_lines(file))
    assert str(caught.value).startswith(f"{file} line 3: {problem}")
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        list(read_json_lines(tmp_path / "missing.jsonl"))


def test_bytes_that_are_not_utf8_are_malformed_in_a_prompt_and_kept_in_a_text() -> None:
    line = b'{"text": "\xff"}\n'
    (strict,) = json_line_records("p", io.BytesIO(line))
    assert strict.problem == "not UTF-8 text (byte 11 is 0xff)"
    lines = text_lines(line)
    (kept,) = json_line_records("p", lines)
    assert (kept.content, lines.not_utf8) == ({"text": "\udcff"}, 1)


def test_a_malformed_record_has_a_kind_and_details() -> None:
    lines = [b'{"a": 1}', b"nonsense \x1b[2J" + b"x" * 50, b"17", b'[{"a": 1},', b"null"]
    records = list(json_line_records("p.jsonl", lines))
    contents = [record.content for record in records[1:]]
    assert [content.kind for content in contents if isinstance(content, Defect)] == [
        "not JSON", "not an object with fields", "not JSON", "not an object with fields",
    ]  # fmt: skip
    assert records[1].problem == f"not JSON (Expecting value at column 1): nonsense \ufffd[2J{'x' * 27}…"
    assert records[2].problem == "not an object with fields (found int)"
    assert records[3].problem.endswith("write one record per line")
    assert (records[1].place, records[1].name, records[1].fields) == ("p.jsonl line 2", "p.jsonl:2", None)
    assert records[0].problem == ""


def test_a_malformed_row_of_csv_is_one_record() -> None:
    content = b'id,text\n1,a\n2,b,c\n3\n4,"d"e\n5,f\n6,\0\n7,x\ry\n\n8,"g\nh"\n'
    records = csv_rows(content)
    assert defects(records) == [
        (2, "not as many fields as the header: expected 2, found 3"),
        (3, "not as many fields as the header: expected 2, found 1"),
        (4, "not CSV (',' expected after '\"'); a quote inside quotes is written twice"),
        (6, "not text (a NUL byte)"),
        (7, "not CSV (a carriage return outside quotes); end lines with a line feed"),
    ]
    assert [record.line for record in records] == [2, 3, 4, 5, 6, 7, 8, 10]
    assert records[1].place == "p line 3"
    assert records[-1].content == {"id": "8", "text": "g\nh"}


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_the_delimiter_of_csv_is_recognised(delimiter: str) -> None:
    content = f"id{delimiter}text\n1{delimiter}a\n".encode()
    assert [record.content for record in csv_rows(content)] == [{"id": "1", "text": "a"}]


def test_a_single_column_is_not_split_at_a_comma(tmp_path: Path) -> None:
    """A prompt with a comma is two fields of a .csv file, and one of a .tsv file."""
    content = "prompt\n서울, 부산 가운데 어디가 큰가요?\n".encode()
    (refused,) = CSV_READERS["csv"](content, tmp_path)
    assert (refused.place, refused.problem) == (
        f"{tmp_path}/p.csv line 2",
        "not as many fields as the header: expected 1, found 2",
    )
    (read,) = from_file(".tsv.xz")(content, tmp_path)
    assert read.content == {"prompt": "서울, 부산 가운데 어디가 큰가요?"}


UNKNOWN_END = "where this record ends is unknown"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ('"never closed\n3,b\n', "line 3: a quoted field begins in this record and does not end"),
        ('2,"never closed\n"3",b\n', f"line 3: not CSV (',' expected after '\"'), and {UNKNOWN_END}"),
        ('2,"d"e,"multi\nline"\n', f"line 3: not CSV (',' expected after '\"'), and {UNKNOWN_END}"),
        ('"2,b\n3,"\n', "line 3: not as many fields as the header: expected 2, found 1; a field in quotes"),
    ],
)
def test_a_record_of_csv_without_a_certain_end_is_never_skipped(rows: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        csv_rows(f"id,text\n1,a\n{rows}".encode())
    assert f"p {problem}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_column_of_csv_has_one_name() -> None:
    with pytest.raises(UserError, match="p line 2: several columns are called 'text'"):
        csv_rows(b"\nid,text,text\n1,a,b\n")
    (record,) = csv_rows(b"id,text,,\n1,a,,\n")
    assert record.fields is not None and (record.fields["id"], record.fields["text"]) == ("1", "a")


def test_a_field_of_csv_may_be_long() -> None:
    """The csv module's own limit is 131,072 characters."""
    long = "가" * 200_000
    assert [record.content for record in csv_rows(f"a,b\n1,{long}\n2,c\n".encode())] == [
        {"a": "1", "b": long},
        {"a": "2", "b": "c"},
    ]


def test_a_row_of_csv_that_is_not_utf8_is_malformed_in_a_prompt_file_and_kept_in_a_text() -> None:
    content = b'a,b\n1,\xff\n2,"x\n\xfe"\n3,c\n'
    assert defects(csv_rows(content, utf8_only=True)) == [(1, "not UTF-8 text"), (2, "not UTF-8 text")]
    assert defects(csv_rows(content)) == []


def test_a_line_without_an_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_LINE_BYTES", 10)
    lines = text_lines(b"short\n" + b"x" * 100)
    assert next(lines) == "short\n"
    with pytest.raises(UserError, match="p line 2: longer than"):
        next(lines)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_file_that_cannot_be_read_is_a_prompt_file_error(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"p{suffix}.gz").write_bytes(gzip.compress(b"text\n" * 1000)[:-12])
    with pytest.raises(PromptFileError, match="damaged compressed file"):
        list(read_records(str(tmp_path / f"p{suffix}.gz"), None, "train"))
