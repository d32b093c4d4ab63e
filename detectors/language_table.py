"""The language table: one row per language. To add one, add a row; `tests/detectors/test_languages.py` checks it.

A row names the scripts in which a language is written and, where several languages share a script, the letters that are
its own. Everything else has a default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

from detectors.chinese import compatibility_forms, not_in_japanese, simplified_only, traditional_only
from detectors.script_ranges import RANGES
from detectors.scripts import Ranges, ranges_of, ranges_of_letters, subtract

Segmenter = Literal["spaces", "jieba", "mecab", "newmm"]
"""What finds the words of a text: white space, or the engine of jieba, MeCab or PyThaiNLP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One row of the language table.

    Example: Ukrainian is `Language(name="Ukrainian", scripts=("Cyrillic",), alphabet="абвгґ…")`: the ы of a Russian
    word is Cyrillic, but not in the alphabet, so the word is foreign.
    """

    name: str
    """English name."""
    scripts: tuple[str, ...]
    """Unicode names of its scripts; the first is its main one."""
    alphabet: str = field(default="", repr=False)
    """Its letters (in lower case) where languages share the script: a word with any other letter of the script is
    foreign. Empty accepts every letter of the script."""
    excluded_letters: str | Callable[[], str] = field(default="", repr=False)
    """The opposite of `alphabet`: letters of its scripts that it does not have, or what returns them."""
    letter_by_letter: bool = False
    """Whether each excluded letter is judged by itself, not with the word around it: Chinese has no spaces."""
    segmenter: Segmenter = "spaces"
    """What finds its words; used only for counting."""
    pinyin: bool = False
    """Whether Mandarin syllables with tone marks are readings in a text of this language."""
    common_words: str = field(default="", repr=False)
    """Its function words, for languages of Latin script: a passage is only identified as this language if it has some
    of them."""
    indistinguishable_from: tuple[str, ...] = ()
    """Codes of languages so close that identification of a line cannot separate them from this one."""
    romanised: str = field(default="", repr=False)
    """More accented letters that only its romanised readings have."""

    @property
    def is_latin(self) -> bool:
        """Whether the language is written in the Latin script, where letters alone are weak evidence."""
        return "Latin" in self.scripts

    @property
    def excluded(self) -> str:
        """The excluded letters themselves, and the symbols that stand for them."""
        letters = self.excluded_letters if isinstance(self.excluded_letters, str) else self.excluded_letters()
        return letters + (compatibility_forms(letters) if "Han" in self.scripts else "")

    def foreign_ranges(self) -> Ranges:
        """Return the letters of the language's scripts that the language does not have."""
        excluded = ranges_of_letters(self.excluded)
        if not self.alphabet:
            return excluded
        script = [pair for script in self.scripts for pair in subtract(ranges_of(RANGES[script]), ranges_of(_SIGNS))]
        own = {form for letter in self.alphabet for form in (letter, letter.upper(), letter.lower()) if len(form) == 1}
        return sorted(subtract(sorted(script), ranges_of_letters("".join(own))) + excluded)


# Vowel signs, Quranic and Church Slavonic signs, tatweel, and ligatures (as in ﷺ) are not letters of an alphabet.
_SIGNS = (
    "483-489 A66F-A67F 2DE0-2DFF FE2E-FE2F 610-61A 640 64B-65F 670 6D6-6ED 6F0-6F9 870-887 890-89F 8CA-8FF "
    "FB50-FDFF FE70-FEFF"
)

_RUSSIAN = "абвгдеёжзийклмнопрстуфхцчшщъыьэюяѣѳѵ"
_UKRAINIAN = "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя"
_KAZAKH = "абвгдеёжзийклмнопрстуфхцчшщъыьэюяәғқңөұүһі"
_ARABIC = "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيٱٮٯ"


