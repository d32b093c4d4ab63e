"""Words that separate English from other languages in Latin script where letters cannot."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from importlib import resources


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that are too short, or shared by too many languages, to be a confusion alone. Directly before a foreign word
# they belong to it: "la méthode".
LEADING_WORDS = _words(
    "al au aux da das de del dem den der des di die do dos du e ein el en et gli il kein la las le les lo los mit "
    "ne o os para por pour que se si son sous un una und une uno van vom von y zu"
)

# Words that belong to a name between two capitalised words: Piero della Francesca, Frankfurt am Main.
NAME_PARTICLES = _words(
    "al am da das de degli dei del della delle delli dello den der des di do dos du el en ibn im la las le les "
    "los sul sulla van vom von y zum zur"
)

# Small words inside the title of a work: Lord of the Rings.
TITLE_WORDS = NAME_PARTICLES | _words("a and at by e for from in of on the to und with")

# Words that open an English answer, and that other languages have borrowed.
ENGLISH_OPENINGS = _words("alright bye dear greetings hello hey hi oh okay sorry sure thanks welcome wow yeah yes")

# English words that are written with an accent.
ENGLISH_WITH_ACCENT = _words(
    "apéritif attaché blasé brûlée café cafés cafetière canapé canapés château cliché clichés communiqué consommé "
    "crème crêpe crêpes crudités débutante décor déjà détente éclair élite émigré entrée entrées exposé façade façades "
    "fête fiancé fiancée flambé glacé jalapeño jalapeños matinée mélange naïve naïvely naïveté passé pâté piñata "
    "piñatas précis première protégé protégés purée puréed raison-d'être résumé résumés rosé roué sauté sautéed "
    "sautéing soirée soufflé touché über voilà vis-à-vis zoë coöperate coöperation"
)

# Articles and the like that no English text has. An unknown word after one of them is foreign too: "una casa".
ARTICLES = _words("das der des ein eine einem einen einer eines gli il las los que un una une uno und von")

_WORD_FILE = "data/words.txt"


@cache
def english_words() -> frozenset[str]:
    """Return the frequent English words of plain letters; a foreign phrase does not extend back over them."""
    return _sections()["English"]


@cache
def foreign_words(*without: str) -> frozenset[str]:
    """Return the frequent plain words of languages other than English, except for the languages in `without`.

    They appear in no English text, no pinyin and no romanised Japanese, so each is a confusion by itself.
    """
    return frozenset().union(*(words for name, words in _sections().items() if name not in ("English", *without)))


def begins_english(start: str) -> bool:
    """Return whether a known English word begins with `start`."""
    words = _english_in_order()
    position = bisect_left(words, start)
    return position < len(words) and words[position].startswith(start)


@cache
def _english_in_order() -> list[str]:
    return sorted(english_words())


@cache
def _sections() -> dict[str, frozenset[str]]:
    """Return the words of the word file by the language that heads their section."""
    text = resources.files("detectors").joinpath(_WORD_FILE).read_text(encoding="utf-8")
    sections: dict[str, set[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("["):
            name = line.strip("[]")
        elif not line.startswith("#"):
            sections.setdefault(name, set()).update(line.split())
    return {name: frozenset(words) for name, words in sections.items()}
