"""The language table: every row is complete, and every language is separated from its neighbours."""

from __future__ import annotations

import pickle

import pytest

from detectors import (
    English,
    MissingExtraError,
    SettingError,
    UnknownLanguageError,
    find,
    language,
    language_profile,
    languages,
)
from detectors.language_table import LANGUAGES, common_words
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
    "zh-Hans": "视野无限广，窗外有蓝天。我们都在这里学习中文。",
    "zh-Hant": "視野無限廣，窗外有藍天。我們都在這裡學習中文。",
}
"""One sentence per language, with many of its letters."""


def test_the_languages_of_both_benchmarks_are_supported() -> None:
    assert set(f"{CONFUSION_BENCHMARK} {MARCO_BENCH_MIF}".split()) <= set(languages())
    assert set(SENTENCES) == set(languages()), "a new language needs a sentence here"


@pytest.mark.parametrize("code", languages())
def test_a_row_is_complete(code: str) -> None:
    row = LANGUAGES[code]
    assert row.name and set(row.scripts) <= RANGES.keys()
    assert bool(common_words(code)) == row.is_latin, "languages of Latin script are identified by function words"
    assert set(row.indistinguishable_from) <= LANGUAGES.keys()


@pytest.mark.parametrize("code", languages())
def test_a_language_is_clean_in_its_own_sentences(code: str) -> None:
    assert find(SENTENCES[code], language(code)) is None
    assert find(SENTENCES[code], language(code, "confusion")) is None


DISTINGUISHED = [
    (own, other)
    for own in languages()
    for other in languages()
    # Languages that share a script without letters of their own, or that are too close, only a reader can distinguish.
    if own != other
    and other != "en"
    and (own, other) not in {("hi", "ne"), ("ne", "hi"), ("ja", "zh"), ("zh", "ja"), ("ur", "fa"), ("ur", "ar")}
    and (own, other) not in {("zh", "zh-Hans"), ("zh", "zh-Hant")}
    and (own, other) not in {("fa", "ar"), ("kk", "ru"), ("id", "ms"), ("ms", "id")}
]


@pytest.mark.parametrize("own", languages())
def test_a_sentence_of_another_language_is_found(own: str) -> None:
    detector = language(own)
    others = [other for expected, other in DISTINGUISHED if expected == own]
    missed = [other for other in others if find(SENTENCES[other], detector) is None]
    assert missed == []


def test_english_lines_are_a_confusion_in_another_latin_language_only_on_request() -> None:
    line = SENTENCES["en"]
    assert find(line, language("es")) is None
    finding = find(line, language("es", "confusion"))
    assert finding is not None
    assert (finding.text.split()[0], finding.rule) == ("The", "passage")


def test_a_foreign_line_among_expected_lines_is_found() -> None:
    text = f"{SENTENCES['es']}\n{SENTENCES['de']} {SENTENCES['es']}"
    finding = find(text, language("es"))
    assert finding is not None
    assert finding.text == SENTENCES["de"].removesuffix(".")


def test_short_foreign_lines_are_not_judged() -> None:
    assert find("Guten Morgen zusammen.", language("es")) is None


def test_without_passages_lines_are_not_checked_and_the_detector_reports_it() -> None:
    without = language("es", passages="off")
    assert find(SENTENCES["de"], without) is None
    assert without.unchecked is not None and "passages is off" in without.unchecked
    assert language("es").unchecked is None
    assert language("ko", "confusion").unchecked is None
    assert without.version in language("es").version


def test_the_error_for_an_unknown_language_names_the_nearest_and_all() -> None:
    for requested, nearest in (("Koreen", "ko"), ("Chinesse", "zh"), ("Portugese", "pt"), ("Klingon", None)):
        with pytest.raises(UnknownLanguageError) as error:
            language(requested)
        message = str(error.value)
        assert requested in message and "\n" not in message
        assert nearest is None or f"nearest: {nearest}" in message
        assert all(code in message for code in languages())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code": "maybe"}, "expected exempt or judge"),
        ({"words": 3}, "expected true or false"),
        ({"colour": "red"}, "available: capitalised, readings"),
        ({"allowed": "word"}, "expected a list of words"),
    ],
)
def test_a_wrong_option_is_rejected_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message) as error:
        language("ko", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "english", "text", "option"),
    [
        ("ko", "neutral", "대한민국(大韓民國)은", {"hanja_in_brackets": "exempt"}),
        ("ko", "confusion", "그는 kubectl 을 쓴다", {"allowed": ["Kubectl"]}),
        ("ko", "neutral", "그는 sowie 라고", {"words": False}),
    ],
)
def test_an_option_exempts_what_is_a_confusion_by_default(
    code: str, english: English, text: str, option: dict[str, object]
) -> None:
    assert find(text, language(code, english)) is not None
    assert find(text, language(code, english, **option)) is None


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
def test_an_option_judges_what_is_exempt_by_default(english: English, text: str, option: str) -> None:
    assert find(text, language("ko", english)) is None
    assert find(text, language("ko", english, **{option: "judge"})) is not None


def test_detectors_are_cached_and_survive_pickling() -> None:
    assert language("ko") is language("ko")
    assert language("ko", "neutral") is not language("ko", "confusion")
    assert language("ko", allowed=["b", "a"]) is language("ko", allowed=["A", "b"])
    judging_code = language("ja", code="judge")
    assert pickle.loads(pickle.dumps(judging_code)) is judging_code


def test_the_error_for_a_missing_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_profile, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install"):
        language("nl", passages="on", allowed=["not cached"])
    unchecked = language("nl", allowed=["not cached"]).unchecked
    assert unchecked is not None and "pip install" in unchecked
