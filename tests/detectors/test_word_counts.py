"""Words and confused words: the numbers behind RPR and WPR."""

from __future__ import annotations

import subprocess
import sys

import pytest

from detectors import English, UnknownLanguageError, count, languages, profile


@pytest.mark.parametrize(
    ("language", "english", "text", "expected"),
    [
        ("ko", "neutral", "그곳에서 herself의 정원을 가꾸며", (4, 0, "pass")),
        ("ko", "confusion", "그곳에서 herself의 정원을 가꾸며", (4, 1, "fail")),
        ("ko", "neutral", "요人所로 作用", (2, 2, "fail")),
        ("ko", "neutral", "All in English 2024.", (0, 0, "empty")),
        ("ar", "neutral", "هذا نص عربي 12", (3, 0, "pass")),
        ("zh", "neutral", "我们今天去学校 ABC", (4, 0, "pass")),
        ("zh", "neutral", "我们去привет学校", (4, 1, "fail")),
        ("ja", "neutral", "猫が好きです。", (4, 0, "pass")),
        ("ja", "neutral", "猫\0が\udce4好き", (3, 0, "pass")),
        ("zh", "neutral", "", (0, 0, "empty")),
    ],
)
def test_count(language: str, english: English, text: str, expected: tuple[int, int, str]) -> None:
    found = count(text, profile(language, english))
    assert (found.words, found.confused_words, found.status) == expected


def test_an_unknown_language_names_the_nearest_and_all() -> None:
    with pytest.raises(UnknownLanguageError) as error:
        profile("Korean")
    message = str(error.value)
    assert "'Korean'" in message
    assert "nearest: ko" in message
    assert all(code in message for code in languages())
    assert "\n" not in message


def test_profiles_are_cached_per_setting() -> None:
    assert profile("ko") is profile("ko")
    assert profile("ko", "neutral") is not profile("ko", "confusion")


def test_importing_the_detectors_loads_nothing_outside_the_standard_library() -> None:
    code = (
        "import sys, detectors; detectors.find('가я', detectors.profile('ko'));"
        "print([m for m in sys.modules if m.split('.')[0] in {'jieba', 'fugashi', 'regex', 'numpy', 'torch'}])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
