"""Words that separate English from other languages in Latin script where letters cannot."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from importlib import resources


def word_set(text: str) -> frozenset[str]:
    """Return the words between the spaces of a text."""
    return frozenset(text.split())


# Words that are too short, or shared by too many languages, to be a confusion alone. Directly before a foreign word
# they belong to it: "la méthode".
LEADING_WORDS = word_set(
    "al au aux da das de del dem den der des di die do dos du e ein el en et gli il kein la las le les lo los mit "
    "ne o os para por pour que se si son sous un una und une uno van vom von y zu"
)

# Small words inside a name between two capitalised words: Piero della Francesca, Frankfurt am Main.
_OF_PERSONS_AND_PLACES = word_set(
    "al am da das de degli dei del della delle delli dello dem den der des di do dos du el en ibn im la las le les "
    "los sul sulla van vom von y zum zur"
)
# The same with those of institutions and works: Institut für Raumplanung, Instituto para la Evaluación.
NAME_PARTICLES = _OF_PERSONS_AND_PLACES | word_set(
    "à às aan agli ai alla alle allo an ao aos au auf aus aux av avec az bei beim bij bin bint com con contra contre "
    "contro cu dai dagli dal dalla dalle dan dans din dla e ed em entre és et eu för für gegen gli het i il în ile lo "
    "mellan mit na nach nad nas negli nei nel nella nelle no o och od oder og om ohne os ou oraz para par pela pelas "
    "pelo pelos pentru per pod por pour pro przy på sans sem senza și sin sobre sous sugli sui sulle sur ter til till "
    "tra uit und unter untuk ve voor vor w z za ze zu"
)
ENGLISH_PARTICLES = word_set("an do in no")
"""Particles that are English words, and judged as such."""
ARTICLES_IN_NAMES = word_set("das die")
"""Articles that belong to a name only behind a particle: Hochschule *für die* Künste."""
# Small words inside the title of a work: Lord of the Rings.
TITLE_WORDS = NAME_PARTICLES | word_set("a and at by for from in of on the to with")

# Words that open an English answer, and that other languages have borrowed.
ENGLISH_OPENINGS = word_set("alright bye dear greetings hello hey hi oh okay sorry sure thanks welcome wow yeah yes")

# English words that are written with an accent, as dictionaries of English have them.
ENGLISH_WITH_ACCENT = word_set(
    "adiós angström ångström apéritif appliqué après-ski arrière-pensée attaché auto-da-fé béarnaise béchamel blasé "
    "bouclé bric-à-brac brûlée café cafés cafetière canapé canapés château châteaux cliché clichéd clichés cloisonné "
    "communiqué communiqués consommé coöperate coöperation cortège coupé crèche crème crêpe crêpes croûton croûtons "
    "crudités curaçao débutante déclassé décolletage décolleté décor découpage déjà démodé dénouement déshabillé "
    "détente divorcé divorcée doppelgänger doppelgängers éclair éclairs éclat élan élite élites émigré émigrés entrée "
    "entrées entrepôt étude études exposé exposés façade façades faïence fête fêtes fiancé fiancée fiancées fiancés "
    "flambé flambéed föhn épée épées führer garçon gâteau gâteaux glacé gruyère habitué jalapeño jalapeños jeté "
    "macramé maelström mañana maté matinée matinées mélange mêlée métier moiré naïf naïve naïvely naïveté naïvety "
    "négligé née olé outré papier-mâché passé pâté pâtés pâtisserie pétanque pietà piñata piñatas piqué plié précis "
    "première premières prêt-à-porter protégé protégée protégées protégés purée puréed purées raison-d'être recherché "
    "résumé résumés risqué rôle rosé roué roués saké sauté sautéed sautéing sautés séance séances señor señora "
    "señorita smörgåsbord smörgåsbords soigné soirée soirées soufflé soufflés soupçon tête-à-tête touché über "
    "vis-à-vis voilà zoë"
)

SOLFEGE = word_set("do re mi fa sol la si ti ut")
"""Names of notes, which are of no language: do re mi fa sol."""

# Articles and the like that no English text has. An unknown word after one of them is foreign too: "una casa".
ARTICLES = word_set("das der des ein eine einem einen einer eines gli il las los que un una une uno und von")

_WORD_FILE, _PHRASE_FILE = "data/words.txt", "data/phrases.txt"


@cache
def english_phrases() -> frozenset[str]:
    """Return the phrases of other languages that dictionaries of English have: raison d'être."""
    lines = resources.files("detectors").joinpath(_PHRASE_FILE).read_text(encoding="utf-8").split("\n")
    return frozenset(line for line in lines if line and not line.startswith("#"))


@cache
def longest_phrase() -> int:
    """Return the number of characters of the longest of `english_phrases`."""
    return max(map(len, english_phrases()))


def phrases_with(word: str) -> tuple[tuple[str, str], ...]:
    """Return what stands before and after a word in each of `english_phrases` that has it.

    A phrase may be written with hyphens, too, and is then one word.
    """
    return _phrases().get(word, ())


@cache
def _phrases() -> dict[str, tuple[tuple[str, str], ...]]:
    places: dict[str, tuple[tuple[str, str], ...]] = {}
    for phrase in english_phrases():
        places[phrase.replace(" ", "-")] = (("", ""),)
        words = phrase.split(" ")
        for index, word in enumerate(words):
            before, after = " ".join([*words[:index], ""]), " ".join(["", *words[index + 1 :]])
            places[word] = (*places.get(word, ()), (before, after))
    return places


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