_CHINESE_WORDS = (
    "們你她您妳们么麼嗎吧呢啊啦喔啥咱哪很對從讓关關经經點數样樣每种确查离构步复值极另优晚胜异怀搞跑惊懂涉伙沉奶"
    "偷扰爸揭碰俱洁拖嗯拼圾垃桌傻挖躲扭瞧吵踢扯躺烤扔摔哎划开帮园阳养灵荣阴灾迁筹肤撑壳渗巩卧"
)
"""Characters of pronouns, particles and everyday words of Chinese that Japanese does not have; JIS X 0213 has some."""


def _not_japanese() -> str:
    return not_in_japanese() + _CHINESE_WORDS


_CHINESE = Language(name="Chinese", scripts=("Han", "Bopomofo"), segmenter="jieba", pinyin=True)

LANGUAGES: dict[str, Language] = {
    # پ چ ڤ گ and the Maghrebi letters are included, since Arabic writes loan words with them.
    "ar": Language(name="Arabic", scripts=("Arabic",), alphabet=_ARABIC + "پچڤگژڭڥڨ"),
    "bn": Language(name="Bengali", scripts=("Bengali",), excluded_letters="ৰৱ"),  # Assamese
    "cs": Language(
        name="Czech",
        scripts=("Latin",),
        common_words=(
            "a v je se na že s to z do o i ve pro jako za by ale po jsou byl tak který která nebo aby jeho není může"
        ),
    ),
    "da": Language(
        name="Danish",
        scripts=("Latin",),
        common_words=(
            "og i at det er en til på som med for den af de der ikke et om fra har jeg var men han kan ved vi sig så "
            "dette eller også skal være"
        ),
    ),
    "de": Language(
        name="German",
        scripts=("Latin",),
        common_words=(
            "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden "
            "aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen zum war haben nur oder "
            "aber vor zur bis mehr durch man wir ich"
        ),
    ),
    "el": Language(name="Greek", scripts=("Greek",)),
    "en": Language(
        name="English",
        scripts=("Latin",),
        common_words=(
            "the of and to in a is that for it on as with are be this by or an from at was which have not can you "
            "we they their has will but your more about into than these its i he she his"
        ),
    ),
    "es": Language(
        name="Spanish",
        scripts=("Latin",),
        common_words=(
            "de la que el en y a los del se las por un para con no una su al lo como más pero sus le o este "
            "porque esta entre cuando muy sin sobre también hasta hay donde es son ser fue te me mi ha"
        ),
    ),
    "fa": Language(name="Persian", scripts=("Arabic",), alphabet=_ARABIC + "پچژگکیۀ"),
    "fi": Language(
        name="Finnish",
        scripts=("Latin",),
        common_words="on ja ei se että oli mutta kun joka ovat myös niin kuin hän voi sekä tai tämä tähän jos kanssa",
    ),
    "fr": Language(
        name="French",
        scripts=("Latin",),
        common_words=(
            "de la le et les des en un du une que est pour qui dans par plus pas au sur ne se ce il sont son avec "
            "ou mais comme nous vous cette à être leur aux ces elle je votre vos ont"
        ),
    ),
    "he": Language(name="Hebrew", scripts=("Hebrew",)),
    "hi": Language(name="Hindi", scripts=("Devanagari",)),
    "hu": Language(
        name="Hungarian",
        scripts=("Latin",),
        common_words="a az és hogy nem is egy ez meg van volt csak de mint el ki már vagy ha be ezt azt lehet egyik",
    ),
    "id": Language(
        name="Indonesian",
        scripts=("Latin",),
        indistinguishable_from=("ms",),
        common_words=(
            "yang dan di dengan untuk dari dalam ini itu pada adalah ke tidak atau akan oleh juga dapat sebagai "
            "ada bisa karena mereka telah saya kita anda lebih"
        ),
    ),
    "it": Language(
        name="Italian",
        scripts=("Latin",),
        common_words=(
            "di e il la che in un a per è una sono con non si da del le i della al gli dei nel come più anche ma "
            "lo alla questo o ha su delle nella"
        ),
    ),
    "ja": Language(
        name="Japanese",
        scripts=("Hiragana", "Katakana", "Han"),
        segmenter="mecab",
        excluded_letters=_not_japanese,
    ),
    "kk": Language(name="Kazakh", scripts=("Cyrillic",), alphabet=_KAZAKH),
    "ko": Language(name="Korean", scripts=("Hangul",), romanised="ŏŭ"),
    "ms": Language(
        name="Malay",
        scripts=("Latin",),
        indistinguishable_from=("id",),
        common_words=(
            "yang dan di dengan untuk dari dalam ini itu pada adalah ke tidak atau akan oleh juga boleh sebagai "
            "ada kerana mereka telah saya kita anda lebih"
        ),
    ),
    "ne": Language(name="Nepali", scripts=("Devanagari",)),
    "nl": Language(
        name="Dutch",
        scripts=("Latin",),
        common_words=(
            "de het een van en in is dat op te zijn met voor niet aan er om ook als maar bij uit door naar dan of "
            "over nog wordt deze worden heeft ik je"
        ),
    ),
    "pl": Language(
        name="Polish",
        scripts=("Latin",),
        common_words=(
            "w i na z się do nie to że jest o jak po co tak za od przez dla są być ale może oraz czy ten które który"
        ),
    ),
    "pt": Language(
        name="Portuguese",
        scripts=("Latin",),
        common_words=(
            "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem "
            "à seu sua ou ser quando muito nos já está eu também pelo pela até"
        ),
    ),
    "ro": Language(
        name="Romanian",
        scripts=("Latin",),
        common_words="și în de la a cu pe nu o că să este din un mai pentru care sunt ca au prin sau fi ar dar",
    ),
    "ru": Language(name="Russian", scripts=("Cyrillic",), alphabet=_RUSSIAN),
    "sv": Language(
        name="Swedish",
        scripts=("Latin",),
        common_words=(
            "och i att det som en på är av för med den till inte har de ett om jag var men från så kan vi sig detta "
            "eller också ska"
        ),
    ),
    "sw": Language(
        name="Swahili",
        scripts=("Latin",),
        common_words="ya na wa kwa ni katika la za kama hii au cha yake hiyo huo kuwa watu pia lakini hivyo yao ili",
    ),
    "th": Language(name="Thai", scripts=("Thai",), segmenter="newmm"),
    "tr": Language(
        name="Turkish",
        scripts=("Latin",),
        common_words=(
            "ve bir bu da de için ile olarak çok daha gibi kadar olan en ama sonra ise değil ne var veya her olduğu"
        ),
    ),
    "uk": Language(name="Ukrainian", scripts=("Cyrillic",), alphabet=_UKRAINIAN),
    "ur": Language(name="Urdu", scripts=("Arabic",), alphabet=_ARABIC + "پچژگکیٹڈڑںھہۂۃےۓۀ"),
    "vi": Language(
        name="Vietnamese",
        scripts=("Latin",),
        common_words=(
            "và của là có trong được cho các một những không với người này đã để khi từ về như cũng đến ra vào sẽ bạn"
        ),
    ),
    "yo": Language(
        name="Yoruba",
        scripts=("Latin",),
        common_words="ní ti àti tí ó sí jẹ́ fún pé wọ́n kan náà bí láti ń nípa gbogbo tó ṣe mo wà ó̩ kò",
    ),
    # Chinese in either writing; the two rows below expect one of them.
    "zh": _CHINESE,
    "zh-Hans": replace(_CHINESE, name="Simplified Chinese", excluded_letters=traditional_only, letter_by_letter=True),
    "zh-Hant": replace(_CHINESE, name="Traditional Chinese", excluded_letters=simplified_only, letter_by_letter=True),
}


def languages() -> tuple[str, ...]:
    """Return the codes of the supported languages."""
    return tuple(LANGUAGES)


@cache
def common_words(code: str) -> frozenset[str]:
    """Return `Language.common_words` as a set."""
    return frozenset(LANGUAGES[code].common_words.split())
