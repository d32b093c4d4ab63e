"""Prompts that name a language or are about code: complete words in Latin letters, any match in other scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import detectors
from tlpo_ray.data.appendix_b import (
    CODE_WORDS,
    NAMED_LANGUAGES,
    OWN_CODE_WORDS,
    asks_for_no_code,
    names_no_language,
)
from tlpo_ray.data.rules import Rule
from tlpo_ray.flow.records import Prompt


def prompt(language: str, text: str) -> Prompt:
    return Prompt(index=0, id="p", language=language, text=text)


def matched_words(rule: Rule, language: str, text: str) -> list[str]:
    """Return the words that a rule matches; it rejects a prompt exactly if it matches one."""
    spans = rule.spans(prompt(language, text))
    assert (rule.reject(prompt(language, text)) is not None) == bool(spans)
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("language", "text", "names"),
    [
        ("ko", "영어로 답하고 Japanese 문장도 쓰세요.", ["영어", "Japanese"]),
        ("ko", "MANDARIN 으로", ["MANDARIN"]),
        ("ko", "German어와 Germany, thai와 Thailand", ["German", "thai"]),
        ("ja", "日本語で答えてください。", ["日本語"]),
        ("ja", "タイの首都はどこですか。タイ語で。", ["タイ語"]),
        ("zh", "用英语、英語还是英文？法文？", ["英语", "英語", "英文", "法文"]),
        ("ar", "أجب باللغة الانجليزية أو الإنجليزية", ["الانجليزية", "الإنجليزية"]),
        ("ru", "Ответь на английском языке, по-китайски. Германия и Китай.", ["английском", "китайски"]),
        ("de", "In deutscher Sprache, nicht in Deutschland; auf Englisch", ["deutscher", "Englisch"]),
        ("ro", "limba germane și engleza, nu Germania", ["germane", "engleza"]),
        ("th", "ตอบเป็นภาษาญี่ปุ่น ประเทศญี่ปุ่นอยู่ที่ไหน", ["ภาษาญี่ปุ่น"]),
        ("id", "Ibu kota Jepang? Jawab dalam bahasa Jepang.", ["bahasa Jepang"]),
        ("es", "Una persona de Indonesia habla indonesio.", ["indonesio"]),
        ("fi", "Missä on Espanja?", []),
        ("xx", "Nothing is known of it, but English is", ["English"]),
    ],
)
def test_names_of_languages_are_matched(language: str, text: str, names: list[str]) -> None:
    assert matched_words(names_no_language(language), language, text) == names


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("ko", "git을 쓰는 python3 코드", ["git", "python"]),
        ("ko", "digit, javanese, prescription, definition, legitimate", []),
        ("ko", "이 문장을 번역하고 자바스크립트로 쓰세요", ["번역", "자바", "스크립트"]),
        ("ko", "C++와 C#, Hello World!", ["C++", "C#", "Hello World"]),
        ("ko", "https://example.org", ["https"]),
        ("ko", "Translate this; the translator's", ["Translate", "translator"]),
        ("ja", "この文を翻訳してください", ["翻訳"]),
        ("zh", "请翻译这句话", ["翻译"]),
        ("ar", "ترجمة هذه الجملة", ["ترجم"]),
        ("th", "แปลประโยคนี้ อย่าแปลงหน่วย", ["แปล"]),
        ("pt", "Traduza esta frase", ["Traduz"]),
        ("vi", "Viết một bài thơ", []),
    ],
)
def test_words_about_code_are_matched(language: str, text: str, words: list[str]) -> None:
    assert matched_words(asks_for_no_code(language), language, text) == words


@given(st.sampled_from(CODE_WORDS), st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=3))
def test_a_word_inside_a_longer_word_does_not_count(word: str, letters: str) -> None:
    rule = asks_for_no_code("ko")
    assert matched_words(rule, "ko", f"이것은 {word}입니다") != []
    longer = letters + word
    if longer not in CODE_WORDS:
        assert word not in matched_words(rule, "ko", longer)


@pytest.mark.parametrize("language", detectors.languages())
def test_every_language_with_a_detector_has_names_of_its_own(language: str) -> None:
    from babel import Locale

    rule = names_no_language(language)
    locale = Locale.parse(language, sep="-")
    words = [locale.languages[code] for code in (*NAMED_LANGUAGES, locale.language)]
    countries = {name.casefold() for name in locale.territories.values()}
    names = [word for word in words if word.casefold() not in countries]
    assert [name for name in names if not matched_words(rule, language, f"({name})")] == []
    assert matched_words(rule, language, "Antwort: 42 km.") == []


def test_the_languages_of_the_paper_have_words_about_code() -> None:
    assert {"ko", "zh", "ja", "ar"} <= OWN_CODE_WORDS.keys()
