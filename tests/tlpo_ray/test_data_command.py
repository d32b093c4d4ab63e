"""`tlpo data`: what it writes, what it refuses, and that no partial output is left behind."""

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
from tlpo_ray.commands.data import pairs_command, prepare_command
from tlpo_ray.data.requests import PairsRequest, PrepareRequest
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
    """Return a valid request for a file in the format of Bactrian-X."""
    file = tmp_path / "data" / "ko.json.gz"
    file.parent.mkdir()
    file.write_bytes(gzip.compress(json.dumps(ROWS).encode()))
    return PrepareRequest(source=str(tmp_path), language="ko", output=tmp_path / "out" / "prompts.jsonl")


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def report(output: Path) -> dict[str, Any]:
    return json.loads(output.with_suffix(".report.json").read_text("utf-8"))  # type: ignore[no-any-return]


def test_prompts_are_written_with_a_report_of_the_others(
    request_: PrepareRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_command(request_)
    assert rows(request_.output) == [
        {"id": "1", "language": "ko", "prompt": KEPT},
        {"id": "7", "language": "ko", "prompt": "digit의 뜻은 무엇입니까?"},
    ]
    summary = report(request_.output)
    assert (summary["read"], summary["kept"], summary["paper_table_3"]) == (7, 2, None)
    dropped = {entry["reason"]: (entry["prompts"], entry["examples"][0]["found"]) for entry in summary["dropped"]}
    assert dropped == {
        "holds characters of another language": (1, ["слово"]),
        "names a language": (1, ["한국어"]),
        "is about code or translation": (1, ["git"]),
        "is a duplicate": (1, []),
        "longer than 500 characters": (1, []),
    }
    assert summary["detector_version"] == detectors.language("ko").version
    shown = capsys.readouterr().out
    assert "⟦слово⟧" in shown and "not on record here" in shown and str(request_.output) in shown
    assert sorted(file.name for file in request_.output.parent.iterdir()) == ["prompts.jsonl", "prompts.report.json"]


def test_every_filter_can_be_switched_off(request_: PrepareRequest) -> None:
    unfiltered = replace(
        request_, keep_language_names=True, keep_code=True, keep_duplicates=True, max_characters=600, with_answers=True
    )
    prepare_command(unfiltered)
    kept = rows(unfiltered.output)
    assert [row["id"] for row in kept] == ["1", "3", "4", "5", "6", "7"]
    assert [row["answer"] for row in kept] == [row["output"] for row in ROWS if row["id"] != "2"]


def test_english_in_a_prompt_is_foreign_if_it_is_confusion(request_: PrepareRequest) -> None:
    prepare_command(replace(request_, english="confusion"))
    assert [row["id"] for row in rows(request_.output)] == ["1"]


@pytest.mark.parametrize(
    ("change", "error", "expected"),
    [
        ({"language": "xx"}, UnknownLanguageError, "'xx'"),
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
def test_an_invalid_request_is_an_error_of_one_line_and_writes_nothing(
    request_: PrepareRequest, change: dict[str, Any], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error) as caught:
        prepare_command(replace(request_, **change))
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not request_.output.parent.exists()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data[: len(data) // 2], "damaged compressed file"),
        (lambda data: b"no gzip", "line 1: not JSON"),
        (lambda data: b"\0no text", "line 1: not JSON"),
    ],
)
def test_a_damaged_file_is_an_error(request_: PrepareRequest, damage: Any, problem: str) -> None:
    file = Path(request_.source) / "data" / "ko.json.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(PromptFileError, match=problem):
        prepare_command(request_)
    assert not request_.output.parent.exists()


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.report.json"])
def test_nothing_is_overwritten(request_: PrepareRequest, name: str) -> None:
    request_.output.parent.mkdir()
    (request_.output.parent / name).write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        prepare_command(request_)
    with pytest.raises(UserError, match="already exists"):
        pairs_command(PairsRequest(output=request_.output, language="ko"))
    assert [file.read_text() for file in request_.output.parent.iterdir()] == ["mine"]


def test_every_option_has_an_effect_on_the_command_line(request_: PrepareRequest, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    "arguments",
    [["prepare", "ko.jsonl", "--language", "ko"], ["pairs", "--answers", "answers.jsonl", "--language", "ko"]],
)
def test_an_unknown_english_setting_is_an_error_of_one_line(arguments: list[str], tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    done = CliRunner().invoke(app, ["data", *arguments, "--output", str(output), "--english", "maybe"])
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == "--english maybe: expected neutral or confusion"
    assert not output.exists()


@pytest.mark.skipif(not MIF.is_file(), reason="the shared data are not available")
def test_real_prompts_are_all_accounted_for(tmp_path: Path) -> None:
    request = PrepareRequest(source=str(MIF), language="ko", output=tmp_path / "mif.jsonl")
    prepare_command(request)
    summary = report(request.output)
    assert summary["read"] == len(MIF.read_text("utf-8").splitlines())
    assert (
        summary["kept"]
        == len(rows(request.output))
        == summary["read"] - sum(entry["prompts"] for entry in summary["dropped"])
    )
    naming = next(entry for entry in summary["dropped"] if entry["reason"] == "names a language")
    assert naming["prompts"] > 0 and all(example["found"] for example in naming["examples"])


# ------------------------------------------------------------------------------------------------------- pairs


def answers() -> list[dict[str, Any]]:
    """Return saved answers to five prompts: mixed; all clean; all confused; cut off and blank; in another language."""

    def answer(name: str, text: str, **more: Any) -> dict[str, Any]:
        return {"id": name, "language": "ko", "prompt": f"질문 {name}", "answer": text, "finished": True} | more

    return [
        answer("a", CLEAN, sample=0), answer("a", CONFUSED, sample=1), answer("a", "엔", sample=2, finished=False),
        answer("b", CLEAN), answer("b", "엔입니다."), answer("c", CONFUSED), answer("c", CONFUSED),
        answer("d", "엔", finished=False), answer("d", " "), answer("e", "円です", language="ja"),
    ]  # fmt: skip


@pytest.fixture
def pairs(tmp_path: Path) -> PairsRequest:
    """Return a valid request for pairs of saved answers."""
    kept = tmp_path / "kept" / "answers.jsonl"
    kept.parent.mkdir()
    kept.write_text("".join(json.dumps(row) + "\n" for row in answers()), encoding="utf-8")
    return PairsRequest(answers=kept.parent, language="ko", output=tmp_path / "pairs.jsonl")


def test_pairs_of_saved_answers(pairs: PairsRequest) -> None:
    pairs_command(pairs)
    assert rows(pairs.output) == [
        {"id": "a", "language": "ko", "prompt": "질문 a", "chosen": CLEAN, "rejected": CONFUSED}
    ]
    summary = report(pairs.output)
    counts = {name: summary[name] for name in ("prompts", "pairs", "all_clean", "all_confused", "unanswered")}
    assert counts == {"prompts": 4, "pairs": 1, "all_clean": 1, "all_confused": 1, "unanswered": 1}
    assert (summary["answers_cut_off"], summary["answers_blank"]) == (2, 1)


@pytest.mark.parametrize(
    ("change", "error", "expected"),
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
def test_an_invalid_request_for_pairs_is_an_error_of_one_line(
    pairs: PairsRequest, change: dict[str, Any], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error) as caught:
        pairs_command(replace(pairs, **change))
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not pairs.output.exists()


def test_line_separators_in_a_saved_answer_do_not_end_its_line(pairs: PairsRequest) -> None:
    assert pairs.answers is not None
    separators = "\u2028\u2029\x85."
    rows_with_separators = [row | {"answer": row["answer"] + separators} for row in answers()]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows_with_separators)
    (pairs.answers / "answers.jsonl").write_text(lines, encoding="utf-8")
    pairs_command(pairs)
    written = json.loads(pairs.output.read_bytes())
    assert (written["chosen"], written["rejected"]) == (CLEAN + separators, CONFUSED + separators)


def test_a_saved_answer_without_its_prompt_is_an_error(pairs: PairsRequest) -> None:
    assert pairs.answers is not None
    (pairs.answers / "answers.jsonl").write_text(json.dumps({"id": "a", "answer": CLEAN}), encoding="utf-8")
    with pytest.raises(UserError, match="'a' lacks the field 'prompt'"):
        pairs_command(pairs)


def test_a_missing_model_is_an_error(request_: PrepareRequest, tmp_path: Path) -> None:
    prepare_command(request_)
    request = PairsRequest(
        prompts=str(request_.output), model=str(tmp_path / "no-model"), language="ko", output=tmp_path / "pairs.jsonl"
    )
    with pytest.raises(ModelError, match="no-model"):
        pairs_command(request)


@pytest.mark.slow
def test_pairs_of_a_model(tiny_model: Path, request_: PrepareRequest, tmp_path: Path) -> None:
    """Random weights produce many languages: most answers are confused, but some of a few tokens are clean."""
    prepare_command(replace(request_, keep_code=True, keep_language_names=True))
    request = PairsRequest(
        prompts=str(request_.output), model=str(tiny_model), language="ko", output=tmp_path / "pairs.jsonl",
        samples=32, max_new_tokens=6, engine="transformers", temperature=1.0,
    )  # fmt: skip
    again = replace(request, output=tmp_path / "again.jsonl")
    pairs_command(request)
    summary = report(request.output)
    written = rows(request.output)
    assert summary["prompts"] == 4
    assert sum(summary[name] for name in ("pairs", "all_clean", "all_confused", "unanswered")) == 4
    detector = detectors.language("ko")
    for pair in written:
        assert detectors.find(pair["chosen"], detector) is None and detectors.find(pair["rejected"], detector)
    pairs_command(again)
    assert again.output.read_bytes() == request.output.read_bytes()
