"""Formats that are known by their content, wherever texts are read, and the account of every row."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.prepare import filter_prompts
from tlpo_ray.data.prompts import UNREADABLE, read_prompts
from tlpo_ray.data.readers import SUFFIXES, read_records
from tlpo_ray.data.rules import not_longer_than
from tlpo_ray.detect import DetectRequest, detect
from tlpo_ray.errors import PromptFileError, UserError

Rows = list[dict[str, Any]]
ROWS: Rows = [{"prompt": f"질문 {number}, 하나?", "language": "ko"} for number in range(6)]
CONFUSED: Rows = [{"answer": "통화는 엔입니다"}, {"answer": "통화는 єна입니다"}] * 3


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def separated(delimiter: str) -> Callable[[Rows], bytes]:
    def write(rows: Rows) -> bytes:
        names = list(rows[0]) if rows else ["prompt"]
        quoted = (['"' + str(row[name]).replace('"', '""') + '"' for name in names] for row in rows)
        header = delimiter.join(names) + "\r\n"
        return (header + "".join(delimiter.join(cells) + "\r\n" for cells in quoted)).encode("utf-8", "surrogateescape")

    return write


def table(write: Callable[[pa.Table, pa.NativeFile], None]) -> Callable[[Rows], bytes]:
    def to_bytes(rows: Rows) -> bytes:
        sink = pa.BufferOutputStream()
        write(pa.Table.from_pylist(rows), sink)
        return bytes(sink.getvalue())

    return to_bytes


def arrow(new: Callable[..., Any]) -> Callable[[pa.Table, pa.NativeFile], None]:
    def write(rows: pa.Table, sink: pa.NativeFile) -> None:
        with new(sink, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=2)

    return write


TEXTS: dict[str, Callable[[Rows], bytes]] = {
    ".jsonl": jsonl,
    ".ndjson": jsonl,
    ".json": lambda rows: json.dumps(rows, ensure_ascii=False, indent=1).encode(),
    ".csv": separated(","),
    ".tsv": separated("\t"),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}
TABLES: dict[str, Callable[[Rows], bytes]] = {
    "file.arrow": table(arrow(pa.ipc.new_file)),
    "stream.arrow": table(arrow(pa.ipc.new_stream)),
    "p.parquet": table(lambda rows, sink: pq.write_table(rows, sink, row_group_size=4)),
}
FILES: dict[str, Callable[[Rows], bytes]] = {
    **{
        f"p{end}{packed}": lambda rows, write=write, pack=pack: pack(write(rows))
        for end, write in TEXTS.items()
        for packed, pack in PACKERS.items()
    },
    **TABLES,
}


def test_every_end_of_a_name_is_tried() -> None:
    assert {suffix for suffix in SUFFIXES if not any(name.endswith(suffix) for name in FILES)} == set()


def prompts(file: Path, **options: Any) -> list[str]:
    data = DataConfig(prompts=str(file), shuffle=False, **options)
    return [prompt.text for prompt in read_prompts(data, 0).prompts]


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_read_as_prompts(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name](ROWS))
    assert prompts(tmp_path / name) == [row["prompt"] for row in ROWS]


def detected(file: Path, **options: Any) -> tuple[int, int]:
    detection = detect(DetectRequest(files=[file], language="ko", **options))
    assert sum(1 for _ in detection) == detection.total.units
    return detection.total.units, detection.total.confused


@pytest.mark.parametrize("name", [name for name in FILES if ".json" not in name.replace(".jsonl", "")])
def test_every_format_is_read_by_detect(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name](CONFUSED))
    assert detected(tmp_path / name) == (6, 3)
    assert detected(tmp_path) == (6, 3)


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("name", ["answers", "a.txt", "a.jsonl"])
def test_the_content_decides_whether_a_file_is_packed(packed: str, name: str, tmp_path: Path) -> None:
    """A name may lack the end, or have one although a browser has unpacked the file."""
    (tmp_path / name).write_bytes(PACKERS[packed](jsonl(CONFUSED)))
    assert detected(tmp_path / name, text_field="answer", input_format="jsonl") == (6, 3)
    (tmp_path / "p.jsonl.gz").write_bytes(PACKERS[packed](jsonl(ROWS)))
    assert len(prompts(tmp_path / "p.jsonl.gz")) == len(ROWS)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    (tmp_path / "answers").write_bytes(TABLES[name](CONFUSED))
    assert detected(tmp_path / "answers") == (6, 3)


def test_a_row_of_a_table_has_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(TABLES["p.parquet"]([*CONFUSED, {"answer": None}]))
    with pytest.raises(UserError, match=r"a\.parquet row 7: no text in field 'answer'"):
        detected(tmp_path / "a.parquet")
    detection = detect(DetectRequest(files=[tmp_path / "a.parquet"], language="ko", skip_bad=True))
    assert [found.unit.line for found in detection] == [1, 2, 3, 4, 5, 6]
    assert sum(detection.skipped.values()) == 1


def test_a_stream_of_several_frames_is_read_to_its_end(tmp_path: Path) -> None:
    for packed in (".gz", ".zst", ".xz", ".bz2"):
        content = PACKERS[packed](jsonl(ROWS)) + PACKERS[packed](jsonl(ROWS))
        (tmp_path / f"p.jsonl{packed}").write_bytes(content)
        assert len(prompts(tmp_path / f"p.jsonl{packed}")) == 2 * len(ROWS)
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    (tmp_path / "p.jsonl.zst").write_bytes(skippable + PACKERS[".zst"](jsonl(ROWS)))
    assert len(prompts(tmp_path / "p.jsonl.zst")) == len(ROWS)


@pytest.mark.parametrize("packed", [".gz", ".zst", ".xz", ".bz2"])
def test_a_file_that_was_cut_is_one_line(packed: str, tmp_path: Path) -> None:
    file = tmp_path / f"p.jsonl{packed}"
    file.write_bytes(PACKERS[packed](jsonl(ROWS * 100))[:-9])
    for attempt in (lambda: prompts(file, skip_bad=True), lambda: detected(file, text_field="prompt", skip_bad=True)):
        with pytest.raises(UserError) as caught:
            attempt()
        assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def archive(write: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def zip_of(name: str) -> bytes:
    def write(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w") as packed:
            packed.writestr(name, jsonl(ROWS))

    return archive(write)


def tar_of(mode: str) -> bytes:
    def write(buffer: io.BytesIO) -> None:
        with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
            member = tarfile.TarInfo("p.jsonl")
            member.size = len(jsonl(ROWS))
            tar.addfile(member, io.BytesIO(jsonl(ROWS)))

    return archive(write)


def database(folder: Path) -> bytes:
    with sqlite3.connect(folder / "db") as connection:
        connection.execute("create table answers (answer text)")
    connection.close()
    return (folder / "db").read_bytes()


OTHERS: Mapping[str, tuple[bytes, str]] = {
    "zip": (zip_of("p.jsonl"), "a ZIP archive or an Office document"),
    "xlsx": (zip_of("xl/workbook.xml"), "a ZIP archive or an Office document"),
    "pt": (archive(lambda buffer: torch.save({"a": torch.zeros(3)}, buffer)), "a ZIP archive or an Office document"),
    "tar": (tar_of("w"), "a tar archive"),
    "tar.gz": (tar_of("w:gz"), "unpacked: a tar archive"),
    "tar.xz": (tar_of("w:xz"), "unpacked: a tar archive"),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(16), "a GGUF model"),
    "safetensors": (save({"a": np.zeros(3, np.float32)}), "a safetensors file"),
    "pickle": (pickle.dumps(ROWS), "a pickle"),
    "npy": (archive(lambda buffer: np.save(buffer, np.zeros(3))), "a NumPy array"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(32), "an HDF5 file"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
    "lz4": (b"\x04\x22\x4d\x18\x64\x40\xa7", "an LZ4 file"),
    "utf-16": (jsonl(ROWS).decode().encode("utf-16"), "UTF-16 text; convert it to UTF-8"),
    "gzip in gzip": (gzip.compress(gzip.compress(jsonl(ROWS))), "gzip holds compressed data once more"),
    "parquet in zstd": (PACKERS[".zst"](TABLES["p.parquet"](ROWS)), "zstd holds a Parquet or Arrow file"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ["answers", "p.jsonl", "p.csv", "p.txt"])
def test_what_is_no_text_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    content, problem = OTHERS[kind]
    file = tmp_path / name
    file.write_bytes(content)
    for options in ({}, {"skip_bad": True}, {"text_field": "answer"}):
        with pytest.raises(UserError) as caught:
            detected(file, **({"input_format": "jsonl"} if options and name == "p.txt" else {}), **options)
        assert f"{file}" in str(caught.value) and "\n" not in str(caught.value)
        assert problem in str(caught.value) or "text_field" in options
    if name in ("p.jsonl", "p.csv"):
        with pytest.raises(PromptFileError, match=problem):
            prompts(file, skip_bad=True)


def test_a_database_and_other_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(database(tmp_path))
    with pytest.raises(PromptFileError, match="an SQLite database"):
        prompts(tmp_path / "p.jsonl")
    (tmp_path / "b.txt").write_bytes("통화는 єна입니다\n\0".encode())
    with pytest.raises(UserError, match=r"b\.txt line 2: not text"):
        next(iter(detect(DetectRequest(files=[tmp_path / "b.txt"], language="ko"))))  # before the line above is judged
    (tmp_path / "answers").write_bytes("글\n".encode("utf-16-le"))
    with pytest.raises(UserError, match=r"answers line 1: not text \(a NUL byte\)"):
        detected(tmp_path / "answers")


def test_a_nul_byte_is_a_malformed_line(tmp_path: Path) -> None:
    """As it stands in files whose end a crash has filled up: the other lines are judged, and this one is counted."""
    for name, lines in (
        ("a.txt", ["통화는 єна입니다", "\0\0\0\0", "통화는 엔입니다"]),
        ("a.csv", ["text", "통화는 єна입니다", "통화\0", "통화는 엔입니다"]),
        ("a.jsonl", ['{"text": "통화는 єна입니다"}', '{"text": "\0"}', '{"text": "통화는 엔입니다"}']),
    ):
        file = tmp_path / name
        file.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(UserError, match=f"{name} line {lines.index(lines[-1])}: not (text|JSON)"):
            detected(file)
        detection = detect(DetectRequest(files=[file], language="ko", skip_bad=True))
        assert (sum(1 for _ in detection), sum(detection.skipped.values())) == (2, 1)


def test_a_text_is_not_taken_for_something_else(tmp_path: Path) -> None:
    """Texts that begin with the letters of a format."""
    for text in ("PAR1 유전자", "GGUF 파일", "PK 마트", "BZh 문자", "ARROW1 화살", "Rar! 소리"):
        (tmp_path / "a.txt").write_text(f"{text}\n")
        assert detected(tmp_path / "a.txt") == (1, 0)


def test_a_table_or_an_archive_on_standard_input_is_one_line(tmp_path: Path) -> None:
    for content, problem in ((TABLES["p.parquet"](CONFUSED), "a Parquet or Arrow file; give it by its name"),
                             (OTHERS["zip"][0], "a ZIP archive")):  # fmt: skip
        command = [sys.executable, "-m", "tlpo_ray", "detect", "--language", "ko", "--fail-above", "0.01"]
        done = subprocess.run(command, input=content, capture_output=True, timeout=100)
        assert done.returncode == 2 and problem in done.stderr.decode() and done.stderr.count(b"\n") == 1
    command = [sys.executable, "-m", "tlpo_ray", "detect", "--language", "ko", "--field", "answer"]
    done = subprocess.run(command, input=PACKERS[".zst"](jsonl(CONFUSED)), capture_output=True, timeout=100)
    assert "another language in 3 of 6 records" in done.stdout.decode()


# -------------------------------------------------------------------------------------------------------- the account

SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
"""Characters at which `str.splitlines` cuts."""
texts = st.text(st.sampled_from("가나 ,;\t\"'\n\r\\{[" + SEPARATORS), max_size=8)
cells = st.one_of(texts, st.just("가" * 40))
rows = st.lists(st.fixed_dictionaries({"prompt": cells, "language": st.sampled_from(["ko", "ja"])}), max_size=12)


@given(rows=rows, name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 3), limit=st.sampled_from([None, 2]))
def test_every_row_is_kept_or_skipped_for_a_named_reason(
    rows: Rows, name: str, seed: int, limit: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any rows in any format: read = kept + skipped by reason, and the kept ones are the rows as they were written."""
    file = tmp_path_factory.mktemp("rows") / name
    file.write_bytes(FILES[name](rows))
    assert [record.fields for record in read_records(str(file), None, "train")] == rows
    blank = sum(not row["prompt"].strip() for row in rows)
    long = sum(len(row["prompt"]) > 20 for row in rows)
    data = DataConfig(prompts=str(file), skip_bad=True, max_characters=20, limit=limit)
    if blank == len(rows) and rows:
        with pytest.raises(PromptFileError, match=f"none of {len(rows)} lines can be read"):
            read_prompts(data, seed)
        return
    prompt_set = read_prompts(data, seed)
    assert prompt_set.skipped == {
        reason: number for reason, number in ((UNREADABLE, blank), ("longer than 20 characters", long)) if number
    }
    kept = Counter(row["prompt"] for row in rows if row["prompt"].strip() and len(row["prompt"]) <= 20)
    found = Counter(prompt.text for prompt in prompt_set.prompts)
    assert found <= kept and found.total() == min(kept.total(), limit or kept.total())
    assert prompt_set.total == len(prompt_set.prompts) + sum(prompt_set.skipped.values())


