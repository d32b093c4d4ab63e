"""Rates of the parts of answers: thoughts in a language of their own, calls of tools, the answer itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import detectors
from tlpo_ray.cli import app
from tlpo_ray.evaluation.evaluate import EvaluateRequest, evaluate

ANSWERS = [
    "<think>I see привет.</think>답은 서울입니다.",
    "<think>I see.</think>답은 Сеул입니다.",
    '<think>I see.</think>답은 서울입니다.<tool_call>{"city": "서울 東京"}</tool_call>',
    "답은 서울입니다.",
]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    rows = [{"id": f"p{i}", "language": "ko-KR", "answer": answer} for i, answer in enumerate(ANSWERS)]
    rows.append({"id": "p9", "language": "ko", "answer": "I think и so", "begins_in": "thoughts"})
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def test_the_rates_of_the_parts_add_up(saved: Path, tmp_path: Path) -> None:
    request = EvaluateRequest(answers=saved, segments={"thoughts": "en"})
    result = evaluate(request, output=tmp_path / "judged")
    (judgement,) = result.judgements
    parts = judgement.parts
    assert {part: (rates.answers, rates.failed) for part, rates in parts.items()} == {
        "thoughts": (4, 2), "answer": (4, 1), "tool_calls": (1, 1),
    }  # fmt: skip
    assert judgement.language == "ko" and (judgement.rates.answers, judgement.rates.failed) == (5, 4)
    for name in ("words", "confused_words", "lines", "confused_lines"):
        assert sum(getattr(rates, name) for rates in parts.values()) == getattr(judgement.rates, name)
    again = evaluate(EvaluateRequest(answers=tmp_path / "judged", segments={"thoughts": "en"}))
    assert again.judgements[0].parts == parts, "where an answer begins is kept with it"


def test_an_exempt_part_has_no_rates(saved: Path) -> None:
    result = evaluate(EvaluateRequest(answers=saved, segments={"thoughts": "exempt", "tool_calls": "exempt"}))
    assert {part: rates.failed for part, rates in result.judgements[0].parts.items()} == {"answer": 1}


def test_the_command_shows_a_row_for_each_part(saved: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", "--answers", str(saved), "--segment", "thoughts=en"])
    assert done.exit_code == 0, done.output
    assert "thoughts" in done.output and "tool calls" in done.output


@pytest.mark.parametrize("segments", [{"thinking": "en"}, {"thoughts": "klingon"}])
def test_a_wrong_part_is_refused_before_anything_is_judged(segments: dict[str, str], saved: Path) -> None:
    with pytest.raises(detectors.DetectorError, match=r"thinking|klingon"):
        evaluate(EvaluateRequest(answers=saved, segments=segments))
