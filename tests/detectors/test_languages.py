"""The language table: a row is complete, and every language is told from its neighbours."""

from __future__ import annotations

import pickle
import sys

import pytest

from detectors import (
    MissingExtraError,
    SettingError,
    UnknownLanguageError,
    find,
    languages,
    profile,
)
from detectors.languages import LANGUAGES, common_words
from detectors.script_ranges import RANGES

CONFUSION_BENCHMARK = "ar zh en fr de hi id it ja ko pt ru es tr vi"
MARCO_BENCH_MIF = "bn cs el he hu kk ms ne nl pl ro sw th uk ur yo"
SENTENCES = {
    "ar": "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق.",
    "bn": "আমি বাংলায় গান গাই, এটি একটি ছোট বাক্য।",
    "cs": "Příliš žluťoučký kůň je na louce a ještě neví, že se to do večera změní.",
    "da": "Vi skal være hjemme før det bliver mørkt, og så kan vi spise æbler på terrassen.",
    "de": "Zwölf Boxkämpfer jagen den Viktor quer über den großen Sylter Deich.",
    "el": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, λέει ο γέρος στους άλλους.",
    "en": "The quick brown fox jumps over the lazy dog and runs into the forest.",
    "es": "El veloz murciélago hindú comía feliz cardillo y kiwi, mientras la cigüeña tocaba el saxofón.",
    "fa": "بر آن شدیم تا این متن کوتاه را به زبان فارسی بنویسیم، چون ژاله پاک است.",
    "fi": "Tämä on hyvin kaunis päivä, mutta en tiedä vielä, mitä minä tekisin, kun hän tulee.",
    "fr": "Portez ce vieux whisky au juge blond qui fume, dès qu'il sera là avec les autres.",
    "he": "דג סקרן שט בים מאוכזב ולפתע מצא חברה.",
    "hi": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश हुआ।",
    "hu": "Árvíztűrő tükörfúrógép van az asztalon, és nem is olyan nagy.",
    "id": "Saya sedang membaca buku yang sangat menarik tentang sejarah di perpustakaan.",
    "it": "Ma la volpe, col suo balzo, ha raggiunto il quieto Fido che dormiva nella casa.",
    "ja": "いろはにほへと散りぬるを、我が世誰ぞ常ならむ。カタカナも漢字も読める。",
    "kk": "Шың жеке өз бетінше ғұмыр кешкен, әлі де үлкен қаһарман һәм ұлы іс.",
    "ko": "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "ms": "Saya sedang membaca buku yang sangat menarik kerana ceritanya bagus.",
    "ne": "नेपाल एक सुन्दर देश हो र यहाँ धेरै हिमालहरू छन्।",
    "nl": "Pa's wijze lynx bezag vroom het fikse aquaduct en ging naar huis.",
    "pl": "Pchnąć w tę łódź jeża lub ośm skrzyń fig, ale to nie jest tak łatwe.",
    "pt": "Ontem à noite não consegui dormir porque os vizinhos fizeram uma festa até às três da manhã.",
    "ro": "Țara noastră este frumoasă și oamenii care trăiesc aici sunt fericiți, dar nu toți.",
    "ru": "Съешь же ещё этих мягких французских булок да выпей чаю.",
    "sv": "Det är en mycket vacker dag i dag och jag vill inte sitta inne när solen skiner så här.",
    "sw": "Watu wengi wanaishi katika mji huo kwa sababu ya kazi na elimu kwa watoto wao.",
    "th": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "tr": "Pijamalı hasta yağız şoföre çabucak güvendi ve sonra eve gitti.",
    "uk": "Чуєш їх, доцю, га? Кумедна ж ти, прощайся без ґольфів!",
    "ur": "ٹھنڈ میں ایک قحط زدہ گاؤں سے گزرتے وقت ایک چڑچڑے باوقار شخص کو ڈر لگا۔",
    "vi": "Do bạch kim rất quý nên sẽ dùng để lắp vô xương, và không ai biết điều này.",
    "yo": "Ìwé yìí dára púpọ̀ fún àwọn ọmọ tí ó ń kẹ́kọ̀ọ́ ní ilé ìwé.",
    "zh": "视野无限广，窗外有蓝天。我們都在這裡學習中文。",
}
"""Sentences with many of a language's letters."""


def test_the_languages_of_both_benchmarks_are_there() -> None:
    assert set(f"{CONFUSION_BENCHMARK} {MARCO_BENCH_MIF}".split()) <= set(languages())
    assert set(SENTENCES) == set(languages()), "a new language needs a sentence here"


@pytest.mark.parametrize("code", languages())
def test_a_row_is_complete(code: str) -> None:
    row = LANGUAGES[code]
    assert row.name and set(row.scripts) <= RANGES.keys()
    assert bool(common_words(code)) == row.is_latin, "what the lines of Latin-script languages are told by"
    assert set(row.not_told_from) <= LANGUAGES.keys()


