"""vLLM against transformers on the same weights: the same candidate sets, the same answers from the same seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.engine import SampleRequest, TokenEngine
from actors.hf_engine import TransformersEngine
from actors.tasks import Candidates, Draw, Extend, Sample, Task, drive
from actors.vllm_engine import VLLMEngine
from tests.tiny import VOCABULARY
from tlpo_ray.config.run import ModelConfig, RolloutConfig
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
    vllm, oracle = (
        VLLMEngine(model_config(folder), ROLLOUT, seed=0),
        TransformersEngine(model_config(folder), ROLLOUT),
    )
    yield folder, vllm, oracle
    vllm.close()
    oracle.close()


def requests(temperature: float = 0.6) -> list[SampleRequest]:
    return [
        SampleRequest(prompt_ids=ids, max_new_tokens=24, temperature=temperature, seed=i)
        for i, ids in enumerate(CONTEXTS)
    ]


def changed_weights(folder: Path) -> list[Bucket]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(7)
    moved = (
        (name, to_wire(value + 0.1 * torch.randn(value.shape, generator=generator)))
        for name, value in model.named_parameters()
    )
    return list(in_buckets(moved, 50_000))


def assert_same_candidates(one: TokenEngine, other: TokenEngine, contexts: Sequence[Sequence[int]]) -> None:
    for found, expected in zip(one.candidates(contexts, N), other.candidates(contexts, N + 1), strict=True):
        logp = dict(zip(expected.token_ids.tolist(), expected.logp.tolist(), strict=True))
        assert len(found.token_ids) == len(set(found.token_ids.tolist())) == N
        assert np.all(np.diff(found.logp) <= 0)
        # As sets where ties allow: a token of the oracle's first 17 may stand in for one that is equally probable.
        np.testing.assert_allclose([logp[token] for token in found.token_ids.tolist()], found.logp, atol=1e-4)
        np.testing.assert_allclose(found.logp, expected.logp[:N], atol=1e-4)


def test_candidate_sets_and_answers_agree_before_and_after_a_weight_sync(
    engines: tuple[Path, TokenEngine, TokenEngine],
) -> None:
    folder, vllm, oracle = engines
    assert vllm.eos_ids == oracle.eos_ids
    before = vllm.sample(requests())
    assert_same_candidates(vllm, oracle, CONTEXTS)
    assert before == oracle.sample(requests())
    assert vllm.extend(CONTEXTS, K) == oracle.extend(CONTEXTS, K)

    for engine in (vllm, oracle):
        engine.load_weights(changed_weights(folder), version=1)
    assert vllm.version == oracle.version == 1
    after = vllm.sample(requests())
    assert after != before
    assert_same_candidates(vllm, oracle, CONTEXTS)
    assert after == oracle.sample(requests())


def test_a_load_after_one_that_broke_off_is_whole(engines: tuple[Path, TokenEngine, TokenEngine]) -> None:
    """The learner dies while an engine loads its weights."""
    folder, vllm, oracle = engines
    whole = changed_weights(folder)

    def dies() -> Iterator[Bucket]:
        yield from whole[: len(whole) // 2]
        raise ConnectionError("the owner of the next bucket died")

    with pytest.raises(ConnectionError):
        vllm.load_weights(dies(), version=2)
    for engine in (vllm, oracle):
        engine.load_weights(whole, version=2)
    assert_same_candidates(vllm, oracle, CONTEXTS)


def test_an_answer_depends_on_its_seed_and_not_on_its_neighbours(
    engines: tuple[Path, TokenEngine, TokenEngine],
) -> None:
    _, vllm, oracle = engines
    for engine in (vllm, oracle):
        together = engine.sample(requests())
        assert [engine.sample([request])[0] for request in requests()[:6]] == together[:6]
        assert engine.sample(list(reversed(requests()))) == list(reversed(together))


def test_a_watch_stops_an_answer_at_once_and_no_other(engines: tuple[Path, TokenEngine, TokenEngine]) -> None:
    _, vllm, oracle = engines
    free = vllm.sample(requests())
    for engine in (vllm, oracle):
        lengths = [0] * len(CONTEXTS)

        def watch(number: int, new_ids: Sequence[int], lengths: list[int] = lengths) -> bool:
            lengths[number] += len(new_ids)
            return number % 2 == 0 and lengths[number] == 3

        stopped = engine.sample(requests(), watch)
        assert stopped[1::2] == free[1::2]
        assert stopped[0::2] == [answer[:3] for answer in free[0::2]]


def test_tasks_that_ask_again_get_on_the_engine_what_they_get_in_rounds(
    engines: tuple[Path, TokenEngine, TokenEngine],
) -> None:
    """Of each context: an answer, then two candidate sets in its middle, then where the best of them lead."""
    _, vllm, oracle = engines

    def task(request: SampleRequest) -> Task[tuple[list[int], list[int], list[list[int]]]]:
        answer = yield Sample(request=request)
        if sum(answer) % 3 == 0:
            return answer, [], []
        context = (*request.prompt_ids, *answer[: len(answer) // 2])
        chosen = yield Candidates(context=context, n=4)
        drawn = yield Draw(context=context, n=2, seed=0)  # which ones: the engines have generators of their own
        assert len(set(drawn.token_ids.tolist())) == 2
        ids = chosen.token_ids.tolist()
        tails = yield Extend(contexts=[(*context, token) for token in ids[: sum(answer) % 5]], k=K)
        return answer, ids, tails

    found, expected = (drive(engine, [task(request) for request in requests()]) for engine in (vllm, oracle))
    assert found == expected
    assert {len(tails) for _, _, tails in found} >= {0, 1, 2, 3, 4}, "every number of continuations, none too"


def test_room_in_the_context_is_never_exceeded(engines: tuple[Path, TokenEngine, TokenEngine]) -> None:
    _, vllm, oracle = engines
    long = [tuple([5] * 62), tuple([5] * 63), tuple([5] * 64)]
    for engine in (vllm, oracle):
        assert [len(tail) for tail in engine.extend(long, K)] == [len(tail) for tail in oracle.extend(long, K)]
        assert all(len(context) + len(tail) <= 64 for context, tail in zip(long, engine.extend(long, K), strict=True))


def test_multinomial_candidates_are_distinct_and_carry_their_probabilities(
    engines: tuple[Path, TokenEngine, TokenEngine],
) -> None:
    _, vllm, oracle = engines
    full = oracle.candidates(CONTEXTS, VOCABULARY)
    for engine in (vllm, oracle):
        drawn = engine.draw(CONTEXTS, N, list(range(len(CONTEXTS))))
        assert any(set(d.token_ids.tolist()) != set(f.token_ids[:N].tolist()) for d, f in zip(drawn, full, strict=True))
        for one, everything in zip(drawn, full, strict=True):
            logp = dict(zip(everything.token_ids.tolist(), everything.logp.tolist(), strict=True))
            assert len(set(one.token_ids.tolist())) == N
            np.testing.assert_allclose([logp[token] for token in one.token_ids.tolist()], one.logp, atol=1e-4)
