"""Prompts that ask for foreign text, and whether it is in the answer: what must not be lost with the confusion.

A prompt in one language asks for text in another one: to translate a name, to quote a sentence, to write the name of a
place as it is written there, to comment code. Names come from CLDR, through `babel`. An answer is right if the expected
text is in it, whatever else it says, so that the score does not depend on the pass rates. Those are not computed: what
they would count as confusion was asked for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from random import Random
from typing import Literal, get_args

from babel import Locale

from detectors.language_table import LANGUAGES as TABLE
from tlpo_ray.evaluation.suites.suite import Item, Suite
from tlpo_ray.evaluation.suites.wanted_prompts import WORDINGS

Kind = Literal["translate", "quote", "own-script", "code"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What a prompt asks for: the `task` of its item."""
LANGUAGES = tuple(WORDINGS)
"""Languages of prompts, and of the text that they ask for."""
COUNTRIES = ("DE", "EG", "ES", "GR", "HU", "JP")
"""ISO 3166 codes."""
TONGUES = ("de", "el", "fi", "hu", "ja", "pl")
CURRENCIES = ("EGP", "HUF", "JPY", "NOK")
"""ISO 4217 codes."""
PLACES = {
    "ar": ("Africa/Cairo", "Asia/Baghdad", "Asia/Beirut", "Asia/Damascus"),
    "de": ("Europe/Berlin", "Europe/Vienna", "Europe/Zurich"),
    "en": ("Europe/London", "America/New_York", "Australia/Sydney"),
    "es": ("Europe/Madrid", "America/Lima", "America/Bogota"),
    "fr": ("Europe/Paris",),
    "it": ("Europe/Rome",),
    "ja": ("Asia/Tokyo",),
    "ko": ("Asia/Pyongyang", "Asia/Seoul"),
    "pt": ("Europe/Lisbon", "America/Sao_Paulo"),
    "ru": ("Europe/Moscow", "Asia/Novosibirsk", "Asia/Vladivostok"),
    "th": ("Asia/Bangkok",),
    "uk": ("Europe/Kiev",),
    "zh": ("Asia/Shanghai", "Asia/Urumqi"),
}
"""Language → time zones named after cities where it is written; CLDR has the cities' names."""
_CLOSING = ".。 "


def correct(answer: str, reference: str, language: str) -> bool:
    """Return whether the expected text is in an answer, in whatever case, width and spacing."""
    return _folded(reference) in _folded(answer)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def wanted_items(
    languages: Sequence[str], foreign: Sequence[str] | None = None, *, limit: int | None = None, seed: int = 0
) -> list[Item]:
    """Return prompts that ask for foreign text, language by language.

    Within a language the kinds and the foreign languages take turns, so that any beginning of its prompts has about the
    same number of each. Names that are alike in both languages are left out, because they would be no foreign text.

    Args:
        languages: Languages of the prompts, some of `LANGUAGES`.
        foreign: Languages of the text that is asked for; None takes all of `LANGUAGES`. A prompt never asks for its own
            language.
        limit: Largest number of prompts of each language.
        seed: Seed of the order.

    Raises:
        KeyError: A language is not among `LANGUAGES`.

    Example: ``wanted_items(("ko", "ja"), ("uk", "th", "en"), limit=30)``
    """
    items: list[Item] = []
    for language in languages:
        others = [other for other in foreign or LANGUAGES if other != language]
        items += _in_turns(language, others, Random(f"{seed} {language}"))[:limit]
    return items


def _in_turns(language: str, foreign: list[str], random: Random) -> list[Item]:
    """Return all prompts of a language: the foreign languages take turns, and in each of them the kinds."""
    random.shuffle(foreign)
    queues: list[list[Item]] = []
    for place, other in enumerate(foreign):
        piles = [list(_items(kind, language, other)) for kind in KINDS]
        for pile in piles:
            random.shuffle(pile)
        first = place % len(KINDS)  # languages begin with different kinds, so that any few prompts have all of them
        queues.append(_interleaved([*piles[first:], *piles[:first]]))
    return _interleaved(queues)


def _interleaved(queues: Sequence[Sequence[Item]]) -> list[Item]:
    return [item for turn in zip_longest(*queues) for item in turn if item is not None]


def _items(kind: Kind, language: str, foreign: str) -> Iterator[Item]:
    """Yield the prompts of one kind in a language that ask for text in another one."""
    wording, own, other = WORDINGS[language], Locale.parse(language), Locale.parse(foreign)
    target = own.languages[foreign]
    asked: list[tuple[str, str, str]] = []  # code, prompt, expected text
    match kind:
        case "translate":
            countries = set(own.territories.values())  # in Thai, "Japan" and "Japanese" are one word
            tongues = [code for code in TONGUES if own.languages[code] not in countries]
            for codes, names, foreign_names in (
                (COUNTRIES, own.territories, other.territories),
                (tongues, own.languages, other.languages),
                (CURRENCIES, own.currencies, other.currencies),
            ):
                for code in codes:
                    prompt = wording.translate.format(language=target, name=names[code])
                    asked.append((code, prompt, foreign_names[code]))
        case "quote":
            for number, sentence in enumerate(WORDINGS[foreign].sentences):
                asked.append((str(number), wording.quote.format(sentence=sentence), sentence.rstrip(_CLOSING)))
        case "own-script":
            if TABLE[language].scripts[0] != TABLE[foreign].scripts[0] and {language, foreign} != {"ja", "zh"}:
                for zone in PLACES[foreign]:
                    prompt = wording.own_script.format(name=_city(own, zone))
                    asked.append((zone.rpartition("/")[2], prompt, _city(other, zone)))
        case "code":
            for code in COUNTRIES:
                prompt = wording.code.format(language=target, name=own.territories[code])
                asked.append((code, prompt, other.territories[code]))
    for code, prompt, expected in asked:
        if kind == "quote" or not correct(prompt, expected, foreign):
            yield Item(
                suite=SUITE.name, task=kind, source="cldr", id=f"{language}-{foreign}-{kind}-{code}",
                language=language, prompt=prompt, reference=expected,
            )  # fmt: skip


def _city(locale: Locale, zone: str) -> str:
    """Return the name of a time zone's city; CLDR has none where it is written as in the zone's identifier."""
    return str(locale.time_zones.get(zone, {}).get("city") or zone.rpartition("/")[2].replace("_", " "))


def _made(languages: Sequence[str], limit: int | None, seed: int) -> list[Item]:
    return wanted_items(languages, limit=limit, seed=seed)


SUITE = Suite(
    name="wanted",
    languages=LANGUAGES,
    temperature=0.0,
    max_new_tokens=256,
    make_items=_made,
    correct=correct,
    score_name="wanted",
    rated=False,
)
