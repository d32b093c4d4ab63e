"""A rollout worker on a tiny random model, which mixes scripts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import detectors
from actors.chat import TOO_LONG, prompt_ids
from actors.engine import EngineOptions, TokenEngine, run_all
from actors.hf_engine import TransformersEngine
from actors.requests import TopKRequest
from actors.token_bytes import TokenBytes
from actors.worker import MAX_FAILURES, RolloutWorker
from tests.tiny import VOCABULARY
from tlpo_ray.config.detector import DetectorConfig, SegmentsConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.errors import WeightSyncError
from tlpo_ray.flow.records import Outcome, Prompt, RolloutReport
from tlpo_ray.flow.tokenizer import load_tokenizer
from tlpo_ray.flow.weights import Canary

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
    return TransformersEngine(model, RolloutConfig(max_new_tokens=24), EngineOptions())


def worker(engine: TokenEngine, model: ModelConfig, **settings: object) -> RolloutWorker:
    rollout = RolloutConfig(engine="transformers", max_new_tokens=24, **settings)  # type: ignore[arg-type]
    return RolloutWorker(engine, model, rollout, DetectorConfig(), SEED)


@pytest.fixture(scope="module")
def report(engine: TokenEngine, model: ModelConfig) -> RolloutReport:
    return worker(engine, model).run_batch([*PROMPTS, TOO_LONG_PROMPT])


def test_every_prompt_has_one_outcome_and_every_confused_one_a_group(report: RolloutReport) -> None:
    outcomes = {result.prompt_index: result for result in report.results}
    assert sorted(outcomes) == [*range(len(PROMPTS)), 99]
    assert (outcomes[99].outcome, outcomes[99].reason) == (Outcome.SKIPPED, TOO_LONG)
    confused = [index for index, result in outcomes.items() if result.outcome is Outcome.CONFUSED]
    assert len(confused) > len(PROMPTS) // 2, "a random model is confused"
    assert sorted(group.prompt_index for group in report.groups) == sorted(confused)
    assert all(group.informative for group in report.groups)


def test_a_group_is_prompt_and_clean_answer_up_to_c(
    report: RolloutReport, engine: TokenEngine, model: ModelConfig
) -> None:
    tokenizer = load_tokenizer(model)
    table = TokenBytes(tokenizer)
    for group in report.groups:
        prompt = PROMPTS[group.prompt_index]
        assert group.context_ids[: group.prompt_length].tolist() == prompt_ids(tokenizer, model, prompt.text)
        before = table.join(group.context_ids[group.prompt_length :].tolist())
        # The first confused character begins at or after the end of y_<c, and no confusion is before it.
        assert len(before) <= len(group.response[: group.span_start].encode("utf-8", "surrogateescape"))
        assert detectors.find(before.decode("utf-8", "surrogateescape"), detectors.language(prompt.language)) is None
        assert detectors.find(group.response, detectors.language(prompt.language)) is not None
        assert group.sampling_version == engine.version


def test_candidates_are_the_most_probable_tokens_untempered(report: RolloutReport, engine: TokenEngine) -> None:
    requests = [TopKRequest(context_ids=group.context_ids.tolist(), n=16) for group in report.groups]
    for group, expected in zip(report.groups, run_all(engine, requests), strict=True):
        np.testing.assert_allclose(group.old_logp, expected.logp, atol=1e-5)
        assert set(group.candidate_ids.tolist()) == set(expected.token_ids.tolist())


def test_rewards_match_the_detector_on_the_lookaheads(report: RolloutReport, model: ModelConfig) -> None:
    table = TokenBytes(load_tokenizer(model))
    for group in report.groups:
        detector = detectors.language(group.language)
        left = table.text(group.context_ids[group.prompt_length :].tolist())
        for text, reward in zip(group.lookaheads, group.rewards, strict=True):
            if "\ufffd" not in left + text:
                assert (reward == -1) == (detectors.find(text, detector, prefix=left) is not None)


def test_the_same_seed_gives_the_same_report_for_any_batch_size(
    report: RolloutReport, engine: TokenEngine, model: ModelConfig
) -> None:
    again = worker(engine, model)
    parts = [again.run_batch(PROMPTS[start : start + 5]) for start in range(0, len(PROMPTS), 5)]
    groups = [group for part in parts for group in part.groups]
    assert [group.response for group in groups] == [group.response for group in report.groups]
    assert all(
        one.candidate_ids.tolist() == other.candidate_ids.tolist() and one.rewards.tolist() == other.rewards.tolist()
        for one, other in zip(groups, report.groups, strict=True)
    )


def test_generation_stops_once_the_confusion_is_certain(report: RolloutReport, model: ModelConfig) -> None:
    """Tokens sampled beyond c complete the character, show that a word is foreign, or that a sign is no face."""
    table = TokenBytes(load_tokenizer(model))
    longest = max(len(table[token].decode(errors="replace")) for token in range(VOCABULARY))
    for group in report.groups:
        stream = detectors.Stream(detectors.language(group.language))
        certain = next((at for at, char in enumerate(group.response) if stream.feed(char) is not None), None)
        assert certain is None or len(group.response) - certain <= longest
    assert report.stats.tokens_discarded < len(report.groups)
    assert report.stats.tokens_generated < 24 * len(PROMPTS)


def test_n_and_selection_are_settings(engine: TokenEngine, model: ModelConfig) -> None:
    groups = (
        worker(engine, model, num_candidates=4, selection="multinomial", lookahead_tokens=0)
        .run_batch(PROMPTS[:8])
        .groups
    )
    assert groups
    assert {len(group.candidate_ids) for group in groups} == {4}


def test_the_sampled_token_can_be_made_a_candidate(engine: TokenEngine, model: ModelConfig) -> None:
    """With N = 2 it is rarely one by itself, and both candidates are often clean: no signal."""
    hot = {"num_candidates": 2, "temperature": 2.0}
    ranked = worker(engine, model, selection="ranked", **hot).run_batch(PROMPTS)
    with_sampled = worker(engine, model, selection="ranked_with_sampled", **hot).run_batch(PROMPTS)
    gained = {group.prompt_index: group for group in with_sampled.groups}.keys() - {
        group.prompt_index for group in ranked.groups
    }
    assert gained
    for group in with_sampled.groups:
        assert group.old_logp[0] > group.old_logp[1]
        if group.prompt_index in gained:
            assert group.rewards.tolist() == [1, -1]
            assert detectors.find(group.lookaheads[1], detectors.language(group.language)) is not None


def test_complete_answers_for_evaluation(engine: TokenEngine, model: ModelConfig) -> None:
    completions = worker(engine, model).generate([*PROMPTS[:2], TOO_LONG_PROMPT], 3, 0.6, 10, seed=1)
    assert [(c.prompt_index, c.sample) for c in completions] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert all(c.finished == (len(c.token_ids) < 10) for c in completions)
    assert len({c.text for c in completions}) > 1


class Unreadable:
    """A detector that raises for every answer."""

    version = "unreadable"

    def find(self, text: str, prefix: str = "", final: bool = True) -> detectors.Finding | None:
        if text:
            raise ValueError("cannot read this")
        return None


def worker_with_a_failing_detector(engine: TokenEngine, model: ModelConfig) -> RolloutWorker:
    """Return a worker on which answers in the language "xx" fail."""
    failing = worker(engine, model)
    failing._detectors._built["xx"] = Unreadable()
    return failing


def test_a_prompt_whose_detector_raises_is_skipped_and_reported(
    report: RolloutReport, engine: TokenEngine, model: ModelConfig
) -> None:
    failing = worker_with_a_failing_detector(engine, model)
    bad, other = failing.run_batch([Prompt(index=50, id="bad", language="xx", text="?"), PROMPTS[1]]).results
    assert (bad.prompt_index, bad.outcome) == (50, Outcome.SKIPPED)
    assert re.fullmatch(r"its rollout raised ValueError in test_worker\.py:\d+", bad.reason), (
        "the place of the error, but not the text that caused it"
    )
    assert other in report.results


def test_a_detector_that_always_raises_fails_its_own_batch_only(
    report: RolloutReport, engine: TokenEngine, model: ModelConfig
) -> None:
    failing = worker_with_a_failing_detector(engine, model)
    prompts = [Prompt(index=50 + n, id=f"bad {n}", language="xx", text="?") for n in range(MAX_FAILURES + 1)]
    bad = failing.begin_batch([*prompts, PROMPTS[1]])
    good = failing.begin_batch([PROMPTS[0], PROMPTS[2]])
    while not good.done:
        failing.step()
    assert [group.response for group in failing.finish_batch(good).groups] == [
        group.response for group in report.groups if group.prompt_index in (0, 2)
    ]
    with pytest.raises(RuntimeError, match=r"^its rollout raised ValueError in test_worker\.py:\d+$"):
        while not bad.done:
            failing.step()


def canary_of(engine: TokenEngine, shift: float = 0.0) -> Canary:
    """Return what a learner with the engine's weights would send, with log-probabilities shifted by some nats."""
    context = (5, 17, 40)
    (best,) = run_all(engine, [TopKRequest(context_ids=context, n=8)])
    logp = tuple(value + shift for value in best.logp.tolist())
    return Canary(context_ids=context, token_ids=tuple(best.token_ids.tolist()), logp=logp)