@pytest.mark.parametrize("code", languages())
def test_a_language_is_clean_in_its_own_sentences(code: str) -> None:
    assert find(SENTENCES[code], profile(code)) is None
    assert find(SENTENCES[code], profile(code, "confusion")) is None


TOLD = [
    (own, other)
    for own in languages()
    for other in languages()
    # Where languages share a script without letters of their own, or are too near, only a reader can tell.
    if own != other
    and other != "en"
    and (own, other) not in {("hi", "ne"), ("ne", "hi"), ("ja", "zh"), ("zh", "ja"), ("ur", "fa"), ("ur", "ar")}
    and (own, other) not in {("fa", "ar"), ("kk", "ru"), ("id", "ms"), ("ms", "id")}
]


@pytest.mark.parametrize("own", languages())
def test_a_sentence_of_another_language_is_told(own: str) -> None:
    missed = [other for one, other in TOLD if one == own and find(SENTENCES[other], profile(own)) is None]
    assert missed == []


def test_english_lines_are_confusion_in_another_latin_language_only_if_asked() -> None:
    line = SENTENCES["en"]
    assert find(line, profile("es")) is None
    found = find(line, profile("es", "confusion"))
    assert found is not None
    assert (found.text.split()[0], found.tier) == ("quick", "passage")


def test_a_foreign_line_among_own_lines() -> None:
    text = f"{SENTENCES['es']}\n{SENTENCES['de']} {SENTENCES['es']}"
    found = find(text, profile("es"))
    assert found is not None
    assert found.index == text.index("jagen"), "the first word that is no name"
    assert found.text.strip() == SENTENCES["de"].removeprefix("Zwölf Boxkämpfer ").removesuffix(".")


def test_short_foreign_lines_are_not_judged() -> None:
    assert find("Guten Morgen zusammen.", profile("es")) is None


def test_without_the_library_lines_are_not_checked_and_the_profile_says_so() -> None:
    without = profile("es", passages="off")
    assert find(SENTENCES["de"], without) is None
    assert without.unchecked is not None and "passages is off" in without.unchecked
    assert profile("es").unchecked is None
    assert profile("ko", "confusion").unchecked is None
    assert without.version in profile("es").version


def test_an_unknown_language_names_the_nearest_and_all() -> None:
    for asked, nearest in (("Korean", "ko"), ("zh-CN", "zh"), ("pt_BR", "pt"), ("Klingon", None)):
        with pytest.raises(UnknownLanguageError) as error:
            profile(asked)
        message = str(error.value)
        assert asked in message and "\n" not in message
        assert nearest is None or f"nearest: {nearest}" in message
        assert all(code in message for code in languages())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"code": "maybe"}, "expected exempt or judge"),
        ({"words": 3}, "expected true or false"),
        ({"colour": "red"}, "there are capitalised, readings"),
        ({"allowed": "word"}, "expected a list of words"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(options: dict[str, object], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        profile("ko", **options)


@pytest.mark.parametrize(
    ("language", "english", "text", "option"),
    [
        ("ko", "neutral", "대한민국(大韓民國)은", {"hanja_in_brackets": "exempt"}),
        ("ko", "confusion", "그는 kubectl 을 쓴다", {"allowed": ["Kubectl"]}),
        ("ko", "neutral", "그는 sowie 라고", {"words": False}),
    ],
)
def test_an_option_exempts_what_is_confusion_by_default(
    language: str, english: str, text: str, option: dict[str, object]
) -> None:
    assert find(text, profile(language, english)) is not None  # type: ignore[arg-type]
    assert find(text, profile(language, english, **option)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("english", "text", "option"),
    [
        ("confusion", "```\nfor word in words\n```", "code"),
        ("confusion", "`some words`", "code"),
        ("confusion", "<strong class=x> 굵게", "markup"),
        ("neutral", "교토 kyōsan", "readings"),
        ("neutral", "가수 Beyoncé", "capitalised"),
    ],
)
def test_an_option_judges_what_is_exempt_by_default(english: str, text: str, option: str) -> None:
    assert find(text, profile("ko", english)) is None  # type: ignore[arg-type]
    assert find(text, profile("ko", english, **{option: "judge"})) is not None  # type: ignore[arg-type]


def test_profiles_are_cached_and_survive_pickling() -> None:
    assert profile("ko") is profile("ko")
    assert profile("ko", "neutral") is not profile("ko", "confusion")
    assert profile("ko", allowed=["b", "a"]) is profile("ko", allowed=["A", "b"])
    assert pickle.loads(pickle.dumps(profile("ja", code="judge"))) is profile("ja", code="judge")


def test_the_library_is_demanded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["detectors.profile"], "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install"):
        profile("nl", passages="on", allowed=["not cached"])
    unchecked = profile("nl", allowed=["not cached"]).unchecked
    assert unchecked is not None and "pip install" in unchecked
