"""Words and confused words: the numbers behind RPR and WPR."""

from __future__ import annotations

import subprocess
import sys

import pytest

from detectors import English, count, language


@pytest.mark.parametrize(
    ("code", "english", "text", "expected"),
    [
        ("ko", "neutral", "그곳에서 herself의 정원을 가꾸며", (4, 0, "pass")),
        ("ko", "confusion", "그곳에서 herself의 정원을 가꾸며", (4, 1, "fail")),
        ("ko", "neutral", "요人所로 作用", (2, 2, "fail")),
        ("ko", "neutral", "All in English 2024.", (0, 0, "empty")),
        ("ar", "neutral", "هذا نص عربي 12", (3, 0, "pass")),
        ("zh", "neutral", "我们今天去学校 ABC", (4, 0, "pass")),
        ("zh", "neutral", "我们去привет学校", (4, 1, "fail")),
        ("zh", "neutral", "我们去学校 привет мой друг", (6, 3, "fail")),
        ("ja", "neutral", "猫が好きです。", (4, 0, "pass")),
        ("ja", "neutral", "猫\0が\udce4好き", (3, 0, "pass")),
        ("th", "neutral", "ฉันรักภาษาไทย hello привет", (4, 1, "fail")),
        ("hi", "neutral", "मैं हिन्दी बोलता हूँ।", (4, 0, "pass")),
        ("es", "neutral", "El 猫 es bonito.", (4, 1, "fail")),
        ("zh", "neutral", "", (0, 0, "empty")),
    ],
)
def test_words_and_confused_words_of_a_text(
    code: str, english: English, text: str, expected: tuple[int, int, str]
) -> None:
    counts = count(text, language(code, english))
    assert (counts.words, counts.confused_words, counts.status) == expected


def test_importing_the_detectors_loads_nothing_outside_the_standard_library() -> None:
    code = (
        "import sys, detectors; detectors.find('가я', detectors.language('ko'));"
        "heavy = {'jieba', 'fugashi', 'pythainlp', 'wordfreq', 'regex', 'numpy', 'torch'};"
        "print([name for name in sys.modules if name.split('.')[0] in heavy])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_missing_library_is_named_in_one_line() -> None:
    code = (
        "import sys; sys.modules['pythainlp'] = None; import detectors\n"
        "assert detectors.find('ภาษา', detectors.language('th')) is None\n"
        "try: detectors.count('ภาษา', detectors.language('th'))\n"
        "except detectors.MissingExtraError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pythainlp" in ran.stdout and "pip install" in ran.stdout
    assert ran.stdout.count("\n") == 1
