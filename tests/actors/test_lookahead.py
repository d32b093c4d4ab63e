"""Rewards: where each candidate leads, judged in its left context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import detectors
from actors.confusion import ConfusionPoint
from actors.lookahead import Judge
from actors.rollout import Rollout
from actors.token_bytes import TokenBytes
from tests.vocabularies import byte_level
from tlpo_ray.flow.records import Prompt

TOKENIZER = byte_level()
TABLE = TokenBytes(TOKENIZER)


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def judge(left: Sequence[int], language: str = "ko", english: detectors.English = "neutral") -> Judge:
    found = detectors.Confusion(index=0, end=1, text="", script="")
    rollout = Rollout(
        prompt=Prompt(index=0, id="p", language=language, text=""),
        prompt_ids=(),
        token_ids=(*left, 0),
        point=ConfusionPoint(token=len(left), last_token=len(left), found=found, response=""),
    )
    return Judge(rollout, TABLE, detectors.profile(language, english))


def rewards(left: str, texts: Sequence[str], **kind: str) -> list[float]:
    return judge(ids(left), **kind).rewards([ids(text) for text in texts]).rewards.tolist()  # type: ignore[arg-type]


def test_a_confused_character_in_the_candidate_or_its_lookahead_costs_the_reward() -> None:
    assert rewards("통화는 ", ["엔입니다", "гривня", "엔 гр", " yen", ""]) == [1, -1, -1, 1, 1]


def test_an_unfinished_last_character_is_no_evidence() -> None:
    half = [token for token in range(len(TOKENIZER)) if TABLE[token] == "г".encode()[:1]]
    assert judge(ids("통화는 ")).rewards([half, ids("г")]).rewards.tolist() == [1, -1]


def test_a_character_that_is_open_at_c_is_finished_by_the_candidate() -> None:
    first, second = (
        next(t for t in range(len(TOKENIZER)) if TABLE[t] == bytes([byte])) for byte in "г".encode()
    )  # fmt: skip
    hangul = [next(t for t in range(len(TOKENIZER)) if TABLE[t] == bytes([byte])) for byte in "엔".encode()]
    assert judge([*ids("통화는 "), first]).rewards([[second]]).rewards.tolist() == [-1]
    assert judge([*ids("통화는 "), *hangul[:2]]).rewards([[hangul[2]]]).rewards.tolist() == [1]


def test_the_left_context_decides_what_a_fragment_is() -> None:
    """English is confusion here: alone, the end of an URL or of a capitalised word would be."""
    strict = {"english": "confusion"}
    assert rewards("자세히: https://exam", ["ple"], **strict) == [1]
    assert rewards("언어는 Pyth", ["on 입니다"], **strict) == [1]
    assert rewards("속도는 12 ", ["km/h 입니다"], **strict) == [1]
    assert rewards("그 말은 ", ["wrong 입니다"], **strict) == [-1]


def test_certain_means_that_no_lookahead_is_needed() -> None:
    at = judge(ids("통화는 "))
    assert at.certain(ids("гривня"))
    assert not at.certain(ids("엔"))
    longer = np.asarray(at.rewards([ids("гривня") + ids("입니다"), ids("гривня")]).rewards)
    assert (longer == -1).all()
