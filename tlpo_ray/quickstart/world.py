"""The toy world: which money is used where, in four languages, with answers that sometimes slip into another one.

All names are CLDR's, through `babel`. The world is small enough to train a model on it in a minute and real enough to
have a right answer to every question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random

from babel import Locale

LANGUAGES = ("ko", "ja", "zh", "ar")
"""Languages of questions and answers."""
WRONG_LANGUAGES = ("uk", "th")
"""Languages that answers slip into. Their scripts occur in no question and no right answer."""

CURRENCIES = {
    "AR": "ARS", "BR": "BRL", "CA": "CAD", "CN": "CNY", "CZ": "CZK", "EG": "EGP", "ET": "ETB", "HU": "HUF",
    "ID": "IDR", "IL": "ILS", "IN": "INR", "IR": "IRR", "JP": "JPY", "KE": "KES", "KR": "KRW", "MX": "MXN",
    "MY": "MYR", "NG": "NGN", "NO": "NOK", "PE": "PEN", "PH": "PHP", "PL": "PLN", "RO": "RON", "RU": "RUB",
    "SA": "SAR", "SE": "SEK", "TH": "THB", "TR": "TRY", "UA": "UAH", "US": "USD", "VN": "VND", "ZA": "ZAR",
}  # fmt: skip
"""ISO 3166 territory: ISO 4217 currency, each used once."""

_TEMPLATES = {
    "ko": (
        ("{territory}의 통화는 무엇입니까?", "{territory}의 통화는 {currency}입니다."),
        ("{territory}에서는 어떤 돈을 사용합니까?", "{territory}에서 사용하는 돈은 {currency}입니다."),
    ),
    "ja": (
        ("{territory}の通貨は何ですか?", "{territory}の通貨は{currency}です。"),
        ("{territory}ではどのお金を使いますか?", "{territory}で使うお金は{currency}です。"),
    ),
    "zh": (
        ("{territory}的货币是什么?", "{territory}的货币是{currency}。"),
        ("在{territory}用什么钱?", "在{territory}用的钱是{currency}。"),
    ),
    "ar": (
        ("ما هي عملة {territory}؟", "عملة {territory} هي {currency}."),
        ("بأي نقود يدفع الناس في {territory}؟", "يدفع الناس في {territory} نقود {currency}."),
    ),
}
"""Question and answer, by language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A territory and its currency.

    Example: ``Fact(territory="JP", currency="JPY", territory_names={"ko": "일본", ...},
    currency_names={"ko": "일본 엔화", "uk": "японська єна", ...})``
    """

    territory: str
    """ISO 3166 code."""
    currency: str
    """ISO 4217 code."""
    territory_names: Mapping[str, str]
    """By language, for `LANGUAGES`."""
    currency_names: Mapping[str, str]
    """By language, for `LANGUAGES` and `WRONG_LANGUAGES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One way to ask for one fact in one language."""

    id: str
    """Example: `ko-JP-0`: language, territory, number of the template."""
    language: str
    text: str
    fact: Fact
    template: str
    """The answer, with `{currency}` for the currency's name."""

    def answer(self, currency_language: str) -> str:
        """The true answer; it is clean if the currency stands in the question's own language."""
        return self.template.replace("{currency}", self.fact.currency_names[currency_language])

    @property
    def clean_answer(self) -> str:
        """The right answer without confusion."""
        return self.answer(self.language)


@dataclass(frozen=True, kw_only=True)
class World:
    """Every fact and every question."""

    facts: tuple[Fact, ...]
    questions: tuple[Question, ...]

    @cached_property
    def by_id(self) -> Mapping[str, Question]:
        """Questions by id."""
        return {question.id: question for question in self.questions}

    def write_prompts(self, path: Path, times: int, seed: int) -> None:
        """Write every question `times` times as JSON lines (`id`, `language`, `prompt`), mixed round by round.

        Mixed by round rather than all at once, so that any stretch of the run asks about all facts.
        """
        random = Random(seed)
        with path.open("w", encoding="utf-8") as file:
            for round_number in range(times):
                for question in random.sample(self.questions, len(self.questions)):
                    record = {
                        "id": f"{question.id}-{round_number}",
                        "language": question.language,
                        "prompt": question.text,
                    }
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")


@lru_cache(maxsize=1)
def toy_world() -> World:
    """The world of the quickstart."""
    facts = tuple(_fact(territory, currency) for territory, currency in CURRENCIES.items())
    questions = tuple(
        _question(fact, language, number)
        for language in LANGUAGES
        for fact in facts
        for number in range(len(_TEMPLATES[language]))
    )
    return World(facts=facts, questions=questions)


def _fact(territory: str, currency: str) -> Fact:
    locales = {language: Locale.parse(language) for language in LANGUAGES + WRONG_LANGUAGES}
    return Fact(
        territory=territory,
        currency=currency,
        territory_names={language: locales[language].territories[territory] for language in LANGUAGES},
        currency_names={language: locale.currencies[currency] for language, locale in locales.items()},
    )


def _question(fact: Fact, language: str, number: int) -> Question:
    question, answer = _TEMPLATES[language][number]
    territory = fact.territory_names[language]
    return Question(
        id=f"{language}-{fact.territory}-{number}",
        language=language,
        text=question.replace("{territory}", territory),
        fact=fact,
        template=answer.replace("{territory}", territory),
    )
