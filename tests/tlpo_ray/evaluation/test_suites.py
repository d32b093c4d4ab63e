"""Suites read data as the hub and GitHub ship it, build prompts, leave out what the paper leaves out, and score."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nltk
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import detectors
from tests.shared import DATA
from tlpo_ray.errors import PromptFileError, UserError
from tlpo_ray.evaluation.suites import SUITES, ItemSet, mif, mmmlu, read_items

PROBLEM = {"question": "Two and two?", "answer": "2 + 2 = 4\n#### 4"}
shared = pytest.mark.skipif(not DATA.is_dir(), reason="shared data are not beside the checkout")


def items(suite: str, source: Path | None, *languages: str, skip_bad: bool = False) -> ItemSet:
    return read_items(SUITES[suite], None if source is None else str(source), languages, skip_bad=skip_bad)


def prompts(suite: str, source: Path, *languages: str) -> list[str]:
    return [item.prompt for item in items(suite, source, *languages).items]


def write_csv(file: Path, rows: Sequence[dict[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_lines(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def choice(locale: str) -> dict[str, str]:
    options = {"A": "1", "B": "2", "C": "3", "D": "4"}
    return {"Question": f"{locale}?", **options, "Answer": "B", "Subject": "anatomy"}


def instruction(key: int, *instructions: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    names, arguments = [name for name, _ in instructions], [given for _, given in instructions]
    return {"key": key, "prompt": f"prompt {key}", "instruction_id_list": names, "kwargs": arguments}


@pytest.fixture
def lcb(tmp_path: Path) -> Path:
    """Test sets as in the benchmark's repository, where only the names of the folders contain the task."""
    for language in ("ko", "ja"):
        native = {"prompt": f'"{language}"\nalone', "source": "native_prompts", "language": language}
        write_csv(tmp_path / "test_sets" / "monolingual" / "native" / f"{language}.csv", [native])
        english = {"prompt": f"Reply in {language}.", "location": "Start", "language": language, "source": "okapi"}
        write_csv(tmp_path / "test_sets" / "crosslingual" / "okapi" / f"{language}.csv", [english])
    return tmp_path / "test_sets"


@pytest.mark.parametrize("deeper", ["", ".."])
def test_lcb_keeps_its_tasks_apart(lcb: Path, deeper: str) -> None:
    folder = lcb / deeper
    assert prompts("lcb-monolingual", folder, "ko", "ja") == ['"ko"\nalone', '"ja"\nalone']
    assert prompts("lcb-crosslingual", folder, "ja") == ["Reply in ja."]
    assert [item.task for item in items("lcb-crosslingual", folder, "ko").items] == ["okapi"]


def test_a_folder_of_one_lcb_task_has_no_prompt_of_the_other(lcb: Path) -> None:
    assert prompts("lcb-crosslingual", lcb / "crosslingual", "ko") == ["Reply in ko."]
    with pytest.raises(PromptFileError, match="no prompt in language 'ko'"):
        items("lcb-monolingual", lcb / "crosslingual", "ko")


def test_lcb_is_read_from_compressed_lines(tmp_path: Path) -> None:
    rows = [
        {"task": task, "source": "okapi", "language": "ko", "prompt": task} for task in ("monolingual", "crosslingual")
    ]
    file = tmp_path / "prompts.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    assert prompts("lcb-monolingual", file, "ko") == ["monolingual"]


def test_lcb_needs_a_source() -> None:
    with pytest.raises(UserError, match=r"lcb-monolingual needs --source: .*for-ai/language-confusion"):
        items("lcb-monolingual", None, "ko")


def test_mmmlu_is_read_from_one_folder_per_configuration(tmp_path: Path) -> None:
    for locale in ("KO_KR", "JA_JP"):
        (tmp_path / locale).mkdir()
        pq.write_table(pa.Table.from_pylist([choice(locale)]), tmp_path / locale / "test-00000-of-00001.parquet")
    japanese, korean = items("mmmlu", tmp_path, "ja", "ko").items
    assert [(item.language, item.reference) for item in (japanese, korean)] == [("ja", "B"), ("ko", "B")]
    assert japanese.prompt == f"{mmmlu.INSTRUCTION}\n\nJA_JP?\n\nA) 1\nB) 2\nC) 3\nD) 4"
    with pytest.raises(PromptFileError, match="nothing in it is called ZH_CN"):
        items("mmmlu", tmp_path, "zh")


def test_only_the_split_of_a_suite_is_read_from_a_folder_that_names_some(tmp_path: Path) -> None:
    """A copy with other splits beside the one that the suite is defined on."""
    for split in ("dev", "test", "train"):
        write_csv(tmp_path / "KO_KR" / f"{split}-00000-of-00001.csv", [choice(split)])
    assert [text.splitlines()[2] for text in prompts("mmmlu", tmp_path, "ko")] == ["test?"]


