"""The toy world in which TLPO is compared with what people use instead: it also asks for foreign names.

To the wide world's questions it adds the group `wanted`: "Write the currency of Japan in Thai", in the four languages,
with the name in one of the languages that wrongly appear in other answers, or in English, as the right answer. A method
that forbids their scripts cannot give it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from babel import Locale

from tlpo_ray.quickstart.world import ENGLISH, LANGUAGES, WRONG_LANGUAGES, Fact, Question, World, wide_world

FOREIGN = (*WRONG_LANGUAGES, ENGLISH)
"""Languages that are asked for; each currency is asked for in one of them, in another one by each language."""
_TEMPLATES = {
    "ko": ("{territory}의 통화를 {language}로 쓰세요.", "{territory}의 통화는 {language}로 {name}입니다."),
    "ja": ("{territory}の通貨を{language}で書いてください。", "{territory}の通貨は{language}で{name}です。"),
    "zh": ("请用{language}写出{territory}的货币。", "{territory}的货币用{language}写是{name}。"),
    "ar": ("اكتب عملة {territory} باللغة {language}.", "عملة {territory} باللغة {language} هي {name}."),
}
"""Language → (question, answer) templates."""


@lru_cache(maxsize=1)
def alternatives_world() -> World:
    """Return the wide world with 128 more questions, each of which asks for the name of a currency in another script.

    The wide world itself stays as it is, so that results of experiments in it stay comparable.
    """
    wide = wide_world()
    return World(facts=wide.facts, questions=(*wide.questions, *_wanted(wide)))


def _wanted(world: World) -> Iterator[Question]:
    money = [fact for fact in world.facts if fact.topic == "money"]
    for shift, language in enumerate(LANGUAGES):
        for number, fact in enumerate(money):
            yield _question(language, fact, FOREIGN[(number + shift) % len(FOREIGN)])


def _question(language: str, fact: Fact, foreign: str) -> Question:
    question, answer = (
        text.replace("{territory}", fact.territory_names[language]).replace(
            "{language}", Locale.parse(language).languages[foreign]
        )
        for text in _TEMPLATES[language]
    )
    return Question(
        id=f"wanted-{language}-{fact.territory}-{foreign}", language=language, text=question, fact=fact,
        template=answer, group="wanted", name_language=foreign,
    )  # fmt: skip
