"""`tlpo data`: what it writes, what it refuses, and that nothing is left half-written."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import detectors
from detectors import UnknownLanguageError
from tests.shared import DATA
from tlpo_ray.cli import app
from tlpo_ray.commands.data import PairsRequest, PrepareRequest, pairs_command, prepare_command
from tlpo_ray.errors import ModelError, PromptFileError, ResourceError, UserError

KEPT = "건강을 지키는 방법은 무엇입니까?"
ROWS: list[dict[str, Any]] = [
    {"id": "1", "instruction": KEPT, "input": "", "output": "잘 자는 것입니다."},
    {"id": "2", "instruction": "다음 단어의 뜻은?", "input": "слово", "output": "말"},
    {"id": "3", "instruction": "한국어로 설명하세요.", "input": "", "output": "네"},
    {"id": "4", "instruction": "git 사용법은?", "input": "", "output": "네"},
    {"id": "5", "instruction": KEPT, "input": "", "output": "잘 자는 것입니다."},
    {"id": "6", "instruction": "길" * 501, "input": "", "output": "네"},
    {"id": "7", "instruction": "digit의 뜻은 무엇입니까?", "input": "", "output": "숫자입니다."},
]
CLEAN, CONFUSED = "통화는 엔입니다.", "통화는 єна입니다."
MIF = DATA / "mif" / "ko.jsonl"


@pytest.fixture
def request_(tmp_path: Path) -> PrepareRequest:
    """A good request: a file as Bactrian-X has it."""
    file = tmp_path / "data" / "ko.json.gz"
    file.parent.mkdir()
    file.write_bytes(gzip.compress(json.dumps(ROWS).encode()))
    return PrepareRequest(source=str(tmp_path), language="ko", output=tmp_path / "out" / "prompts.jsonl")


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def report(output: Path) -> dict[str, Any]:
    return json.loads(output.with_suffix(".report.json").read_text("utf-8"))  # type: ignore[no-any-return]


def test_prompts_are_written_with_an_account_of_the_others(
    request_: PrepareRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_command(request_)
    assert rows(request_.output) == [
        {"id": "1", "language": "ko", "prompt": KEPT},
        {"id": "7", "language": "ko", "prompt": "digit의 뜻은 무엇입니까?"},
    ]
    told = report(request_.output)
    assert (told["read"], told["kept"], told["paper_table_3"]) == (7, 2, None)
    assert {one["reason"]: (one["prompts"], one["examples"][0]["found"]) for one in told["dropped"]} == {
        "holds characters of another language": (1, ["слово"]),
        "names a language": (1, ["한국어"]),
        "is about code or translation": (1, ["git"]),
        "is there already": (1, []),
        "longer than 500 characters": (1, []),
    }
    assert told["detector_version"] == detectors.profile("ko").version
    shown = capsys.readouterr().out
    assert "⟦слово⟧" in shown and "not on record here" in shown and str(request_.output) in shown
    assert sorted(file.name for file in request_.output.parent.iterdir()) == ["prompts.jsonl", "prompts.report.json"]


def test_the_filters_are_options(request_: PrepareRequest) -> None:
    free = replace(
        request_, keep_language_names=True, keep_code=True, keep_duplicates=True, max_characters=600, with_answers=True
    )
    prepare_command(free)
    found = rows(free.output)
    assert [row["id"] for row in found] == ["1", "3", "4", "5", "6", "7"]
    assert [row["answer"] for row in found] == [row["output"] for row in ROWS if row["id"] != "2"]


def test_english_in_a_prompt_is_foreign_where_it_is_confusion(request_: PrepareRequest) -> None:
    prepare_command(replace(request_, english="confusion"))
    assert [row["id"] for row in rows(request_.output)] == ["1"]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"language": "xx"}, UnknownLanguageError, "'xx'"),
        ({"english": "maybe"}, UserError, "--english maybe"),
        ({"source": "gone.json.gz"}, PromptFileError, "gone.json.gz: no such file"),
        ({"source": ""}, PromptFileError, "is empty"),
        ({"source": "MBZUAI/Bactrian-X"}, PromptFileError, "(data.subset=ko, data.split=train): no such file here"),
        ({"prompt_field": "frage"}, PromptFileError, "no field 'frage'"),
        ({"max_characters": 1}, PromptFileError, "none of 7 prompts is left"),
        ({"with_answers": True, "answer_field": "antwort"}, PromptFileError, "has no answer"),
        ({"output": Path("prompts.txt")}, UserError, r"ends in .jsonl"),
        ({"output": Path("/dev/null/prompts.jsonl")}, ResourceError, "cannot write"),
    ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(
    request_: PrepareRequest, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        prepare_command(replace(request_, **change))
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not request_.output.parent.exists()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"no gzip"])
def test_a_damaged_file_is_refused(request_: PrepareRequest, damage: Any) -> None:
    file = Path(request_.source) / "data" / "ko.json.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(PromptFileError, match="damaged gzip file"):
        prepare_command(request_)
    assert not request_.output.parent.exists()


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.report.json"])
def test_nothing_is_overwritten(request_: PrepareRequest, name: str) -> None:
    request_.output.parent.mkdir()
    (request_.output.parent / name).write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        prepare_command(request_)
    with pytest.raises(UserError, match="is there already"):
        pairs_command(PairsRequest(output=request_.output, language="ko"))
    assert [file.read_text() for file in request_.output.parent.iterdir()] == ["mine"]


def test_the_command_line_reaches_every_option(request_: PrepareRequest, tmp_path: Path) -> None:
    output = tmp_path / "cli.jsonl"
    arguments = ["--language", "ko", "--output", str(output), "--english", "confusion", "--keep-code"]
    more = ["--keep-duplicates", "--keep-language-names", "--max-characters", "600", "--with-answers", "--skip-bad"]
    done = CliRunner().invoke(app, ["data", "prepare", request_.source, *arguments, *more])
    assert done.exit_code == 0, done.output
    assert [row["id"] for row in rows(output)] == ["1", "3", "5", "6"]

    kept = tmp_path / "answers.jsonl"
    kept.write_text("".join(json.dumps(row) + "\n" for row in answers()), encoding="utf-8")
    pairs = tmp_path / "pairs.jsonl"
    done = CliRunner().invoke(
        app, ["data", "pairs", "--answers", str(kept), "--language", "ko", "--output", str(pairs)]
    )
    assert done.exit_code == 0, done.output
    assert len(rows(pairs)) == 1


@pytest.mark.skipif(not MIF.is_file(), reason="shared data are not beside the checkout")
def test_real_prompts_are_all_accounted_for(tmp_path: Path) -> None:
    request = PrepareRequest(source=str(MIF), language="ko", output=tmp_path / "mif.jsonl")
    prepare_command(request)
    told = report(request.output)
    assert told["read"] == len(MIF.read_text("utf-8").splitlines())
    assert told["kept"] == len(rows(request.output)) == told["read"] - sum(one["prompts"] for one in told["dropped"])
    named = next(one for one in told["dropped"] if one["reason"] == "names a language")
    assert named["prompts"] > 0 and all(example["found"] for example in named["examples"])


# ------------------------------------------------------------------------------------------------------- pairs


def answers() -> list[dict[str, Any]]:
    """Kept answers to five prompts: mixed, all clean, all confused, a cut off and a blank one, in another language."""

    def answer(name: str, text: str, **more: Any) -> dict[str, Any]:
        return {"id": name, "language": "ko", "prompt": f"질문 {name}", "answer": text, "finished": True} | more

    return [
        answer("a", CLEAN, sample=0), answer("a", CONFUSED, sample=1), answer("a", "엔", sample=2, finished=False),
        answer("b", CLEAN), answer("b", "엔입니다."), answer("c", CONFUSED), answer("c", CONFUSED),
        answer("d", "엔", finished=False), answer("d", " "), answer("e", "円です", language="ja"),
    ]  # fmt: skip


@pytest.fixture
def pairs(tmp_path: Path) -> PairsRequest:
    """A good request for pairs of kept answers."""
    kept = tmp_path / "kept" / "answers.jsonl"
    kept.parent.mkdir()
    kept.write_text("".join(json.dumps(row) + "\n" for row in answers()), encoding="utf-8")
    return PairsRequest(answers=kept.parent, language="ko", output=tmp_path / "pairs.jsonl")


def test_pairs_of_kept_answers(pairs: PairsRequest) -> None:
    pairs_command(pairs)
    assert rows(pairs.output) == [
        {"id": "a", "language": "ko", "prompt": "질문 a", "chosen": CLEAN, "rejected": CONFUSED}
    ]
    told = report(pairs.output)
    counts = {name: told[name] for name in ("prompts", "pairs", "all_clean", "all_confused", "unanswered")}
    assert counts == {"prompts": 4, "pairs": 1, "all_clean": 1, "all_confused": 1, "unanswered": 1}
    assert (told["answers_cut_off"], told["answers_blank"]) == (2, 1)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"language": "xx"}, UnknownLanguageError, "'xx'"),
        ({"language": "th"}, UserError, "no answer in language 'th'"),
        ({"language": "ja"}, UserError, "no prompt has a clean and a confused answer (1 prompts, 0 pairs, 1 all clean"),
        ({"answers": Path("gone")}, UserError, "--answers gone"),
        ({"answers": None}, UserError, "expected either PROMPTS and --model, or --answers"),
        ({"prompts": "p.jsonl"}, UserError, "expected either PROMPTS and --model, or --answers"),
        ({"model": "m"}, UserError, "--answers takes none"),
        ({"answers": None, "prompts": "p.jsonl"}, UserError, "PROMPTS need a --model"),
        ({"answers": None, "prompts": "p.jsonl", "model": "m"}, PromptFileError, "p.jsonl: no such file"),
        ({"answers": None, "prompts": "p.jsonl", "model": "m", "engine": "gpt"}, UserError, "--engine gpt"),
    ],
)
def test_a_wrong_request_for_pairs_is_one_line(
    pairs: PairsRequest, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        pairs_command(replace(pairs, **change))
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not pairs.output.exists()


def test_a_kept_answer_without_its_prompt_is_refused(pairs: PairsRequest) -> None:
    assert pairs.answers is not None
    (pairs.answers / "answers.jsonl").write_text(json.dumps({"id": "a", "answer": CLEAN}), encoding="utf-8")
    with pytest.raises(UserError, match="'a' lacks the field 'prompt'"):
        pairs_command(pairs)


def test_a_model_that_is_not_there(request_: PrepareRequest, tmp_path: Path) -> None:
    prepare_command(request_)
    asked = PairsRequest(
        prompts=str(request_.output), model=str(tmp_path / "no-model"), language="ko", output=tmp_path / "pairs.jsonl"
    )
    with pytest.raises(ModelError, match="no-model"):
        pairs_command(asked)


@pytest.mark.slow
def test_pairs_of_a_model(tiny_model: Path, request_: PrepareRequest, tmp_path: Path) -> None:
    """Random weights speak many languages: their answers are confused, those of a few tokens now and then not."""
    prepare_command(replace(request_, keep_code=True, keep_language_names=True))
    asked = PairsRequest(
        prompts=str(request_.output), model=str(tiny_model), language="ko", output=tmp_path / "pairs.jsonl",
        samples=32, max_new_tokens=6, engine="transformers", temperature=1.0,
    )  # fmt: skip
    again = replace(asked, output=tmp_path / "again.jsonl")
    pairs_command(asked)
    told = report(asked.output)
    found = rows(asked.output)
    assert told["prompts"] == 4 == told["pairs"] + told["all_clean"] + told["all_confused"] + told["unanswered"]
    profile = detectors.profile("ko")
    for pair in found:
        assert detectors.find(pair["chosen"], profile) is None and detectors.find(pair["rejected"], profile)
    pairs_command(again)
    assert again.output.read_bytes() == asked.output.read_bytes()
