"""Numbers in answers are read as their language writes them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from babel import Locale
from babel.numbers import format_decimal
from hypothesis import given
from hypothesis import strategies as st

import detectors
from tlpo_ray.evaluation.suites import gsm8k
from tlpo_ray.evaluation.suites.numbers import last_number

LANGUAGES = (*detectors.languages(), "de-CH", "de-AT", "es-MX", "ar-MA", "en-IN", "pt-PT", "zh-Hant")


@pytest.mark.parametrize(
    ("text", "language", "number"),
    [
        # digits and signs of any script
        ("الجواب النهائي هو ١٬٢٣٤.", "ar", "1234"),
        ("الجواب النهائي هو ١٢٫٥.", "ar", "12.5"),
        ("الجواب هو ١٬٢٣٤٫٥ ريال", "ar", "1234.5"),
        ("الجواب هو ١،٢٣٤", "ar", "1234"),
        ("الجواب هو ١,٢٣٤", "ar", "1234"),
        ("الجواب هو \u200e-٥", "ar", "-5"),
        ("الجواب هو ٥-", "ar", "-5"),
        ("الجواب هو ٣٫٥-.", "ar", "-3.5"),
        ("الجواب هو ١٢٬٣٤٥−", "ar", "-12345"),
        ("الجواب هو (5-)", "ar", "-5"),
        ("الجواب هو ٥\u061c-", "ar", "-5"),
        ("الجواب هو ٥٪-", "ar", "-5"),
        ("الجواب هو ٣٫٥-٪", "ar", "-3.5"),
        ("الجواب هو ٪٣٫٥-", "ar", "-3.5"),
        ("الجواب هو -٪٥", "ar", "-5"),
        ("پاسخ ۳٫۵٪- است", "fa", "-3.5"),
        ("جواب ۵- ہے", "ur", "-5"),
        ("התשובה %5-", "he", "-5"),
        ("الحساب ٥-٣", "ar", "3"),
        ("من ٥- ١٠", "ar", "10"),
        ("١- الجواب", "ar", "1"),
        ("الجواب:\n٥-", "ar", "-5"),
        ("Yanıt -%5", "tr", "-5"),
        ("답은 5-", "ko", "5"),
        ("پاسخ ۱۲۳۴ است", "fa", "1234"),
        ("उत्तर १,२३,४५६ है", "hi", "123456"),
        ("উত্তর ১২৩", "bn", "123"),
        ("คำตอบคือ ๑๒๓", "th", "123"),
        ("答案是１，２３４。", "zh", "1234"),
        ("答えは１２．５です。", "ja", "12.5"),
        ("최종 답은 −5입니다.", "ko", "-5"),
        ("答えは－５です。", "ja", "-5"),
        ("답은 -5", "ko", "-5"),
        # a minus sign is not a hyphen, a range or a subtraction
        ("3-5", "ko", "5"),
        ("10–20개", "ko", "20"),
        ("COVID-19", "ko", "19"),
        ("5%-10%", "ko", "10"),
        ("(8)-3", "ko", "3"),
        # separators: where digits leave one reading, in every language; else by the language
        ("1\u202f234 euros", "fr", "1234"),
        ("1\u00a0234,5 €", "fr", "1234.5"),
        ("1 234 euros", "fr", "1234"),
        ("방 1 234", "ko", "234"),
        ("1'234.50 Franken", "de-CH", "1234.5"),
        ("1’234", "de", "1234"),
        ("5'11", "en", "11"),
        ("₹1,23,456", "hi", "123456"),
        ("1,23,456", "ko", "123456"),
        ("1.234,5", "de", "1234.5"),
        ("1.234,5", "ko", "1234.5"),
        ("1,234.5", "de", "1234.5"),
        ("1.234", "de", "1234"),
        ("1.234", "ko", "1.234"),
        ("1,234", "de", "1.234"),
        ("1,234", "ko", "1234"),
        ("1,234,567", "de", "1234567"),
        ("1.234.567", "ko", "1234567"),
        ("12,5", "ko", "12.5"),
        ("12.34", "de", "12.34"),
        ("0,123", "ko", "0.123"),
        ("1234,567", "ko", "1234.567"),
        ("3,4,5", "ko", "5"),
        ("3，4", "zh", "4"),
        ("v1.2.3", "ko", "3"),
        # what is glued to a number
        ("합계는 1,250원입니다.", "ko", "1250"),
        ("$1,250.", "en", "1250"),
        ("-$5", "en", "-5"),
        ("₩-5", "ko", "-5"),
        ("25%", "ko", "25"),
        ("٢٥٪", "ar", "25"),
        ("10 m²", "ko", "10"),
        ("10 m^2", "ko", "10"),
        ("입니다.5", "ko", "5"),
        ("$.50", "en", "0.5"),
        # fractions and formulas
        ("½", "ko", "0.5"),
        ("2½컵", "ko", "2.5"),
        ("1/2", "ko", "0.5"),
        ("2 1/2", "en", "2.5"),
        ("1⁄4", "en", "0.25"),
        (r"\boxed{1{,}250}", "ko", "1250"),
        (r"\boxed{\frac{3}{4}}", "ko", "0.75"),
        (r"-\dfrac{3}{4}", "ko", "-0.75"),
        (r"\$1\,250", "ko", "1250"),
        ("12/05/2024", "ko", "2024"),
        ("1/0", "ko", "0"),
        # no number, an unknown language, a model that repeats itself
        ("없음", "ko", None),
        ("①", "ko", None),
        ("1,234", "xx", "1234"),
        ("9" * 6_000, "ko", "9" * 6_000),
    ],
)  # fmt: skip
def test_a_number_is_read_as_people_write_it(text: str, language: str, number: str | None) -> None:
    assert last_number(text, language) == (None if number is None else Decimal(number))


@given(
    number=st.decimals(min_value=-(10**9), max_value=10**9, places=2),
    language=st.sampled_from(LANGUAGES),
    system=st.sampled_from(("latn", "default")),
)
def test_numbers_as_cldr_writes_them_are_read_back(number: Decimal, language: str, system: str) -> None:
    written = format_decimal(number, locale=Locale.parse(language, sep="-"), numbering_system=system)
    assert last_number(f"= {written}", language) == number


@given(
    text=st.text(st.sampled_from("0123456789.,٬٫٣３，−-/ ^{}$½'a가\u200f\u00a0")), language=st.sampled_from(LANGUAGES)
)
def test_no_text_is_an_error(text: str, language: str) -> None:
    number = last_number(text, language)
    assert number is None or number.is_finite()


def test_right_answers_are_right_in_each_language() -> None:
    assert gsm8k.correct("الجواب النهائي هو ١٬٢٣٤.", "1234", "ar")
    assert gsm8k.correct("答案是１，２３４。", "1,234", "zh")
    assert not gsm8k.correct("답은 1,250 아니 1,251", "1250", "ko")
    assert not gsm8k.correct("없음", "1250", "ko")
