"""A rollout worker on a tiny model that mixes scripts at random."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import detectors
from actors.chat import load_tokenizer, prompt_ids
from actors.engine import TokenEngine
from actors.hf_engine import TransformersEngine
from actors.token_bytes import TokenBytes
from actors.worker import MISHAPS, TOO_LONG, RolloutWorker
from tlpo_ray.config.run import DetectorConfig, ModelConfig, RolloutConfig
from tlpo_ray.flow.records import Outcome, Prompt, RolloutReport

SEED = 3
QUESTIONS = (
    ("ko", "일본의 통화는 무엇입니까?"),
    ("ja", "日本の通貨は何ですか。"),
    ("zh", "泰国的货币是什么？"),
    ("ar", "ما هي عملة اليابان؟"),
)
PROMPTS = [
    Prompt(index=number, id=f"p{number}", language=language, text=text)
    for number, (language, text) in enumerate(QUESTIONS * 6)
]
TOO_LONG_PROMPT = Prompt(index=99, id="long", language="ko", text="통화 " * 200)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> ModelConfig:
    return ModelConfig(path=str(tiny_model), dtype="float32", max_context=96)


@pytest.fixture(scope="module")
def engine(model: ModelConfig) -> TokenEngine:
    return TransformersEngine(model, RolloutConfig(max_new_tokens=24))


def worker(engine: TokenEngine, model: ModelConfig, **settings: object) -> RolloutWorker:
    rollout = RolloutConfig(engine="transformers", max_new_tokens=24, **settings)  # type: ignore[arg-type]
    return RolloutWorker(engine, model, rollout, DetectorConfig(), SEED)


@pytest.fixture(scope="module")
def report(engine: TokenEngine, model: ModelConfig) -> RolloutReport:
    return worker(engine, model).step([*PROMPTS, TOO_LONG_PROMPT])


def test_every_prompt_has_one_outcome_and_every_confused_one_a_group(report: RolloutReport) -> None:
    outcomes = {result.prompt_index: result for result in report.results}
    assert sorted(outcomes) == [*range(len(PROMPTS)), 99]
    assert (outcomes[99].outcome, outcomes[99].reason) == (Outcome.SKIPPED, TOO_LONG)
    confused = [index for index, result in outcomes.items() if result.outcome is Outcome.CONFUSED]
    assert len(confused) > len(PROMPTS) // 2, "a random model is confused"
    assert sorted(group.prompt_index for group in report.groups) == sorted(confused)
    assert all(group.informative for group in report.groups)


def test_a_group_is_prompt_and_clean_answer_up_to_c(report: RolloutReport, model: ModelConfig) -> None:
    tokenizer = load_tokenizer(model)
    table = TokenBytes(tokenizer)
    for group in report.groups:
        prompt = PROMPTS[group.prompt_index]
        assert group.context_ids[: group.prompt_length].tolist() == prompt_ids(tokenizer, model, prompt.text)
        before = table.join(group.context_ids[group.prompt_length :].tolist())
        # The first confused character begins at or after the end of y_<c, and no confusion lies before it.
        assert len(before) <= len(group.response[: group.span_start].encode("utf-8", "surrogateescape"))
        assert detectors.find(before.decode("utf-8", "surrogateescape"), detectors.profile(prompt.language)) is None
        assert detectors.find(group.response, detectors.profile(prompt.language)) is not None
        assert group.sampling_version == group.probing_version == report.version


def test_candidates_are_the_most_probable_tokens_untempered(report: RolloutReport, engine: TokenEngine) -> None:
    found = engine.candidates([group.context_ids.tolist() for group in report.groups], 16)
    for group, expected in zip(report.groups, found, strict=True):
        np.testing.assert_allclose(group.old_logp, expected.logp, atol=1e-5)
        assert set(group.candidate_ids.tolist()) == set(expected.token_ids.tolist())


def test_rewards_are_what_the_detector_says_of_the_lookaheads(report: RolloutReport, model: ModelConfig) -> None:
    table = TokenBytes(load_tokenizer(model))
    for group in report.groups:
        profile = detectors.profile(group.language)
        left = table.text(group.context_ids[group.prompt_length :].tolist())
        for text, reward in zip(group.lookaheads, group.rewards, strict=True):
            if "\ufffd" not in left + text:
                assert (reward == -1) == (detectors.find(text, profile, prefix=left) is not None)


def test_the_same_seed_gives_the_same_report_whatever_the_lot(
    report: RolloutReport, engine: TokenEngine, model: ModelConfig
) -> None:
    again = worker(engine, model)
    parts = [again.step(PROMPTS[start : start + 5]) for start in range(0, len(PROMPTS), 5)]
    groups = [group for part in parts for group in part.groups]
    assert [group.response for group in groups] == [group.response for group in report.groups]
    assert all(
        one.candidate_ids.tolist() == other.candidate_ids.tolist() and one.rewards.tolist() == other.rewards.tolist()
        for one, other in zip(groups, report.groups, strict=True)
    )


def test_generation_stops_at_the_confusion_point(report: RolloutReport) -> None:
    """What is sampled beyond c only completes the character or shows that a word is foreign."""
    assert report.tokens_discarded == 0
    assert report.tokens_generated < 24 * len(PROMPTS)


def test_n_and_selection_are_configuration(engine: TokenEngine, model: ModelConfig) -> None:
    groups = (
        worker(engine, model, num_candidates=4, selection="multinomial", lookahead_tokens=0).step(PROMPTS[:8]).groups
    )
    assert groups
    assert {len(group.candidate_ids) for group in groups} == {4}


def test_whole_answers_for_evaluation(engine: TokenEngine, model: ModelConfig) -> None:
    answers = worker(engine, model).answers([*PROMPTS[:2], TOO_LONG_PROMPT], 3, 0.6, 10, seed=1)
    assert [(a.prompt_index, a.sample) for a in answers] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert all(a.finished == (len(a.token_ids) < 10) for a in answers)
    assert len({a.text for a in answers}) > 1


class Picky:
    """A detector that cannot read one prompt's answers."""

    version = "picky"

    def __init__(self) -> None:
        self.inner = detectors.profile("ko")

    def find(self, text: str, prefix: str = "", final: bool = True) -> detectors.Confusion | None:
        if text:
            raise ValueError("cannot read this")
        return None