def test_mmmlu_is_read_as_its_hub_repository_has_it(tmp_path: Path) -> None:
    for locale in ("KO-KR", "JA-JP"):
        write_csv(tmp_path / "test" / f"mmlu_{locale}.csv", [{"": "0"} | choice(locale)])
    assert "JA-JP?" in prompts("mmmlu", tmp_path, "ja")[0]
    assert len(prompts("mmmlu", tmp_path, "ko")) == 1


def test_a_file_of_one_language_is_not_read_for_two(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "KO_KR.jsonl", [choice("KO_KR")])
    assert len(prompts("mmmlu", file, "ko")) == 1
    with pytest.raises(UserError, match="a file of mmmlu holds one language, but ko, ja were requested"):
        items("mmmlu", file, "ko", "ja")


def test_gsm8k_has_its_instruction_in_the_target_language(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([PROBLEM]), tmp_path / "test-00000-of-00001.parquet")
    problems = items("gsm8k-cross", tmp_path, "ko", "zh", "ja", "ar").items
    assert [item.reference for item in problems] == ["4"] * 4
    assert [item.prompt for item in problems] == [
        "다음 문제를 풀고 풀이 과정을 한국어로 설명하세요.\n문제: Two and two?\n"
        '마지막 문장은 반드시 "최종 답은 [답]입니다."로 쓰되, [답] 자리에 문제의 답을 넣으세요.',
        "请解答下面的问题，并用中文说明解题过程。\n问题：Two and two?\n"
        "最后一句必须写成“最终答案是[答案]。”，其中[答案]换成本题的答案。",
        "次の問題を解き、考え方を日本語で説明してください。\n問題: Two and two?\n"
        "最後の文は必ず「最終的な答えは[答え]です。」とし、[答え]にはこの問題の答えを入れてください。",
        "حل المسألة التالية واشرح خطوات الحل باللغة العربية.\nالمسألة: Two and two?\n"
        'يجب أن تكون الجملة الأخيرة: "الجواب النهائي هو [الجواب]." مع وضع جواب المسألة مكان [الجواب].',
    ]


def test_mif_leaves_out_prompts_that_ask_for_another_language(tmp_path: Path) -> None:
    rows = [
        instruction(1, ("language:response_language", {"language": "zh-cn"})),
        instruction(2, ("punctuation:no_comma", {}), ("language:response_language", {"language": "en"})),
        instruction(3, ("punctuation:no_comma", {})),
        instruction(4, ("language:response_language", {"language": "zh-TW"})),
    ]
    write_lines(tmp_path / "zh_local.jsonl", rows)
    write_lines(tmp_path / "zh.jsonl", [instruction(9, ("punctuation:no_comma", {}))])
    chinese = items("mif", tmp_path, "zh")
    assert [item.id for item in chinese.items] == ["1", "3", "4"]
    assert chinese.dropped == {"asks for another language": 1}


def test_mif_has_the_same_references_as_lines_and_as_a_table(tmp_path: Path) -> None:
    """A table gives every row all arguments; those that were not given are None."""
    given = [("keywords:frequency", {"keyword": "엔", "frequency": 1}), ("punctuation:no_comma", {})]
    (tmp_path / "lines").mkdir()
    (tmp_path / "table").mkdir()
    write_lines(tmp_path / "lines" / "ko.jsonl", [instruction(1, *given)])
    pq.write_table(pa.Table.from_pylist([instruction(1, *given)]), tmp_path / "table" / "ko.parquet")
    (line,), (row,) = (items("mif", tmp_path / kind, "ko").items for kind in ("lines", "table"))
    assert json.loads(line.reference) == json.loads(row.reference)


def test_a_broken_line_is_reported_or_counted(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "ko.jsonl", [instruction(1, ("punctuation:no_comma", {}))])
    with file.open("a", encoding="utf-8") as lines:
        lines.write('{"prompt": "a "b" c"}\n')
    with pytest.raises(PromptFileError, match=r"ko\.jsonl line 2: not JSON .*--skip-bad"):
        items("mif", tmp_path, "ko")
    assert items("mif", tmp_path, "ko", skip_bad=True).dropped == {"cannot be read": 1}


def test_a_hub_that_cannot_be_reached_is_reported_in_one_line() -> None:
    for name in ("mif", "mmmlu", "gsm8k-cross"):
        with pytest.raises(PromptFileError, match="the hub dataset cannot be loaded") as caught:
            items(name, None, "ko")
        assert len(str(caught.value).splitlines()) == 1


@shared
def test_mif_is_read_as_published() -> None:
    with pytest.raises(PromptFileError, match=r"zh_local\.jsonl line 15: not JSON"):
        items("mif", DATA / "mif", "zh")
    assert items("mif", DATA / "mif", "zh", skip_bad=True).dropped["cannot be read"] == 1
    korean = items("mif", DATA / "mif", "ko")
    assert korean.dropped == {"label error": 1, "asks for another language": 119}
    assert len(korean.items) == 421


