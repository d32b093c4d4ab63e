"""The toy worlds: facts in several languages, and questions about them.

All names come from CLDR, through `babel`. A world is small enough to train a model on it in a minute, and real enough
that every question has a right answer. `toy_world` asks for one kind of fact in four languages. `wide_world` adds what
a careless repair would damage: questions that a run never asks, about the same topic and another one, and questions in
English and in the languages that wrongly appear in answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Literal

from babel import Locale
from babel.languages import get_official_languages

LANGUAGES = ("ko", "ja", "zh", "ar")
"""Languages of questions and answers."""
WRONG_LANGUAGES = ("uk", "th")
"""Languages that wrongly appear in answers. No question or right answer in one of `LANGUAGES` uses their scripts."""
ENGLISH = "en"

Topic = Literal["money", "tongue"]
Group = Literal["asked", "unasked", "other_topic", "other_language", "english", "wanted"]
"""Group of a question. Runs train on `asked` only. `unasked` is the same question about other territories and
`other_topic` another question in the same languages; `other_language` and `english` are in the wrong languages and in
English. `wanted` asks for a name in one of these (`tlpo_ray.quickstart.alternatives`)."""
UNASKED_EVERY = 4
"""A run in the wide world never asks for the currency of every fourth territory."""

CURRENCIES = {
    "AR": "ARS", "BR": "BRL", "CA": "CAD", "CN": "CNY", "CZ": "CZK", "EG": "EGP", "ET": "ETB", "HU": "HUF",
    "ID": "IDR", "IL": "ILS", "IN": "INR", "IR": "IRR", "JP": "JPY", "KE": "KES", "KR": "KRW", "MX": "MXN",
    "MY": "MYR", "NG": "NGN", "NO": "NOK", "PE": "PEN", "PH": "PHP", "PL": "PLN", "RO": "RON", "RU": "RUB",
    "SA": "SAR", "SE": "SEK", "TH": "THB", "TR": "TRY", "UA": "UAH", "US": "USD", "VN": "VND", "ZA": "ZAR",
}  # fmt: skip
"""ISO 3166 territory → ISO 4217 currency; no currency appears twice."""

_MONEY = {
    "ko": (
        ("{territory}의 통화는 무엇입니까?", "{territory}의 통화는 {name}입니다."),
        ("{territory}에서는 어떤 돈을 사용합니까?", "{territory}에서 사용하는 돈은 {name}입니다."),
    ),
    "ja": (
        ("{territory}の通貨は何ですか?", "{territory}の通貨は{name}です。"),
        ("{territory}ではどのお金を使いますか?", "{territory}で使うお金は{name}です。"),
    ),
    "zh": (
        ("{territory}的货币是什么?", "{territory}的货币是{name}。"),
        ("在{territory}用什么钱?", "在{territory}用的钱是{name}。"),
    ),
    "ar": (
        ("ما هي عملة {territory}؟", "عملة {territory} هي {name}."),
        ("بأي نقود يدفع الناس في {territory}؟", "يدفع الناس في {territory} نقود {name}."),
    ),
}
"""Language → (question, answer) templates."""
_MONEY_OTHER_LANGUAGES = {
    "uk": (("Яка валюта країни {territory}?", "Валюта країни {territory} — {name}."),),
    "th": (("สกุลเงินของ{territory}คืออะไร?", "สกุลเงินของ{territory}คือ{name}"),),
    "en": (("What is the currency of {territory}?", "The currency of {territory} is {name}."),),
}
_TONGUE = {
    "ko": (("{territory}에서는 어떤 언어를 사용합니까?", "{territory}에서 사용하는 언어는 {name}입니다."),),
    "ja": (("{territory}では何語を話しますか?", "{territory}で話される言葉は{name}です。"),),
    "zh": (("在{territory}说什么语言?", "在{territory}说的语言是{name}。"),),
    "ar": (("ما هي لغة {territory}؟", "لغة {territory} هي {name}."),),
    "en": (("What language is spoken in {territory}?", "The language of {territory} is {name}."),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A territory's currency or language.

    Example: ``Fact(topic="money", territory="JP", value="JPY", territory_names={"ko": "일본", ...},
    names={"ko": "일본 엔화", "uk": "японська єна", ...})``
    """

    topic: Topic
    territory: str
    """ISO 3166 code."""
    value: str
    """ISO 4217 code of the currency, or code of the language."""
    territory_names: Mapping[str, str]
    """Language of a question → name of the territory."""
    names: Mapping[str, str]
    """Language of an answer → name of the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One way to ask for one fact in one language."""

    id: str
    """Language, territory and number of the template, e.g. `ko-JP-0`; preceded by the topic unless it is `money`."""
    language: str
    text: str
    fact: Fact
    template: str
    """The right answer, with `{name}` in place of the value's name."""
    group: Group = "asked"
    name_language: str = ""
    """Language that the name is asked for in; empty is the question's."""

    @property
    def confusable(self) -> bool:
        """Whether the toy model learns to answer the question in a wrong language now and then."""
        return self.group in ("asked", "unasked")

    def answer(self, name_language: str) -> str:
        """Return the true answer with the value's name in some language; clean if that is the question's language."""
        return self.template.replace("{name}", self.fact.names[name_language])

    @property
    def clean_answer(self) -> str:
        """The right answer, without confusion."""
        return self.answer(self.name_language or self.language)


