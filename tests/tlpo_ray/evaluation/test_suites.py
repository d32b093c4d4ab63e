"""Every suite's real loading code on small copies in the form that the suite is published in."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.shared import DATA
from tlpo_ray.evaluation.harness import TASKS
from tlpo_ray.evaluation.suites import SUITES, gsm8k, mmmlu, read_items
from tlpo_ray.flow.errors import PromptFileError, UserError

PROBLEM = "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take?"
CHOICES = {"Question": "2 + 2 = ?", "A": "3", "B": "4", "C": "5", "D": "6", "Answer": "B", "Subject": "arithmetic"}


def test_lcb_reads_its_csv_files_and_jsonl(tmp_path: Path) -> None:
    rows = [
        {"task": "monolingual", "source": "aya", "language": "ko", "prompt": "하나"},
        {"task": "crosslingual", "source": "okapi", "language": "ko", "prompt": "Reply in Korean."},
        {"task": "monolingual", "source": "okapi", "language": "ja", "prompt": "一つ"},
    ]
    with (tmp_path / "lcb.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "lcb.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    for name in ("lcb.csv", "lcb.jsonl"):
        (mono,) = read_items(SUITES["lcb-monolingual"], str(tmp_path / name), ["ko"]).items
        (cross,) = read_items(SUITES["lcb-crosslingual"], str(tmp_path / name), ["ko"]).items
        assert (mono.prompt, mono.task, cross.prompt, cross.task) == ("하나", "aya", "Reply in Korean.", "okapi")


def test_mif_leaves_out_what_the_paper_leaves_out(tmp_path: Path) -> None:
    def row(key: int, language: str | None) -> dict[str, Any]:
        ids = ["startend:quotation"] + (["language:response_language"] if language else [])
        return {"key": key, "prompt": f"질문 {key}", "instruction_id_list": ids, "kwargs": [{}, {"language": language}]}

    rows = [row(number, None) for number in range(68)] + [row(68, "ko"), row(69, "en"), row(70, "zh-cn")]
    (tmp_path / "ko.jsonl").write_text("\n".join(json.dumps(one) for one in rows))
    (tmp_path / "zh_local.jsonl").write_text("\n".join(json.dumps(one) for one in rows[69:]))
    found = read_items(SUITES["mif"], str(tmp_path), ["ko", "zh"])
    assert found.dropped == {"label error": 1, "asks for another language": 3}
    assert [item.id for item in found.items if item.language == "zh"] == ["70"]
    assert {item.id for item in found.items if item.language == "ko"} == {str(n) for n in range(69)} - {"67"}


def test_mmmlu_reads_a_subset_of_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "KO_KR").mkdir()
    pq.write_table(pa.Table.from_pylist([CHOICES]), tmp_path / "KO_KR" / "test-00000-of-00001.parquet")
    (item,) = read_items(SUITES["mmmlu"], str(tmp_path), ["ko"]).items
    assert item.reference == "B" and item.prompt.endswith("2 + 2 = ?\n\nA) 3\nB) 4\nC) 5\nD) 6")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("thinking …\nAnswer: B", "B"), ("정답: **C**", "C"), ("答案：Ｄ", "D"), ("الإجابة: ب", "B"),
        ("answer is B", None),
        ("Answer: A\nno, wait\nAnswer: $\\boxed{C}$", "C"), ("Answer: Beta", None), ("답변: B) 4", "B"), ("", None),
    ],
)  # fmt: skip
def test_the_letter_of_a_choice(answer: str, letter: str | None) -> None:
    assert mmmlu.letter(answer) == letter


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("최종 답은 1,250입니다.", "1250"),
        ("3 + 4 = $7.", "7"),
        ("-2.50 원", "-2.50"),
        ("الجواب النهائي هو ٤٢", "42"),
        ("없음", None),
    ],
)
def test_the_last_number(answer: str, number: str | None) -> None:
    assert gsm8k.last_number(answer) == number


def test_gsm8k_reads_parquet_and_knows_right_answers(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"question": PROBLEM, "answer": "2 + 1 = 3\n#### 3"}])
    pq.write_table(table, tmp_path / "test-00000-of-00001.parquet")
    (item,) = read_items(SUITES["gsm8k-cross"], str(tmp_path), ["ja"]).items
    assert item.reference == "3"
    assert gsm8k.correct("全部で3.0反です。最終的な答えは3です。", item.reference)
    assert not gsm8k.correct("最終的な答えは33です。", item.reference)


@pytest.mark.parametrize(
    ("language", "begins", "ends"),
    [
        (
            "ko",
            "다음 문제를 풀고 풀이 과정을 한국어로 설명하세요.\n문제: A robe",
            '"최종 답은 [답]입니다."로 쓰되, [답] 자리에 문제의 답을 넣으세요.',
        ),
        (
            "zh",
            "请解答下面的问题，并用中文说明解题过程。\n问题：A robe",
            "“最终答案是[答案]。”，其中[答案]换成本题的答案。",
        ),
        (
            "ja",
            "次の問題を解き、考え方を日本語で説明してください。\n問題: A robe",
            "「最終的な答えは[答え]です。」とし、[答え]にはこの問題の答えを入れてください。",
        ),
        (
            "ar",
            "حل المسألة التالية واشرح خطوات الحل باللغة العربية.\nالمسألة: A robe",
            "مع وضع جواب المسألة مكان [الجواب].",
        ),
    ],
)
def test_gsm8k_cross_as_it_is_asked(language: str, begins: str, ends: str) -> None:
    asked = gsm8k.prompt(PROBLEM, language)
    assert asked.startswith(begins) and asked.endswith(ends) and asked.count(PROBLEM) == 1
    assert getattr(gsm8k, f"cross_{language}")({"question": PROBLEM}) == asked, "lm-eval asks the same"


def test_every_suite_language_of_the_paper_has_its_task_files() -> None:
    names = {file.stem for file in TASKS.glob("[!_]*.yaml")}
    for language in ("ko", "zh", "ja", "ar"):
        assert {f"gsm8k_cross_{language}", f"mif_{language}", f"mmmlu_{mmmlu.SUBSETS[language]}"} <= names
    for file in TASKS.glob("[!_]*.yaml"):
        text = file.read_text().replace("!function ", "")
        assert yaml.safe_load(text)["task"] == file.stem and (TASKS / yaml.safe_load(text)["include"]).is_file()
    target = yaml.safe_load((TASKS / "_gsm8k_cross.yaml").read_text())["doc_to_target"]
    assert jinja2.Template(target).render(answer="2 + 1 = 3\n#### 3") == "3"


@pytest.mark.parametrize(
    ("suite", "language", "text", "said"),
    [
        ("gsm8k-cross", "ko", '{"question": "1 + 1"}', "line 1: field 'answer' is missing"),
        ("gsm8k-cross", "xx", "{}", "has no language 'xx': it has ko"),
        ("lcb-monolingual", "ko", '{"prompt": "一", "language": "ja"}', "no prompt in language 'ko'"),
        ("mif", "ko", '{"prompt": "하나"', "not JSON"),
    ],
)
def test_bad_records_are_told_in_one_line(tmp_path: Path, suite: str, language: str, text: str, said: str) -> None:
    file = tmp_path / f"{language}.jsonl"
    file.write_text(text + "\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_items(SUITES[suite], str(file), [language])
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")
def test_the_published_files_as_they_are() -> None:
    assert len(read_items(SUITES["lcb-monolingual"], str(DATA / "lcb_prompts"), ["ko", "zh", "ja", "ar"]).items) == 700
    mif = read_items(SUITES["mif"], str(DATA / "mif"), ["ko", "ja", "ar"])
    assert mif.dropped["label error"] == 1 and len(mif.items) + sum(mif.dropped.values()) == 3 * 541
    with pytest.raises(PromptFileError, match=r"zh_local\.jsonl line 15: not JSON"):
        read_items(SUITES["mif"], str(DATA / "mif"), ["zh"])
    skipped = read_items(SUITES["mif"], str(DATA / "mif"), ["zh"], skip_bad=True)
    assert skipped.dropped["cannot be read"] == 1
    gsm = read_items(SUITES["gsm8k-cross"], str(DATA / "gsm8k"), ["ko", "zh", "ja", "ar"])
    assert len(gsm.items) == 4 * 1319