@pytest.mark.parametrize(
    ("answer", "stated"),
    [
        ("…\nAnswer: B", "B"),
        ("Answer: A? No.\n**Answer: $\\boxed{C}$**", "C"),
        ("정답: A입니다.", "A"),
        ("答え：Ｃ", "C"),
        ("答え: Bです", "B"),
        ("答案：D。", "D"),
        ("الإجابة الصحيحة: ب", "B"),
        ("Answer: Because it is so", None),
        ("No letter at all", None),
    ],
)
def test_the_last_letter_that_an_answer_names(answer: str, stated: str | None) -> None:
    assert mmmlu.letter(answer) == stated


def test_mif_names_what_its_checks_lack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    assert mif.missing() == "NLTK's punkt_tab is not installed: python -m nltk.downloader punkt_tab"


@pytest.fixture
def punkt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files that NLTK takes for its sentence tokenizer."""
    folder = tmp_path / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    for name in ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab"):
        (folder / name).touch()
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    assert mif.missing() == ""


def test_mif_is_scored_strictly(punkt: None) -> None:
    record = instruction(
        1,
        ("punctuation:no_comma", {}),
        ("language:response_language", {"language": "ko"}),
        ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2}),
    )
    reference = mif.reference(record)
    assert mif.correct("일본의 통화는 엔입니다. 태국의 통화는 바트입니다.", reference, "ko")
    assert not mif.correct("일본의 통화는, 엔입니다. 태국의 통화는 바트입니다.", reference, "ko")
    assert not mif.correct("The currency of Japan is the yen. It is the baht in Thailand.", reference, "ko")


TEXTS = {
    "zh": "黑洞不是恒星，而是时空中引力极强的区域，连光都无法逃脱。",
    "zh-tw": "黑洞不是恆星，而是時空中引力極強的區域，連光都無法逃脫。",
    "id": "Lubang hitam bukanlah bintang, melainkan wilayah ruang-waktu dengan gravitasi yang sangat kuat.",
    "tr": "Kara delik bir yıldız değildir; ışığın bile kaçamadığı, kütle çekimi çok güçlü bir uzay bölgesidir.",
    "el": "Η μαύρη τρύπα δεν είναι αστέρι αλλά μια περιοχή του χωροχρόνου με πολύ ισχυρή βαρύτητα.",
    "ko": "블랙홀은 별이 아니라 빛조차 빠져나갈 수 없을 만큼 중력이 강한 시공간의 영역입니다.",
    "kk": "Қара құрдым жұлдыз емес, ол жарықтың өзі қашып шыға алмайтын кеңістік аймағы.",
}


@pytest.mark.parametrize(
    ("asked", "followed_by"),
    [
        ("zh-cn", {"zh", "zh-tw"}),  # IFEval's table of languages has no Chinese
        ("zh", {"zh", "zh-tw"}),
        ("zh-tw", {"zh", "zh-tw"}),
        ("zh_Hant", {"zh", "zh-tw"}),
        ("id", {"id"}),  # nor these, which are languages of the data set, too
        ("tr", {"tr"}),
        ("el", {"el"}),
        ("KO", {"ko"}),
        ("kk", {"kk"}),  # langdetect has no Kazakh
    ],
)
def test_mif_judges_the_language_that_a_prompt_asks_for(asked: str, followed_by: set[str], punkt: None) -> None:
    reference = mif.reference(instruction(1, ("language:response_language", {"language": asked})))
    assert {name for name, text in TEXTS.items() if mif.correct(text, reference, "zh")} == followed_by
    assert not mif.correct(" ", reference, "zh")


def test_mif_judges_the_other_instructions_of_a_chinese_prompt(punkt: None) -> None:
    reference = mif.reference(
        instruction(1, ("language:response_language", {"language": "zh-cn"}), ("punctuation:no_comma", {}))
    )
    assert mif.correct("黑洞不是恒星。", reference, "zh")
    assert not mif.correct("黑洞不是恒星, 而是区域。", reference, "zh")


def test_mif_has_no_prompt_in_a_language_that_it_cannot_judge(punkt: None) -> None:
    """Every language of the suite can be asked for, and none is random because IFEval's table lacks it."""
    for language in mif.SUITE.languages:
        reference = mif.reference(instruction(1, ("language:response_language", {"language": language})))
        assert isinstance(mif.correct("엔 yen 円", reference, language), bool)
    with pytest.raises(detectors.UnknownLanguageError, match="'xx'"):
        reference = mif.reference(instruction(1, ("language:response_language", {"language": "xx"})))
        mif.correct("엔", reference, "ko")
