"""Prompts: every format gives the same records, every line is accounted for, the order is the same everywhere."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared import DATA
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.load import load_prompts
from tlpo_ray.data.prepare import prepare_prompts
from tlpo_ray.data.prompts import UNREADABLE, PromptSet, read_prompts
from tlpo_ray.data.requests import PrepareRequest
from tlpo_ray.errors import PromptFileError

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"id": "a", "language": "ko", "prompt": "일본의 통화는 무엇입니까?"},
    {"id": "b", "language": "ja", "prompt": "大韓民国の通貨は何ですか?"},
    {"id": "c", "language": "ar", "prompt": "ما هي عملة اليابان؟"},
]
MIF = DATA / "mif"


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def json_list(rows: Rows) -> bytes:
    return json.dumps(rows, indent=1).encode()


def parquet(rows: Rows) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


def zipped(write: Callable[[Rows], bytes]) -> Callable[[Rows], bytes]:
    return lambda rows: gzip.compress(write(rows))


def read(source: Path, seed: int = 0, **options: Any) -> PromptSet:
    return read_prompts(DataConfig(prompts=str(source), **options), seed)


def ids(prompt_set: PromptSet) -> list[str]:
    return [prompt.id for prompt in prompt_set.prompts]


def refusal(source: Path | str, **options: Any) -> str:
    with pytest.raises(PromptFileError) as caught:
        read_prompts(DataConfig(prompts=str(source), **options), 0)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


# ------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("p.jsonl", jsonl),
        ("p.jsonl.gz", zipped(jsonl)),
        ("p.json", json_list),
        ("p.json", jsonl),
        ("p.json.gz", zipped(json_list)),
        ("p.parquet", parquet),
        ("p.jsonl", lambda rows: b"\xef\xbb\xbf\r\n" + jsonl(rows).replace(b"\n", b"\r\n\r\n")),
        ("p.json", lambda rows: b"\xef\xbb\xbf\n\n  " + json_list(rows)),
    ],
    ids=["jsonl", "jsonl.gz", "json list", "json lines", "json.gz", "parquet", "windows jsonl", "windows json"],
)
def test_every_format_gives_the_same_prompts(tmp_path: Path, name: str, write: Callable[[Rows], bytes]) -> None:
    (tmp_path / name).write_bytes(write(ROWS))
    prompt_set = read(tmp_path / name, shuffle=False)
    assert [{"id": p.id, "language": p.language, "prompt": p.text} for p in prompt_set.prompts] == ROWS
    assert (prompt_set.total, prompt_set.skipped) == (3, {})


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "2.parquet").write_bytes(parquet(ROWS[1:2]))
    (tmp_path / "deep" / "3.json.gz").write_bytes(zipped(json_list)(ROWS[2:]))
    (tmp_path / "1.jsonl").write_bytes(jsonl(ROWS[:1]))
    (tmp_path / "README.md").write_text("not a prompt")
    assert ids(read(tmp_path, shuffle=False)) == ["a", "b", "c"]


def test_bactrian_x_rows(tmp_path: Path) -> None:
    rows: Rows = [
        {"instruction": "요약하세요.", "input": "긴 글", "id": "alpaca-1", "output": "…"},
        {"instruction": "인사하세요.", "input": "", "id": "alpaca-2", "output": "…"},
        {"instruction": "세어 보세요.", "input": None, "id": "alpaca-3", "output": "…"},
    ]
    (tmp_path / "ko.json.gz").write_bytes(zipped(json_list)(rows))
    prompt_set = read(tmp_path / "ko.json.gz", language="ko", prompt_field="instruction", shuffle=False)
    assert [prompt.text for prompt in prompt_set.prompts] == ["요약하세요.\n긴 글", "인사하세요.", "세어 보세요."]
    assert ids(prompt_set) == ["alpaca-1", "alpaca-2", "alpaca-3"]
    message = refusal(tmp_path / "ko.json.gz", language="ko")
    assert (
        "item 1: no field 'prompt'; found instruction, input, id, output; set data.prompt_field=instruction" in message
    )


def test_a_prompt_without_an_id_is_named_after_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "ko.jsonl").write_text('{"prompt": "가"}\n\n{"prompt": "나", "id": 7}\n{"prompt": "다"}\n')
    assert ids(read(tmp_path / "ko.jsonl", language="ko", shuffle=False)) == ["ko.jsonl:1", "7", "ko.jsonl:4"]


# -------------------------------------------------------------------------------------------------- malformed lines

GOOD = b'{"prompt": "?", "language": "ko"}'
MALFORMED = [
    (b'{"prompt": "?', "not JSON (Unterminated string starting at at column 12)"),
    (b"\xb0\xa1\xb3\xaa", "not UTF-8 text (byte 1 is 0xb0)"),
    (b"\x1b[2J nonsense", "not JSON (Expecting value at column 1): \ufffd[2J nonsense"),
    (b'["?"]', "not an object with fields (found list)"),
    (b"17", "not an object with fields (found int)"),
    (b"[" * 100_000, "not JSON ("),
    (b"9" * 5_000, "not JSON ("),
    (b"{}", "no field 'prompt'; found no fields"),
    (b'{"text": "?", "language": "ko"}', "no field 'prompt'; found text, language"),
    (b'{"prompt": " ", "language": "ko"}', "field 'prompt' is empty"),
    (b'{"prompt": 3, "language": "ko"}', "field 'prompt' holds int, not text"),
    (b'{"prompt": "?"}', "no language in field 'language'; set data.language"),
    (b'{"prompt": "?", "language": 3}', "field 'language' holds int"),
    (b'{"prompt": "\\ud83d", "language": "ko"}', "a text holds half a surrogate pair"),
]


@pytest.mark.parametrize(("line", "expected"), MALFORMED, ids=[expected[:24] for _, expected in MALFORMED])
def test_a_malformed_line_is_named_or_counted(tmp_path: Path, line: bytes, expected: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(b"\n".join([GOOD, b"", line, GOOD]))
    assert f"{file} line 3: {expected}" in refusal(file)
    prompt_set = read(file, skip_bad=True)
    assert (len(prompt_set.prompts), prompt_set.skipped, prompt_set.total) == (2, {UNREADABLE: 1}, 3)


@given(lines=st.lists(st.one_of(st.just(GOOD), st.binary(max_size=40)), max_size=20))
def test_every_line_is_accounted_for(lines: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("lines") / "p.jsonl"
    file.write_bytes(b"\n".join([GOOD, *lines]))
    expected = Counter(line == GOOD for line in file.read_bytes().split(b"\n") if line.strip())
    prompt_set = read(file, skip_bad=True)
    assert len(prompt_set.prompts) == expected[True]
    assert sum(prompt_set.skipped.values()) == prompt_set.skipped.get(UNREADABLE, 0) == expected[False]
    assert prompt_set.total == expected.total()


def test_a_file_without_a_good_line_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'{"text": "?"}\n{"text": "!"}\n')
    message = refusal(tmp_path / "p.jsonl", skip_bad=True)
    assert "none of 2 lines can be read" in message and "line 1: no field 'prompt'; found text" in message


def test_a_parquet_text_that_is_not_utf8_is_a_malformed_row(tmp_path: Path) -> None:
    prompts = pa.array([b"ok", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"prompt": prompts}), tmp_path / "p.parquet")
    assert "p.parquet row 2: a text is not UTF-8" in refusal(tmp_path / "p.parquet", language="ko")
    assert read(tmp_path / "p.parquet", language="ko", skip_bad=True).skipped == {UNREADABLE: 1}


# ----------------------------------------------------------------------------------------- filters, order, limit


def numbered(tmp_path: Path, n: int) -> Path:
    file = tmp_path / "n.jsonl"
    file.write_bytes(jsonl([{"id": str(i), "prompt": "x" * (i + 1), "language": "ko"} for i in range(n)]))
    return file


def test_the_order_is_the_same_on_every_machine(tmp_path: Path) -> None:
    file = numbered(tmp_path, 8)
    assert ids(read(file, seed=0)) == list("42653170")
    assert ids(read(file, seed=1)) != ids(read(file, seed=0))
    assert ids(read(file, shuffle=False)) == list("01234567")
    assert [prompt.index for prompt in read(file).prompts] == list(range(8))


def test_the_limit_takes_the_first_prompts_of_the_shuffled_order(tmp_path: Path) -> None:
    file = numbered(tmp_path, 20)
    everything = read(file)
    few = read(file, limit=5)
    assert few.prompts == everything.prompts[:5] and few.total == 5
    assert read(file, limit=99) == everything


def test_skipped_prompts_are_counted_by_reason(tmp_path: Path) -> None:
    file = numbered(tmp_path, 10)
    data = DataConfig(prompts=str(file), max_characters=7)
    prompt_set = read_prompts(data, 0, lambda prompt: "odd" if int(prompt.id) % 2 else None)
    assert sorted(ids(prompt_set)) == ["0", "2", "4", "6"]
    assert prompt_set.skipped == {"longer than 7 characters": 3, "odd": 3} and prompt_set.total == 10


def test_no_prompt_beyond_the_limit_is_examined(tmp_path: Path) -> None:
    seen: list[str] = []

    def reject(prompt: Any) -> str | None:
        seen.append(prompt.id)
        return "first" if len(seen) == 1 else None

    prompt_set = read_prompts(DataConfig(prompts=str(numbered(tmp_path, 50)), limit=3), 0, reject)
    assert (len(seen), len(prompt_set.prompts), prompt_set.skipped, prompt_set.total) == (4, 3, {"first": 1}, 4)


def test_other_languages_do_not_belong_to_the_run(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(jsonl(ROWS))
    prompt_set = read(tmp_path / "p.jsonl", languages=("ar", "ko"), shuffle=False)
    assert (ids(prompt_set), prompt_set.skipped, prompt_set.total) == (["a", "c"], {}, 2)
    assert prompt_set.note_lines() == ["1 prompt: in another language than those asked for (ja)"]


def test_languages_of_which_no_prompt_is_left_are_named(tmp_path: Path) -> None:
    names = ["Korean", "Korean", "Kauderwelsch", "en", "fr", "de", "ja", "th"]
    (tmp_path / "p.jsonl").write_bytes(jsonl([{"prompt": "?", "language": name} for name in names]))
    data = DataConfig(prompts=str(tmp_path / "p.jsonl"), languages=("zh",))
    with pytest.raises(
        PromptFileError, match=r"8 prompts: in another language than those asked for \(ko, Kauderwelsch, .*, …\)"
    ):
        load_prompts(data, DetectorConfig(), 0)
    request = PrepareRequest(source=data.prompts, language="zh", output=tmp_path / "o.jsonl")
    with pytest.raises(PromptFileError, match=r"languages found: 'ko', 'Kauderwelsch'"):
        prepare_prompts(request)


def test_the_language_of_a_row_overrides_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'{"prompt": "?", "language": "ja"}\n{"prompt": "?"}\n')
    prompt_set = read(tmp_path / "p.jsonl", language="ko", shuffle=False)
    assert [prompt.language for prompt in prompt_set.prompts] == ["ja", "ko"]


# ------------------------------------------------------------------------------------------------- damaged sources


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.jsonl.gz", zipped(jsonl)(ROWS)[:-12], "damaged compressed file"),
        ("p.parquet", parquet(ROWS)[:-20], "damaged Parquet or Arrow file"),
        ("p.parquet", b"", "damaged Parquet or Arrow file"),
        ("p.json", b'[{"prompt": "?"},\n{"prompt"', "not JSON (Expecting ':' delimiter at line 2 column 10)"),
        ("p.txt", b"?", "not a prompt file; expected .jsonl"),
    ],
)
def test_a_damaged_file_is_never_skipped(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{tmp_path / name}: {expected}" in refusal(tmp_path / name, skip_bad=True, language="ko")


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "gone.jsonl")
    assert "no such file or folder" in refusal("gone.jsonl")
    assert "no prompt file in this folder" in refusal(tmp_path)
    assert "data.prompts is empty" in refusal("")


def test_a_hub_dataset_without_a_network_is_an_error_of_one_line() -> None:
    code = (
        "from tlpo_ray.config.run import DataConfig; from tlpo_ray.data.prompts import read_prompts\n"
        "from tlpo_ray.errors import PromptFileError\n"
        "try: read_prompts(DataConfig(prompts='nobody/nothing', subset='ko'), 0)\n"
        "except PromptFileError as error: print(error)\n"
    )
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True)
    (line,) = run.stdout.splitlines()
    assert line.startswith("nobody/nothing (data.subset=ko, data.split=train): no such file here")


# ------------------------------------------------------------------------------------------- published prompt sets


@pytest.mark.skipif(not MIF.is_dir(), reason="needs the Marco-Bench-MIF prompts (TLPO_SHARED)")
@pytest.mark.parametrize("name", ["ko", "ja", "ar_local", "en", "ru", "th", "uk"])
def test_published_prompts_are_all_read(name: str) -> None:
    prompt_set = read(MIF / f"{name}.jsonl", language=name[:2], id_field="key", max_characters=10_000)
    assert (len(prompt_set.prompts), prompt_set.skipped, prompt_set.total) == (541, {}, 541)


@pytest.mark.skipif(not MIF.is_dir(), reason="needs the Marco-Bench-MIF prompts (TLPO_SHARED)")
def test_a_line_that_is_malformed_as_published_is_named_and_counted() -> None:
    assert "zh_local.jsonl line 15: not JSON" in refusal(MIF / "zh_local.jsonl", language="zh")
    prompt_set = read(MIF / "zh_local.jsonl", language="zh", skip_bad=True, max_characters=10_000)
    assert (len(prompt_set.prompts), prompt_set.skipped, prompt_set.total) == (540, {UNREADABLE: 1}, 541)
