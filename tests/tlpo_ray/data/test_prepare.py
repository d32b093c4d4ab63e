"""Preparing prompts: every format of the dataset, every record accounted for."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.prepare import MAX_EXAMPLES, NO_ANSWER, FilteredPrompts, file_of_language, filter_prompts
from tlpo_ray.data.prompts import UNREADABLE, usual_field
from tlpo_ray.data.rules import OTHER_LANGUAGE, Rule, in_language, no_duplicates, not_longer_than
from tlpo_ray.errors import PromptFileError
from tlpo_ray.flow.records import Prompt

Rows = list[dict[str, Any]]
BACTRIAN: Rows = [
    {"id": "alpaca-1", "instruction": "건강을 지키는 방법은?", "input": "", "output": "잘 자는 것입니다."},
    {"id": "alpaca-2", "instruction": "다음을 분류하세요.", "input": "참나무, 구리", "output": "나무와 금속입니다."},
    {"id": "dolly-3", "instruction": "왜 하늘은 파랗습니까?", "input": "", "output": "산란 때문입니다."},
]


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(rows: Rows) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "ko.json.gz": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "ko.json": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False).encode(),
    "ko.jsonl": jsonl,
    "ko.parquet": parquet,
}


def settings(source: Path | str, **more: Any) -> DataConfig:
    return DataConfig(**{"prompts": str(source), "language": "ko", "prompt_field": "instruction"} | more)


def texts(filtered: FilteredPrompts) -> list[str]:
    return [prompt.text for prompt in filtered.prompts]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("from_folder", [False, True])
def test_every_format_of_bactrian_x_is_read_alike(tmp_path: Path, name: str, from_folder: bool) -> None:
    file = tmp_path / "data" / name
    file.parent.mkdir()
    file.write_bytes(FORMATS[name](BACTRIAN))
    (tmp_path / "data" / "ja.jsonl").write_text('{"instruction": "なぜ空は青いのですか。"}', encoding="utf-8")
    data = settings(file_of_language(str(tmp_path), "ko") if from_folder else file)
    assert usual_field(data) == "instruction"
    filtered = filter_prompts(data, [], "output")
    assert texts(filtered) == ["건강을 지키는 방법은?", "다음을 분류하세요.\n참나무, 구리", "왜 하늘은 파랗습니까?"]
    assert [prompt.id for prompt in filtered.prompts] == ["alpaca-1", "alpaca-2", "dolly-3"]
    assert filtered.answers == ("잘 자는 것입니다.", "나무와 금속입니다.", "산란 때문입니다.")
    assert (filtered.read, filtered.dropped) == (3, {})


def test_a_folder_without_a_file_of_the_language_is_read_completely(tmp_path: Path) -> None:
    (tmp_path / "part-0.jsonl").write_bytes(jsonl(BACTRIAN))
    assert file_of_language(str(tmp_path), "ko") == str(tmp_path)
    assert file_of_language("", "ko") == ""
    assert len(filter_prompts(settings(tmp_path), []).prompts) == 3


def test_a_prompt_counts_under_the_first_reason_which_has_examples(tmp_path: Path) -> None:
    rows: Rows = [
        *({"id": f"long{number}", "instruction": "길" * 20} for number in range(5)),
        {"id": "ja", "instruction": "길" * 20, "language": "ja"},
        {"id": "mute", "instruction": "왜?", "output": " "},
        {"id": "a", "instruction": "하나", "output": "답"},
        {"id": "b", "instruction": " 하나\n", "output": "답"},
        {"id": "bad", "instruction": "둘 셋", "output": "답"},
        {"id": "empty", "instruction": ""},
    ]
    file = tmp_path / "p.jsonl"
    file.write_bytes(jsonl(rows))
    bad = Rule(
        reject=lambda prompt: "says two" if "둘" in prompt.text else None,
        spans=lambda prompt: [(prompt.text.index("둘"), prompt.text.index("둘") + 1)],
    )
    rules = [in_language("ko"), not_longer_than(10), bad, no_duplicates()]
    filtered = filter_prompts(settings(file, skip_bad=True), rules, "output")
    assert texts(filtered) == ["하나"] and filtered.answers == ("답",)
    assert filtered.dropped == {
        "longer than 10 characters": 5, "is in another language": 1, NO_ANSWER: 1, "is a duplicate": 1,
        "says two": 1, UNREADABLE: 1,
    }  # fmt: skip
    long = filtered.examples["longer than 10 characters"]
    assert [example.id for example in long] == ["long0", "long1", "long2"] and len(long) == MAX_EXAMPLES
    assert filtered.examples["says two"][0].words == ["둘"]
    (unreadable,) = filtered.examples[UNREADABLE]
    assert "line 11" in unreadable.id and unreadable.text == "field 'instruction' is empty"
    assert [each.words for each in filtered.examples[OTHER_LANGUAGE]] == [["ja"]]


@given(st.lists(st.sampled_from(["가", "나", "다라마", "\t가 ", ""]), min_size=1, max_size=12))
def test_kept_and_dropped_add_up(tmp_path_factory: pytest.TempPathFactory, prompts: list[str]) -> None:
    file = tmp_path_factory.mktemp("rows") / "p.jsonl"
    file.write_bytes(jsonl([{"instruction": text} for text in [*prompts, "나"]]))
    filtered = filter_prompts(settings(file, skip_bad=True), [not_longer_than(2), no_duplicates()])
    assert filtered.read == len(prompts) + 1 == len(filtered.prompts) + sum(filtered.dropped.values())
    assert [prompt.index for prompt in filtered.prompts] == list(range(len(filtered.prompts)))
    assert filtered.dropped.get(UNREADABLE, 0) == prompts.count("")
    assert len(filtered.prompts) == len({text.strip() for text in [*prompts, "나"] if 0 < len(text) <= 2})


def test_a_record_without_a_prompt_is_an_error_unless_skipped(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(jsonl([BACTRIAN[0], {"output": "답"}]))
    with pytest.raises(PromptFileError, match=r"line 2: no field 'instruction'.*--skip-bad"):
        filter_prompts(settings(file), [])
    assert filter_prompts(settings(file, skip_bad=True), []).dropped == {UNREADABLE: 1}


def test_rules_see_the_context_of_an_instruction(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(jsonl(BACTRIAN))
    seen: list[str] = []

    def note(prompt: Prompt) -> None:
        seen.append(prompt.text)

    filter_prompts(settings(file), [Rule(reject=note)])
    assert seen[1] == "다음을 분류하세요.\n참나무, 구리"
