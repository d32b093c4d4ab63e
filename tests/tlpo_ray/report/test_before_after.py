from __future__ import annotations

from tests.tlpo_ray.report.folders import Json, answer
from tlpo_ray.report.before_after import counted, pairs, words

ROWS: list[Json] = [
    answer("before", "ko", 0, confused=True), answer("after", "ko", 0, confused=False),
    answer("before", "ko", 0, sample=1, confused=True), answer("after", "ko", 0, sample=1, confused=True),
    answer("before", "ar", 0, confused=False), answer("after", "ar", 0, confused=True),
    answer("before", "ja", 0, confused=False), answer("after", "ja", 0, confused=False),
]  # fmt: skip


def test_confused_words_are_counted_before_and_after() -> None:
    assert words(ROWS) == [
        {"language": "ko", "word": "чеська", "before": 2, "after": 1},
        {"language": "ar", "word": "рупія", "before": 0, "after": 1},
    ]


def test_answers_are_counted_and_newly_confused_ones_are_no_secret() -> None:
    assert counted(ROWS) == {"before": {"answers": 4, "confused": 2}, "after": {"answers": 4, "confused": 2}}
    found = pairs(ROWS)
    assert [one["language"] for one in found] == ["ko", "ar"], "each question once, clean pairs left out"
    assert found[1]["before"] == [("عملة الهند هي روبية هندية.", False)]
    assert ("рупія", True) in found[1]["after"]


def test_answers_of_one_side_only_are_no_comparison() -> None:
    assert counted(ROWS[::2]) is None and pairs(ROWS[::2]) == []
    assert words(ROWS[::2])[0]["after"] == 0
