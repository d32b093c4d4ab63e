"""vLLM against transformers on the same weights: equal candidate sets, and equal answers from equal seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.coroutine import RolloutCoroutine, run_coroutines
from actors.engine import BroadcastEngine, EngineOptions, SleepingEngine, TokenEngine, run_all
from actors.hf_engine import TransformersEngine
from actors.requests import CandidateSet, GreedyRequest, MultinomialRequest, SampleRequest, TopKRequest
from actors.vllm_engine import VLLMEngine
from tests.tiny import VOCABULARY
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.weights import Bucket, in_buckets, to_wire

pytestmark = pytest.mark.slow

N, K = 16, 3
CONTEXTS = [
    tuple(np.random.default_rng(i).integers(3, VOCABULARY, size=3 + i % 20).tolist()) for i in range(40)
]  # fmt: skip
ROLLOUT = RolloutConfig(kv_cache_mib=64, concurrency=16, max_new_tokens=24, selection="multinomial")


def model_config(folder: Path) -> ModelConfig:
    return ModelConfig(path=str(folder), dtype="float32", max_context=64)


@pytest.fixture(scope="module", params=["tied", "untied"])
def engines(
    request: pytest.FixtureRequest, tiny_model: Path, tiny_untied: Path
) -> Iterator[tuple[Path, TokenEngine, TokenEngine]]:
    folder = tiny_model if request.param == "tied" else tiny_untied
    vllm = VLLMEngine(model_config(folder), ROLLOUT, EngineOptions())
    oracle = TransformersEngine(model_config(folder), ROLLOUT, EngineOptions())
    yield folder, vllm, oracle
    vllm.close()
    oracle.close()


def requests(temperature: float = 0.6) -> list[SampleRequest]:
    return [
        SampleRequest(prompt_ids=ids, max_new_tokens=24, temperature=temperature, seed=i)
        for i, ids in enumerate(CONTEXTS)
    ]


def top_k(engine: TokenEngine, contexts: Sequence[Sequence[int]], n: int) -> list[CandidateSet]:
    return run_all(engine, [TopKRequest(context_ids=context, n=n) for context in contexts])


def continuations(engine: TokenEngine, contexts: Sequence[Sequence[int]]) -> list[list[int]]:
    (tails,) = run_all(engine, [GreedyRequest(contexts=contexts, max_new_tokens=K)])
    return tails


def changed_weights(folder: Path) -> list[Bucket]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(7)
    moved = (
        (name, to_wire(value + 0.1 * torch.randn(value.shape, generator=generator)))
        for name, value in model.named_parameters()
    )
    return list(in_buckets(moved, 50_000))


def assert_same_candidates(engine: TokenEngine, oracle: TokenEngine, contexts: Sequence[Sequence[int]]) -> None:
    for candidates, expected in zip(top_k(engine, contexts, N), top_k(oracle, contexts, N + 1), strict=True):
        logp = dict(zip(expected.token_ids.tolist(), expected.logp.tolist(), strict=True))
        assert len(candidates.token_ids) == len(set(candidates.token_ids.tolist())) == N
        assert np.all(np.diff(candidates.logp) <= 0)
        # As sets where ties allow: a token of the oracle's first 17 may replace one that is equally probable.
        expected_logp = [logp[token] for token in candidates.token_ids.tolist()]
        np.testing.assert_allclose(expected_logp, candidates.logp, atol=1e-4)
        np.testing.assert_allclose(candidates.logp, expected.logp[:N], atol=1e-4)


def test_the_classes_say_what_they_can_do(engines: tuple[Path, TokenEngine, TokenEngine]) -> None:
    for engine in engines[1:]:
        assert engine.supports_broadcast == isinstance(engine, BroadcastEngine)
    assert isinstance(engines[1], SleepingEngine) and not isinstance(engines[2], SleepingEngine)


def test_candidate_sets_and_answers_agree_before_and_after_a_weight_sync(
    engines: tuple[Path, TokenEngine, TokenEngine],
) -> None:
    folder, vllm, oracle = engines
    assert vllm.eos_ids == oracle.eos_ids
    before = run_all(vllm, requests())
    assert_same_candidates(vllm, oracle, CONTEXTS)
    assert before == run_all(oracle, requests())
    assert continuations(vllm, CONTEXTS) == continuations(oracle, CONTEXTS)

    for engine in (vllm, oracle):
        engine.load_weights(changed_weights(folder), version=1)
    assert vllm.version == oracle.version == 1
    after = run_all(vllm, requests())
    assert after != before
    assert_same_candidates(vllm, oracle, CONTEXTS)
    assert after == run_all(oracle, requests())


def test_a_load_after_an_interrupted_one_replaces_all_weights(engines: tuple[Path, TokenEngine, TokenEngine]) -> None:
    """The learner dies while an engine loads its weights."""
    folder, vllm, oracle = engines
    buckets = changed_weights(folder)

    def interrupted() -> Iterator[Bucket]:
        yield from buckets[: len(buckets) // 2]
        raise ConnectionError("the owner of the next bucket died")

    with pytest.raises(ConnectionError):
        vllm.load_weights(interrupted(), version=2)
    for engine in (vllm, oracle):
        engine.load_weights(buckets, version=2)
    assert_same_candidates(vllm, oracle, CONTEXTS)


def test_an_answer_depends_on_its_seed_and_not_on_its_neighbours(
    engines: tuple[Path, TokenEngine, TokenEngine],
) -> None:
    _, vllm, oracle = engines
    for engine in (vllm, oracle):
        together = run_all(engine, requests())
        assert [run_all(engine, [request])[0] for request in requests()[:6]] == together[:6]
        assert run_all(engine, list(reversed(requests()))) == list(reversed(together))


def test_a_stop_condition_stops_its_answer_at_once_and_no_other(
    engines: tuple[Path, TokenEngine, TokenEngine],
) -> None:
    _, vllm, oracle = engines
    free = run_all(vllm, requests())
    for engine in (vllm, oracle):
        lengths = [0] * len(CONTEXTS)

        def grow(number: int, new_ids: Sequence[int], lengths: list[int] = lengths) -> bool:
            lengths[number] += len(new_ids)
            return number % 2 == 0 and lengths[number] == 3

        watched = [replace(r, stop_condition=partial(grow, number)) for number, r in enumerate(requests())]
        stopped = run_all(engine, watched)
        assert stopped[1::2] == free[1::2]
        assert stopped[0::2] == [answer[:3] for answer in free[0::2]]


def test_coroutines_get_the_same_results_one_request_at_a_time_and_in_batches(
    engines: tuple[Path, TokenEngine, TokenEngine],
) -> None:
    """Each samples an answer, and requests two candidate sets in its middle and continuations of the best tokens."""
    _, vllm, oracle = engines

    def coroutine(request: SampleRequest) -> RolloutCoroutine[tuple[list[int], list[int], list[list[int]]]]:
        answer = yield request
        if sum(answer) % 3 == 0:
            return answer, [], []
        context = (*request.prompt_ids, *answer[: len(answer) // 2])
        best = yield TopKRequest(context_ids=context, n=4)
        # The tokens drawn are not compared: the engines have generators of their own.
        drawn = yield MultinomialRequest(context_ids=context, n=2, seed=0)
        assert len(set(drawn.token_ids.tolist())) == 2
        ids = best.token_ids.tolist()
        contexts = [(*context, token) for token in ids[: sum(answer) % 5]]
        tails = yield GreedyRequest(contexts=contexts, max_new_tokens=K)
        return answer, ids, tails

    on_vllm, expected = (
        run_coroutines(engine, [coroutine(request) for request in requests()]) for engine in (vllm, oracle)
    )
    assert on_vllm == expected
    assert {len(tails) for _, _, tails in on_vllm} >= {0, 1, 2, 3, 4}, "every number of continuations, even none"


def test_the_context_limit_is_never_exceeded(engines: tuple[Path, TokenEngine, TokenEngine]) -> None:
    _, vllm, oracle = engines
    long = [tuple([5] * 62), tuple([5] * 63), tuple([5] * 64)]
    for engine in (vllm, oracle):
        tails = continuations(engine, long)
        assert [len(tail) for tail in tails] == [len(tail) for tail in continuations(oracle, long)]
        assert all(len(context) + len(tail) <= 64 for context, tail in zip(long, tails, strict=True))


def test_requests_of_one_kind_may_differ_in_size(engines: tuple[Path, TokenEngine, TokenEngine]) -> None:
    """A canary may be probed together with the candidate sets of a run that has another N."""
    for engine in engines[1:]:
        sizes = [4, 16]
        sets = run_all(engine, [TopKRequest(context_ids=CONTEXTS[0], n=n) for n in sizes])
        assert [len(candidates.token_ids) for candidates in sets] == sizes


def test_a_token_of_the_tail_takes_the_last_place_with_its_own_probability(
    engines: tuple[Path, TokenEngine, TokenEngine],
) -> None:
    """Tokens among the N most probable ones, at their edge, far in the tail, and one that ends the text."""
    _, vllm, oracle = engines
    eos = next(iter(oracle.eos_ids))
    for context, full in zip(CONTEXTS, top_k(oracle, CONTEXTS, VOCABULARY), strict=True):
        ranked = full.token_ids.tolist()
        logp = dict(zip(ranked, full.logp.tolist(), strict=True))
        for include in (ranked[0], ranked[N - 1], ranked[N], ranked[-1], eos):
            expected = ranked[:N] if include in ranked[:N] else [*ranked[: N - 1], include]
            for engine in (vllm, oracle):
                (candidates,) = run_all(engine, [TopKRequest(context_ids=context, n=N, include=include)])
                assert candidates.token_ids.tolist() == expected
                np.testing.assert_allclose(candidates.logp, [logp[token] for token in expected], atol=1e-4)


def test_multinomial_candidates_are_distinct_and_carry_their_probabilities(
    engines: tuple[Path, TokenEngine, TokenEngine],
) -> None:
    _, vllm, oracle = engines
    full = top_k(oracle, CONTEXTS, VOCABULARY)
    draws = [MultinomialRequest(context_ids=context, n=N, seed=seed) for seed, context in enumerate(CONTEXTS)]
    for engine in (vllm, oracle):
        drawn = run_all(engine, draws)
        assert any(set(d.token_ids.tolist()) != set(f.token_ids[:N].tolist()) for d, f in zip(drawn, full, strict=True))
        for candidates, vocabulary in zip(drawn, full, strict=True):
            logp = dict(zip(vocabulary.token_ids.tolist(), vocabulary.logp.tolist(), strict=True))
            assert len(set(candidates.token_ids.tolist())) == N
            expected = [logp[token] for token in candidates.token_ids.tolist()]
            np.testing.assert_allclose(expected, candidates.logp, atol=1e-4)
