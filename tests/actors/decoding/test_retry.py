"""Retries: the first attempt is the plain answer; confused tokens are taken back one by one; the account adds up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import detectors
from actors.decoding.retry import MAX_AT_ONE_PLACE, RetriedAnswer, sample_with_retries
from actors.requests import SampleRequest
from actors.token_bytes import TokenBytes
from tests.vocabularies import byte_level
from tlpo_ray.cluster.progress import WorkClock

KOREAN, FOREIGN = "의 통화는", "гривня"


class Model:
    """Answers requests from a list of texts in order of preference, leaving out those whose first token is banned."""

    def __init__(self, tokenizer: Any, preferences: Sequence[str], *, stops: bool = True) -> None:
        self.requests: list[SampleRequest] = []
        self._answers = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in preferences]

    def answer(self, request: SampleRequest) -> list[int]:
        self.requests.append(request)
        left = [ids for ids in self._answers if not ids or ids[0] not in request.banned_ids]
        wanted = left[0] if left else []
        answer: list[int] = []
        for token in wanted[: request.max_new_tokens]:
            answer.append(token)
            if request.stop_condition is not None and request.stop_condition([token]):
                break
        return answer


def retried(model: Model, max_retries: int = 64, max_new_tokens: int = 40) -> RetriedAnswer:
    request = SampleRequest(prompt_ids=(1, 2), max_new_tokens=max_new_tokens, temperature=1.0, seed=7)
    coroutine = sample_with_retries(
        request, detectors.language("ko"), TokenBytes(byte_level()), (), max_retries, WorkClock()
    )
    result: Any = None
    while True:
        try:
            wanted = coroutine.send(result)
        except StopIteration as end:
            value: RetriedAnswer = end.value
            return value
        result = model.answer(wanted)


def test_a_clean_answer_is_the_plain_one() -> None:
    model = Model(byte_level(), [KOREAN])
    answer = retried(model)
    assert answer.retries == 0
    assert answer.tokens_sampled == len(answer.token_ids)
    assert [(request.seed, request.banned_ids) for request in model.requests] == [(7, frozenset())]


def test_the_confused_token_is_replaced_and_the_rest_sampled_on() -> None:
    model = Model(byte_level(), [f" {FOREIGN}", KOREAN])
    answer = retried(model)
    text = TokenBytes(byte_level()).text(answer.token_ids)
    assert detectors.find(text, detectors.language("ko")) is None
    assert answer.retries >= 1
    assert answer.tokens_sampled > len(answer.token_ids)
    assert all(request.max_new_tokens <= 40 for request in model.requests)
    assert len({request.seed for request in model.requests}) == len(model.requests)


def test_retries_end_at_their_limit_with_the_answer_as_it_is() -> None:
    model = Model(byte_level(), [f" {FOREIGN}"] * 3 + [f"{letter}{FOREIGN}" for letter in "гдежзийкл"])
    answer = retried(model, max_retries=2)
    assert answer.retries == 2
    assert answer.tokens_sampled >= len(answer.token_ids)


def test_where_every_token_is_confused_what_comes_before_is_taken_back_too() -> None:
    tokenizer = byte_level()

    class Stubborn(Model):
        def answer(self, request: SampleRequest) -> list[int]:
            self.requests.append(request)
            if len(request.prompt_ids) == 2 and not request.banned_ids:
                return [korean, next(iter(foreign))]
            if len(request.prompt_ids) == 2:
                return [other][: request.max_new_tokens]
            if request.prompt_ids[2] == other:
                return []
            return [next(token for token in foreign if token not in request.banned_ids)]

    token_bytes = TokenBytes(tokenizer)
    detector = detectors.language("ko")
    texts = {token: token_bytes[token].decode(errors="replace") for token in range(len(tokenizer))}
    korean, other = (token for token, text in texts.items() if text in ("의", "는"))
    foreign = [
        token for token, text in texts.items() if detectors.find(f"의 {text.strip()}입니다", detector) is not None
    ]
    foreign = [token for token in foreign if token_bytes[token].startswith(b" ") or len(texts[token]) >= 2]
    assert len(foreign) > MAX_AT_ONE_PLACE
    answer = retried(Stubborn(tokenizer, []))
    assert answer.token_ids[:1] == [other]
    assert answer.retries > MAX_AT_ONE_PLACE


@pytest.mark.parametrize("max_new_tokens", [1, 2, 3])
def test_an_answer_never_grows_beyond_its_limit(max_new_tokens: int) -> None:
    answer = retried(Model(byte_level(), [f" {FOREIGN}", KOREAN]), max_new_tokens=max_new_tokens)
    assert len(answer.token_ids) <= max_new_tokens
