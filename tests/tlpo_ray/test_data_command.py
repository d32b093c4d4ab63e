"""`tlpo data`: what Appendix B drops, in every form that Bactrian-X comes in, and what a user is told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detectors import UnknownLanguageError
from tlpo_ray.commands.data import pairs_command, prepare_command
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.appendix_b import about_code, names_a_language
from tlpo_ray.evaluation.sampling import Sampling
from tlpo_ray.flow.errors import PromptFileError, UserError
from tlpo_ray.flow.records import Prompt

KEPT = "건강을 유지하는 방법을 알려 주세요."
ROWS = [
    {"instruction": KEPT, "input": "", "id": "a-1", "output": "잘 주무세요."},
    {"instruction": "다음 문장을 영어로 말하세요.", "input": None, "id": "a-2", "output": ""},
    {"instruction": "파이썬 코드를 쓰세요.", "input": "", "id": "a-3", "output": ""},
    {"instruction": "요약하세요.", "input": "Київ є столицею", "id": "a-4", "output": ""},
    {"instruction": f" {KEPT} ", "input": "", "id": "a-5", "output": ""},
    {"instruction": "고르세요.", "input": "3, 4", "id": "a-6", "output": ""},
    {"instruction": "길" * 501, "input": "", "id": "a-7", "output": ""},
]


def source(folder: Path, form: str) -> Path:
    file = folder / f"ko.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), file)
    elif form == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in ROWS))
    else:
        text = json.dumps(ROWS, ensure_ascii=False).encode()
        file.write_bytes(gzip.compress(text) if form.endswith("gz") else text)
    return file


def data(file: Path, **more: Any) -> DataConfig:
    return DataConfig(prompts=str(file), language="ko", prompt_field="instruction", shuffle=False, **more)


@pytest.mark.parametrize("form", ["json", "json.gz", "jsonl", "parquet"])
def test_prompts_are_dropped_by_appendix_b_and_counted(tmp_path: Path, form: str) -> None:
    output = tmp_path / "prompts.jsonl"
    prepare_command(data(source(tmp_path, form)), output, languages=False, code=False, duplicates=False)
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [(row["id"], row["prompt"]) for row in rows] == [("a-1", KEPT), ("a-6", "고르세요.\n3, 4")]
    report = json.loads((tmp_path / "prompts.report.json").read_text("utf-8"))
    assert report["dropped"] == {
        "names a language": 1, "is about code or translation": 1, "holds characters of another language": 1,
        "repeats another prompt": 1, "longer than 500 characters": 1,
    }  # fmt: skip
    assert report["read"] == len(ROWS) == report["kept"] + sum(report["dropped"].values())
    assert report["examples"]["names a language"] == ["다음 문장을 영어로 말하세요."]


def test_what_is_an_option_can_be_kept(tmp_path: Path) -> None:
    output = tmp_path / "prompts.jsonl"
    prepare_command(data(source(tmp_path, "json")), output, languages=True, code=True, duplicates=True)
    kept = {json.loads(line)["id"] for line in output.read_text("utf-8").splitlines()}
    assert kept == {"a-1", "a-2", "a-3", "a-5", "a-6"}


@pytest.mark.parametrize(
    ("text", "language", "named", "code"),
    [
        ("Pick a digit", "ko", False, False),  # not git
        ("자바섬의 Javanese 문화", "ko", True, True),  # 자바 is Java too: the paper's list, other scripts by substring
        ("the Javanese script", "ko", True, True),
        ("Write JAVA code", "ko", False, True),
        ("英語で書いてください", "ja", True, False),
        ("用C++写", "zh", False, True),
        ("اكتب بالعربية", "ar", True, False),
        ("ما هي العربية", "ar", True, False),
        ("Define happiness", "ko", False, False),  # not def
    ],
)
def test_words_are_matched_as_words(text: str, language: str, named: bool, code: bool) -> None:
    prompt = Prompt(index=0, id="", language=language, text=text)
    assert (names_a_language(prompt) is not None, about_code(prompt) is not None) == (named, code)


def test_bad_requests_are_told_in_one_line(tmp_path: Path) -> None:
    def prepare(given: DataConfig, output: str = "new.jsonl") -> None:
        prepare_command(given, tmp_path / output, languages=False, code=False, duplicates=False)

    (tmp_path / "there.jsonl").write_text("kept")
    with pytest.raises(UserError, match="exists already"):
        prepare(data(source(tmp_path, "json")), "there.jsonl")
    assert (tmp_path / "there.jsonl").read_text() == "kept"
    (tmp_path / "broken.json.gz").write_bytes(gzip.compress(b"[{}]")[:12])
    with pytest.raises(PromptFileError, match="damaged gzip file"):
        prepare(data(tmp_path / "broken.json.gz"))
    with pytest.raises(PromptFileError, match="no field 'question'"):
        prepare(data(source(tmp_path, "jsonl")).model_copy(update={"prompt_field": "question"}))
    with pytest.raises(UnknownLanguageError, match="'xx'"):
        prepare(data(source(tmp_path, "jsonl")).model_copy(update={"language": "xx"}))
    (tmp_path / "foreign.jsonl").write_text(json.dumps({"instruction": "Що це?"}))
    with pytest.raises(UserError, match="none of 1 prompts is left"):
        prepare(data(tmp_path / "foreign.jsonl"))
    assert not (tmp_path / "new.jsonl").exists()


def test_pairs_of_kept_answers(tmp_path: Path) -> None:
    prompts, answers, output = (tmp_path / name for name in ("p.jsonl", "answers.jsonl", "pairs.jsonl"))
    prompts.write_text("\n".join(json.dumps({"id": f"p{n}", "prompt": f"{n}?", "language": "ko"}) for n in range(4)))
    given = {"p0": ["맞아요", "так"], "p1": ["맞아요", "네"], "p2": ["так", "ні"]}
    rows = [{"id": id, "language": "ko", "answer": text} for id, texts in given.items() for text in texts]
    answers.write_text("\n".join(json.dumps(row) for row in rows))
    source = DataConfig(prompts=str(prompts), shuffle=False)
    pairs_command(source, output, "neutral", answers, None, None, Sampling())
    (pair,) = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert pair == {"id": "p0", "language": "ko", "prompt": "0?", "chosen": "맞아요", "rejected": "так"}
    with pytest.raises(UserError, match="expected one of --model"):
        pairs_command(source, tmp_path / "x.jsonl", "neutral", None, None, None, Sampling())


@pytest.mark.slow
def test_pairs_of_answers_that_a_model_samples(tmp_path: Path) -> None:
    from tlpo_ray.quickstart.toy_cache import cached_toy_model
    from tlpo_ray.quickstart.world import toy_world

    toy_world().write_prompts(tmp_path / "p.jsonl", 1, seed=0)
    sampling = Sampling(samples=8, temperature=0.7, max_new_tokens=64, engine="transformers", concurrency=64)
    source = DataConfig(prompts=str(tmp_path / "p.jsonl"), limit=24)
    model = str(cached_toy_model(0, lambda share, loss: None))
    pairs_command(source, tmp_path / "pairs.jsonl", "neutral", None, model, None, sampling)
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text("utf-8").splitlines()]
    assert 12 < len(pairs) <= 24 and all(pair["chosen"] != pair["rejected"] for pair in pairs)