@given(contents=st.dictionaries(st.sampled_from(sorted(FILES)), rows, min_size=1, max_size=4), data=st.data())
def test_no_row_of_a_folder_is_lost(
    contents: dict[str, Rows], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Files of several formats in several folders: every row of every file is read once."""
    folder = tmp_path_factory.mktemp("folder")
    for name, written in contents.items():
        file = folder / data.draw(st.sampled_from([".", "a", "a/b", "c"])) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(FILES[name](written))
    read = Counter(
        (Path(record.source).name, *sorted((record.fields or {}).items()))
        for record in read_records(str(folder), None, "train")
    )
    assert read == Counter((name, *sorted(row.items())) for name, written in contents.items() for row in written)


def saved(rows: Rows, folder: Path) -> None:
    Dataset.from_list(rows).save_to_disk(folder)


def saved_splits(rows: Rows, folder: Path) -> None:
    other = Dataset.from_list([{"prompt": "시험", "language": "ko"}])
    DatasetDict({"train": Dataset.from_list(rows), "test": other}).save_to_disk(folder)


def in_folders(rows: Rows, folder: Path) -> None:
    for number, row in enumerate(rows):
        file = folder / str(number % 2) / f"{number}{list(FILES)[number % len(FILES)].removeprefix('p')}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(list(FILES.values())[number % len(FILES)]([row]))


FOLDERS: dict[str, Callable[[Rows, Path], None]] = {
    "save_to_disk": saved, "save_to_disk of splits": saved_splits, "files of every format": in_folders,
}  # fmt: skip
BAD = ["", " \n\t", "\u3000"]
"""Prompts that every format can hold and that are none."""


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
@settings(max_examples=8)
@given(order=st.permutations(["하나", "둘", "질문 셋은 너무 길다", *BAD]), repeats=st.integers(1, 3))
def test_a_bad_record_is_counted_by_every_reader(
    name: str, order: list[str], repeats: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever holds the records: read = kept + left out by reason, in a run and in `tlpo data prepare`."""
    source = tmp_path_factory.mktemp("bad") / name
    rows: Rows = [{"prompt": prompt, "language": "ko"} for prompt in order] * repeats
    if name in FILES:
        source.write_bytes(FILES[name](rows))
    else:
        FOLDERS[name](rows, source)
    reasons = {UNREADABLE: len(BAD) * repeats, "longer than 5 characters": repeats}
    data = DataConfig(prompts=str(source), skip_bad=True, max_characters=5)
    prompt_set = read_prompts(data, 0)
    assert Counter(prompt.text for prompt in prompt_set.prompts) == {"하나": repeats, "둘": repeats}
    assert (prompt_set.skipped, prompt_set.total) == (reasons, len(rows))
    filtered = filter_prompts(data, [not_longer_than(5)])
    assert (filtered.dropped, filtered.read, len(filtered.prompts)) == (reasons, len(rows), 2 * repeats)
    assert {each.text for each in filtered.examples[UNREADABLE]} == {"field 'prompt' is empty"}
    with pytest.raises(PromptFileError, match=f"{re.escape(str(source))}.* field 'prompt' is empty; repair it"):
        read_prompts(DataConfig(prompts=str(source)), 0)


def spoilt(line: bytes, kind: str) -> bytes:
    """Return a line of JSON or CSV that cannot be read."""
    match kind:
        case "cut":
            return line.partition(b",")[0].replace(b'"', b"")
        case "not UTF-8":
            return line.replace("질".encode(), b"\xff")
        case _:
            return line + b",more"


@given(bad=st.sets(st.integers(0, 5), max_size=5), kind=st.sampled_from(["cut", "not UTF-8", "more"]),
       end=st.sampled_from([".jsonl", ".csv", ".tsv.zst", ".json.gz"]))  # fmt: skip
def test_every_malformed_line_is_counted(
    bad: set[int], kind: str, end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Prompts and `tlpo detect` count the same lines, and name the first of them without `--skip-bad`."""
    plain, _, packed = end[1:].partition(".")
    header, lines = [], jsonl(ROWS).splitlines()
    if plain in ("csv", "tsv"):
        header, *lines = [TEXTS[f".{plain}"](ROWS).splitlines()[:1], *TEXTS[f".{plain}"](ROWS).splitlines()[1:]]
        kind = kind if plain == "csv" else "not UTF-8"
    lines = [spoilt(line, kind) if number in bad else line for number, line in enumerate(lines)]
    file = tmp_path_factory.mktemp("lines") / f"p{end}"
    file.write_bytes(PACKERS[f".{packed}" if packed else ""](b"\n".join([*header, *lines])))
    prompt_set = read_prompts(DataConfig(prompts=str(file), skip_bad=True, shuffle=False), 0)
    assert [prompt.text for prompt in prompt_set.prompts] == [
        row["prompt"] for number, row in enumerate(ROWS) if number not in bad
    ]
    assert prompt_set.skipped == ({UNREADABLE: len(bad)} if bad else {})
    if bad:
        with pytest.raises(PromptFileError, match=f"line {min(bad) + 1 + len(header)}: "):
            read_prompts(DataConfig(prompts=str(file)), 0)
    if kind != "not UTF-8":  # `tlpo detect` reads these
        detection = detect(DetectRequest(files=[file], language="ko", text_field="prompt", skip_bad=True))
        assert (sum(1 for _ in detection), sum(detection.skipped.values())) == (6 - len(bad), len(bad))
