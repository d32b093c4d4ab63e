"""Pass rates of answers whose verdicts are plain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import UnknownLanguageError
from tlpo_ray.evaluation.rates import Rates, rate_answers, wilson_interval

CLEAN, CONFUSED, EMPTY = "일본의 통화는 엔입니다.", "일본의 통화는 єна입니다.", "42"


def test_rates_of_plain_answers() -> None:
    rates = rate_answers([("ko", CLEAN), ("ko", CONFUSED), ("ko", CLEAN), ("ko", EMPTY), ("ko", "")], "neutral")
    assert (rates.answers, rates.passed, rates.failed, rates.empty) == (5, 2, 1, 2)
    assert (rates.words, rates.confused_words) == (9, 1)
    assert rates.rpr == 2 / 3 and rates.rpr_of_all == 4 / 5 and rates.wpr == 8 / 9
    assert rates.rpr_interval == wilson_interval(2, 3)


def test_each_answer_is_judged_in_its_own_language() -> None:
    assert rate_answers([("ja", "通貨は円です。"), ("ko", CLEAN)], "neutral").rpr == 1
    assert rate_answers([("ko", "通貨は円です。"), ("ko", CLEAN)], "neutral").rpr == 1 / 2


def test_the_english_setting_decides_about_english() -> None:
    answers = [("ko", "통화는 the yen 입니다.")]
    assert rate_answers(answers, "neutral").rpr == 1
    assert rate_answers(answers, "confusion").rpr == 0


def test_silence_has_no_rate_but_is_counted() -> None:
    rates = rate_answers([("ko", ""), ("ko", EMPTY)], "neutral")
    assert (rates.rpr, rates.rpr_interval, rates.wpr, rates.rpr_of_all, rates.empty) == (None, None, None, 1, 2)
    assert rate_answers([], "neutral").rpr_of_all is None


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(UnknownLanguageError):
        rate_answers([("xx", CLEAN)], "neutral")


@given(st.lists(st.sampled_from([CLEAN, CONFUSED, EMPTY, ""]), max_size=12))
def test_every_answer_is_counted_once(texts: list[str]) -> None:
    rates = rate_answers([("ko", text) for text in texts], "neutral")
    assert rates.passed == texts.count(CLEAN) and rates.failed == texts.count(CONFUSED)
    assert rates.passed + rates.failed + rates.empty == rates.answers == len(texts)


def test_the_json_holds_rates_and_counts() -> None:
    rates = Rates(answers=4, failed=1, empty=1, words=10, confused_words=2)
    found = rates.as_json()
    assert (found["rpr"], found["rpr_of_all"], found["wpr"], found["passed"]) == (2 / 3, 3 / 4, 0.8, 2)


@pytest.mark.parametrize(
    ("passed", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_equals_published_values(passed: int, trials: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    assert wilson_interval(passed, trials) == pytest.approx((low, high), abs=5e-5)


@given(trials=st.integers(1, 10_000), share=st.floats(0, 1))
def test_wilson_interval_holds_the_share(trials: int, share: float) -> None:
    passed = round(trials * share)
    low, high = wilson_interval(passed, trials)
    assert 0 <= low <= passed / trials <= high <= 1 and low < high
    other_low, other_high = wilson_interval(trials - passed, trials)
    assert (low, high) == pytest.approx((1 - other_high, 1 - other_low))
