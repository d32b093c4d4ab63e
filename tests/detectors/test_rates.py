"""Pass rates of answers with obvious verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import Rates, language, pass_rates, rates_of, wilson_interval

CLEAN, CONFUSED, EMPTY = "일본의 통화는 엔입니다.", "일본의 통화는 єна입니다.", "42"
KOREAN = language("ko")


def test_rates_of_obvious_answers() -> None:
    rates = pass_rates([CLEAN, CONFUSED, CLEAN, EMPTY, ""], KOREAN)
    assert (rates.answers, rates.passed, rates.failed, rates.empty) == (5, 2, 1, 2)
    assert (rates.words, rates.confused_words) == (9, 1)
    assert (rates.lines, rates.confused_lines) == (4, 1)
    assert (rates.rpr, rates.rpr_of_all, rates.wpr, rates.line_pass_rate) == (2 / 3, 4 / 5, 8 / 9, 3 / 4)
    assert rates.rpr_interval == wilson_interval(2, 3)
    assert rates.rpr_of_all_interval == wilson_interval(4, 5)


def test_a_line_is_confused_by_any_part_of_a_confusion_in_it() -> None:
    rates = pass_rates(["하나\n둘 слово и\nещё\n\n---\n셋"], KOREAN)
    assert (rates.lines, rates.confused_lines) == (4, 2)


def test_the_english_setting_decides_whether_english_is_a_confusion() -> None:
    answers = ["통화는 the yen 입니다."]
    assert pass_rates(answers, KOREAN).rpr == 1
    assert pass_rates(answers, language("ko", "confusion")).rpr == 0


def test_rates_add_up() -> None:
    assert pass_rates([CLEAN, CONFUSED], KOREAN) + pass_rates([EMPTY], KOREAN) == pass_rates(
        [CLEAN, CONFUSED, EMPTY], KOREAN
    )


def test_answers_without_words_have_no_rate_but_are_counted() -> None:
    rates = pass_rates(["", EMPTY], KOREAN)
    assert (rates.rpr, rates.rpr_interval, rates.wpr, rates.rpr_of_all, rates.empty) == (None, None, None, 1, 2)
    nothing = rates_of([])
    assert (nothing.rpr_of_all, nothing.rpr_of_all_interval, nothing.line_pass_rate) == (None, None, None)


@given(st.lists(st.sampled_from([CLEAN, CONFUSED, EMPTY, ""]), max_size=12))
def test_every_answer_is_counted_once(texts: list[str]) -> None:
    rates = pass_rates(texts, KOREAN)
    assert rates.passed == texts.count(CLEAN) and rates.failed == texts.count(CONFUSED)
    assert rates.passed + rates.failed + rates.empty == rates.answers == len(texts)


def test_the_json_contains_rates_and_counts() -> None:
    rates = Rates(answers=4, failed=1, empty=1, words=10, confused_words=2, lines=5, confused_lines=1)
    row = rates.as_json()
    assert (row["rpr"], row["rpr_of_all"], row["wpr"], row["passed"]) == (2 / 3, 3 / 4, 0.8, 2)


@pytest.mark.parametrize(
    ("passed", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_equals_published_values(passed: int, trials: int, low: float, high: float) -> None:
    """The values are those of Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    assert wilson_interval(passed, trials) == pytest.approx((low, high), abs=5e-5)


@given(trials=st.integers(1, 10_000), share=st.floats(0, 1))
def test_wilson_interval_contains_the_share(trials: int, share: float) -> None:
    passed = round(trials * share)
    low, high = wilson_interval(passed, trials)
    assert 0 <= low <= passed / trials <= high <= 1 and low < high
    other_low, other_high = wilson_interval(trials - passed, trials)
    assert (low, high) == pytest.approx((1 - other_high, 1 - other_low))
