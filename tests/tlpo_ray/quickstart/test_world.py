from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from tlpo_ray.quickstart.world import LANGUAGES, WRONG_LANGUAGES, toy_world, wide_world

SCRIPTS = {
    "ko": {"HANGUL"},
    "ja": {"HIRAGANA", "KATAKANA", "CJK"},
    "zh": {"CJK"},
    "ar": {"ARABIC"},
    "uk": {"CYRILLIC"},
    "th": {"THAI"},
}


def letter_scripts(text: str) -> set[str]:
    """Return the scripts of the letters, i.e. the first words of their names (some, as KATAKANA-HIRAGANA, have two)."""
    names = [unicodedata.name(char) for char in text if unicodedata.category(char)[0] in "LM" and char != "ʼ"]
    return {name.split()[0].split("-")[0] for name in names}


@pytest.mark.parametrize("language", LANGUAGES + WRONG_LANGUAGES)
def test_currency_names_are_in_their_language(language: str) -> None:
    for fact in toy_world().facts:
        name = fact.names[language]
        assert letter_scripts(name) and letter_scripts(name) <= SCRIPTS[language], name


def test_questions_and_right_answers_are_clean() -> None:
    for question in toy_world().questions:
        assert letter_scripts(question.text) <= SCRIPTS[question.language], question.text
        assert letter_scripts(question.clean_answer) <= SCRIPTS[question.language], question.clean_answer


def test_wrong_languages_share_no_script_with_right_ones() -> None:
    right = set.union(*(SCRIPTS[language] for language in LANGUAGES))
    assert right.isdisjoint(set.union(*(SCRIPTS[language] for language in WRONG_LANGUAGES)))


def test_every_currency_is_asked_equally_often_in_every_language() -> None:
    world = toy_world()
    asked = Counter((question.language, question.fact.value) for question in world.questions)
    assert len(asked) == len(LANGUAGES) * len(world.facts) and len(set(asked.values())) == 1
    assert len({question.id for question in world.questions}) == len(world.questions) >= 192


def test_no_question_is_asked_twice() -> None:
    questions = toy_world().questions
    assert len({question.text for question in questions}) == len(questions)


def test_no_name_is_part_of_another_currencys_name() -> None:
    names = [(fact.value, name) for fact in toy_world().facts for name in fact.names.values()]
    clashes = [(a, b) for a_code, a in names for b_code, b in names if a_code != b_code and a in b]
    assert not clashes


def test_questions_and_templates_do_not_name_a_currency() -> None:
    world = toy_world()
    names = {name for fact in world.facts for name in fact.names.values()}
    for question in world.questions:
        assert not [name for name in names if name in question.text or name in question.template]


def test_the_prompt_file_asks_every_question_once_per_round(tmp_path: Path) -> None:
    world = toy_world()
    world.write_prompts(tmp_path / "prompts.jsonl", times=2, seed=3)
    records = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({record["id"] for record in records}) == len(records) == 2 * len(world.questions)
    texts = [record["prompt"] for record in records]
    first, second = texts[: len(world.questions)], texts[len(world.questions) :]
    assert set(first) == set(second) == {question.text for question in world.questions}
    assert first != second
    assert {(record["language"], record["prompt"]) for record in records} == {
        (question.language, question.text) for question in world.questions
    }


def test_the_wide_world_contains_the_toy_worlds_questions() -> None:
    wide = wide_world()
    toy = {question.id: question.text for question in toy_world().questions}
    assert toy.items() <= {question.id: question.text for question in wide.questions}.items()
    groups = Counter(question.group for question in wide.questions)
    assert groups == {"asked": 192, "unasked": 64, "other_topic": 128, "other_language": 64, "english": 64}
    assert (
        len({question.id for question in wide.questions})
        == len(wide.questions)
        == len({question.text for question in wide.questions})
    )


def test_unasked_questions_are_about_other_territories() -> None:
    wide = wide_world()
    asked = {question.fact.territory for question in wide.questions if question.group == "asked"}
    unasked = {question.fact.territory for question in wide.questions if question.group == "unasked"}
    assert asked.isdisjoint(unasked) and len(unasked) == 8
    confusable = {question.group for question in wide.questions if question.confusable}
    assert confusable == {"asked", "unasked"}


def test_prompts_contain_asked_questions_only(tmp_path: Path) -> None:
    wide_world().write_prompts(tmp_path / "p.jsonl", 1, seed=0)
    written = {json.loads(line)["prompt"] for line in (tmp_path / "p.jsonl").read_text("utf-8").splitlines()}
    assert written == {question.text for question in wide_world().questions if question.group == "asked"}
