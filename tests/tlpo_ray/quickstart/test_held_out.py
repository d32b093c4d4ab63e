from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.data.load import load_prompts
from tlpo_ray.errors import ConfigError, PromptFileError
from tlpo_ray.flow.records import Prompt
from tlpo_ray.quickstart.held_out import HELD_OUT, MAX_HELD_OUT, HeldOutQuestions, read_held_out, write_prompts


def config_of(folder: Path, *overrides: str) -> RunConfig:
    return load_config("quickstart-smollm2", ["model.path=.", f"folder={folder / 'run'}", *overrides])


def asked(config: RunConfig) -> list[Prompt]:
    return list(load_prompts(config.data, config.detector, config.seed).prompts)


def texts(prompts: list[Prompt]) -> set[tuple[str, str]]:
    return {(prompt.language, prompt.text) for prompt in prompts}


@pytest.mark.parametrize("model", ["smollm2", "gemma-3-270m"])
def test_a_run_asks_open_questions_in_its_languages_and_never_those_that_are_held_out(
    tmp_path: Path, model: str
) -> None:
    preset = load_config(f"quickstart-{model}", ["model.path=.", f"folder={tmp_path / 'run'}"])
    config = write_prompts(preset)
    prompts, held_out = asked(config), read_held_out(config.folder)
    assert held_out is not None and [prompt.index for prompt in held_out] == list(range(len(held_out)))
    assert len(prompts) == preset.data.limit and len(held_out) <= MAX_HELD_OUT
    assert texts(prompts).isdisjoint(texts(held_out))
    for part in (prompts, held_out):
        languages = Counter(prompt.language for prompt in part)
        assert set(languages) == set(preset.data.languages) and min(languages.values()) > 20
    assert write_prompts(preset) == config and asked(config) == prompts, "the seed decides"


def write_own(folder: Path, prompts: list[str]) -> Path:
    file = folder / "mine.jsonl"
    rows = [{"language": "es", "prompt": text} for text in prompts]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@given(st.lists(st.sampled_from([f"¿Pregunta {number}?" for number in range(40)]), min_size=60, max_size=90))
def test_of_own_prompts_a_share_is_held_out_and_no_text_is_in_both_parts(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("own")
    given_texts = {("es", text) for text in prompts}
    unsplit = config_of(folder, f"data.prompts={write_own(folder, prompts)}", "data.limit=null")
    if len(given_texts) < 5:
        with pytest.raises(PromptFileError, match=f"{len(given_texts)} different prompts are too few"):
            write_prompts(unsplit)
        return
    config = write_prompts(unsplit)
    held_out = read_held_out(config.folder)
    assert held_out is not None and len(held_out) == len(texts(held_out)) == len(given_texts) // 5
    assert texts(asked(config)) == given_texts - texts(held_out)
    others = Counter(text for text in prompts if ("es", text) not in texts(held_out))
    assert Counter(prompt.text for prompt in asked(config)) == others


def test_too_few_prompts_and_languages_without_questions_are_refused(tmp_path: Path) -> None:
    few = write_own(tmp_path, ["¿Uno?", "¿Dos?", "¿Tres?", "¿Tres?"])
    with pytest.raises(PromptFileError, match="3 different prompts are too few to hold some out"):
        write_prompts(config_of(tmp_path, f"data.prompts={few}"))
    with pytest.raises(
        ConfigError, match=r"data\.languages has sv: the quickstart has questions in ar, de, en, es, fr"
    ):
        write_prompts(config_of(tmp_path, "data.languages=[es, sv]"))
    assert read_held_out(tmp_path / "run") is None and not (tmp_path / "run" / HELD_OUT).exists()


def spanish(*numbers: int) -> list[Prompt]:
    return [Prompt(index=number, id=f"es-{number}", language="es", text=f"¿Pregunta {number}?") for number in numbers]


def test_the_score_leaves_answers_without_a_word_out_of_the_rpr() -> None:
    prompts = spanish(*range(120))
    questions = HeldOutQuestions(prompts, "confusion")
    assert questions.samples == 1
    clean, confused = "La ciudad es muy bonita.", "La ciudad es bonita. I am sorry for the confusion, it is a city."
    score = questions.score([clean] * 60 + [confused] * 20 + [""] * 20 + ["42"] * 20)
    assert (score.answers, score.empty, score.rpr) == (120, 40, 0.75)
    low, high = score.rpr_interval
    assert 0.6 < low < 0.75 < high < 0.9 and 0 < score.wpr < 1
    assert score.clean_length == len(clean)
    kept = questions.clean_answers([clean] * 60 + [confused] * 20 + [""] * 20 + ["42"] * 20)
    assert [answer.prompt for answer in kept] == [prompt.text for prompt in prompts[:40]]


@pytest.mark.parametrize(("count", "samples"), [(1, 8), (15, 8), (16, 8), (40, 3), (119, 2), (120, 1), (500, 1)])
def test_few_questions_get_several_answers_each(count: int, samples: int) -> None:
    questions = HeldOutQuestions(spanish(*range(count)), "neutral")
    assert questions.samples == samples
    answers = ["La ciudad es muy bonita."] * (count * samples)
    assert questions.score(answers).answers == count * samples and questions.score(answers).rpr == 1.0


def test_without_a_single_word_nothing_passes() -> None:
    score = HeldOutQuestions(spanish(0), "neutral").score([""] * 8)
    assert (score.rpr, score.rpr_interval, score.wpr, score.empty, score.clean_length) == (0.0, (0.0, 1.0), 1.0, 8, 0.0)