def test_a_prompt_on_which_a_detector_raises_is_skipped_and_told_of(
    report: RolloutReport, engine: TokenEngine, model: ModelConfig
) -> None:
    found = worker(engine, model)
    found._detectors["xx"] = Picky()
    step = found.step([Prompt(index=50, id="bad", language="xx", text="?"), PROMPTS[1]])
    bad, other = step.results
    assert (bad.prompt_index, bad.outcome) == (50, Outcome.SKIPPED)
    assert re.fullmatch(r"its rollout raised ValueError in test_worker\.py:\d+", bad.reason), (
        "where, but not what was read"
    )
    assert other in report.results


def test_a_detector_that_raises_again_and_again_spoils_its_own_lot_only(
    report: RolloutReport, engine: TokenEngine, model: ModelConfig
) -> None:
    found = worker(engine, model)
    found._detectors["xx"] = Picky()
    poison = [Prompt(index=50 + n, id=f"bad {n}", language="xx", text="?") for n in range(MISHAPS + 1)]
    bad = found.begin([*poison, PROMPTS[1]])
    good = found.begin([PROMPTS[0], PROMPTS[2]])
    while not good.done:
        found.turn()
    assert [group.response for group in found.finish(good).groups] == [
        group.response for group in report.groups if group.prompt_index in (0, 2)
    ]
    told = r"^its rollout raised ValueError in test_worker\.py:\d+$"
    with pytest.raises(RuntimeError, match=told):
        while not bad.done:
            found.turn()