def test_a_canary_is_generated_beside_a_batch(engine: TokenEngine, model: ModelConfig) -> None:
    checked = worker(engine, model)
    assert checked.begin_canary_check(tolerance=0.01).done, "a run without prompts has no canary"
    checked._canary = canary_of(engine)
    batch, check = checked.begin_batch(PROMPTS[:4]), checked.begin_canary_check(tolerance=0.01)
    assert not check.done
    while not (batch.done and check.done):
        checked.step()
    assert len(checked.finish_batch(batch).results) == 4


def test_a_canary_that_differs_from_the_learners_is_an_error(engine: TokenEngine, model: ModelConfig) -> None:
    checked = worker(engine, model)
    checked._canary = canary_of(engine, shift=0.5)
    check = checked.begin_canary_check(tolerance=0.01)
    checked.step()
    with pytest.raises(WeightSyncError, match=r"differ from the learner's by 0\.5 nats \(allowed 0\.01\)"):
        _ = check.done


@pytest.mark.parametrize(
    ("segments", "part"), [(None, "answer"), (SegmentsConfig(), "thoughts")], ids=["as one text", "parts"]
)
def test_the_part_that_an_answer_begins_in_is_looked_for_where_parts_are_judged(
    engine: TokenEngine, model: ModelConfig, segments: SegmentsConfig | None, part: str
) -> None:
    thinking = model.model_copy(update={"prompt_template": "{prompt}\n<think>\n"})
    rollout = RolloutConfig(engine="transformers", max_new_tokens=4)
    of_run = RolloutWorker(engine, thinking, rollout, DetectorConfig(segments=segments), SEED)
    (completion,) = of_run.generate(PROMPTS[:1], 1, 0.0, 2, seed=0)
    assert completion.begins_in == part
