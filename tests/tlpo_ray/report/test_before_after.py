from __future__ import annotations

from tests.tlpo_ray.report.folders import Json, answer
from tlpo_ray.report.before_after import AnswerCount, WordCount, answer_pairs, confused_words, summarise

ROWS: list[Json] = [
    answer("before", "ko", 0, confused=True), answer("after", "ko", 0, confused=False),
    answer("before", "ko", 0, sample=1, confused=True), answer("after", "ko", 0, sample=1, confused=True),
    answer("before", "ar", 0, confused=False), answer("after", "ar", 0, confused=True),
    answer("before", "ja", 0, confused=False), answer("after", "ja", 0, confused=False),
]  # fmt: skip


def test_confused_words_are_counted_before_and_after() -> None:
    assert confused_words(ROWS) == [
        WordCount(language="ko", word="чеська", before=2, after=1),
        WordCount(language="ar", word="рупія", before=0, after=1),
    ]


def test_answers_are_counted_and_newly_confused_ones_are_shown() -> None:
    counts = AnswerCount(answers=4, confused=2)
    assert summarise(ROWS) == {"before": counts, "after": counts}
    pairs = answer_pairs(ROWS)
    assert [pair.language for pair in pairs] == ["ko", "ar"], "each question once, clean pairs left out"
    assert pairs[1].before == [("عملة الهند هي روبية هندية.", False)]
    assert ("рупія", True) in pairs[1].after


def test_answers_of_one_side_only_are_not_compared() -> None:
    assert summarise(ROWS[::2]) is None and answer_pairs(ROWS[::2]) == []
    assert confused_words(ROWS[::2])[0].after == 0