@dataclass(frozen=True, kw_only=True)
class World:
    """Facts, and questions about them."""

    facts: tuple[Fact, ...]
    questions: tuple[Question, ...]

    def write_prompts(
        self, path: Path, times: int, seed: int, references: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Write every asked question `times` times as JSON lines with `id`, `language` and `prompt`.

        The questions are shuffled within each round, not all at once, so that any stretch of the run asks about all
        facts.

        Args:
            path: File to write.
            times: Number of rounds.
            seed: Seed of the shuffling.
            references: Question id → one answer per round, written as `reference`.
        """
        random, asked = Random(seed), [question for question in self.questions if question.group == "asked"]
        with path.open("w", encoding="utf-8") as file:
            for round_number in range(times):
                for question in random.sample(asked, len(asked)):
                    record = {
                        "id": f"{question.id}-{round_number}",
                        "language": question.language,
                        "prompt": question.text,
                    }
                    if references is not None:
                        record["reference"] = references[question.id][round_number]
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")


@lru_cache(maxsize=1)
def toy_world() -> World:
    """Return the world of the quickstart: the currencies of 32 territories, asked in four languages in two ways."""
    facts = tuple(_money(territory, LANGUAGES + WRONG_LANGUAGES) for territory in CURRENCIES)
    return World(facts=facts, questions=tuple(_questions(facts, _MONEY)))


@lru_cache(maxsize=1)
def wide_world() -> World:
    """Return the world of the experiments: the toy world's questions, a quarter of them never asked, and 256 others."""
    languages = (*LANGUAGES, *WRONG_LANGUAGES, ENGLISH)
    money = tuple(_money(territory, languages) for territory in CURRENCIES)
    tongue = tuple(_tongue(territory, (*LANGUAGES, ENGLISH)) for territory in CURRENCIES)
    unasked = set(list(CURRENCIES)[UNASKED_EVERY - 1 :: UNASKED_EVERY])
    questions = [*_questions(money, _MONEY), *_questions(money, _MONEY_OTHER_LANGUAGES), *_questions(tongue, _TONGUE)]
    return World(
        facts=money + tongue,
        questions=tuple(replace(question, group=_group(question, unasked)) for question in questions),
    )


def _group(question: Question, unasked: set[str]) -> Group:
    if question.language == ENGLISH:
        return "english"
    if question.language in WRONG_LANGUAGES:
        return "other_language"
    if question.fact.topic != "money":
        return "other_topic"
    return "unasked" if question.fact.territory in unasked else "asked"


def _money(territory: str, languages: Sequence[str]) -> Fact:
    currency = CURRENCIES[territory]
    names = {language: Locale.parse(language).currencies[currency] for language in languages}
    return _fact("money", territory, currency, names)


def _tongue(territory: str, languages: Sequence[str]) -> Fact:
    tongue = get_official_languages(territory, de_facto=True)[0]
    names = {language: Locale.parse(language).languages[tongue] for language in languages}
    return _fact("tongue", territory, tongue, names)


def _fact(topic: Topic, territory: str, value: str, names: Mapping[str, str]) -> Fact:
    territory_names = {language: Locale.parse(language).territories[territory] for language in names}
    return Fact(topic=topic, territory=territory, value=value, territory_names=territory_names, names=names)


def _questions(facts: Sequence[Fact], templates: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[Question]:
    for language, forms in templates.items():
        for fact in facts:
            for number, (question, answer) in enumerate(forms):
                territory, topic = fact.territory_names[language], "" if fact.topic == "money" else f"{fact.topic}-"
                yield Question(
                    id=f"{topic}{language}-{fact.territory}-{number}",
                    language=language,
                    text=question.replace("{territory}", territory),
                    fact=fact,
                    template=answer.replace("{territory}", territory),
                )
