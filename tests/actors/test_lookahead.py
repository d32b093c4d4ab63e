"""Rewards of candidates: their lookaheads are judged in their left context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import detectors
from actors.confusion import ConfusionPoint
from actors.lookahead import CandidateScorer
from actors.rollout import Rollout
from actors.token_bytes import TokenBytes
from tests.vocabularies import byte_level
from tlpo_ray.flow.records import Prompt

TOKENIZER = byte_level()
TABLE = TokenBytes(TOKENIZER)


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def scorer_after(left: Sequence[int], language: str = "ko", english: detectors.English = "neutral") -> CandidateScorer:
    finding = detectors.Finding(start=0, end=1, text="", kind="")
    rollout = Rollout(
        prompt=Prompt(index=0, id="p", language=language, text=""),
        prompt_ids=(),
        token_ids=(*left, 0),
        point=ConfusionPoint(token=len(left), last_token=len(left), finding=finding, response=""),
    )
    return CandidateScorer(rollout, TABLE, detectors.language(language, english))


def rewards(left: str, texts: Sequence[str], **kind: str) -> list[float]:
    return scorer_after(ids(left), **kind).scores([ids(text) for text in texts]).rewards.tolist()  # type: ignore[arg-type]


def test_a_confused_character_in_candidate_or_lookahead_makes_the_reward_negative() -> None:
    assert rewards("통화는 ", ["엔입니다", "гривня", "엔 гр", " yen", ""]) == [1, -1, -1, 1, 1]


def test_an_unfinished_last_character_is_not_evidence() -> None:
    half = [token for token in range(len(TOKENIZER)) if TABLE[token] == "г".encode()[:1]]
    assert scorer_after(ids("통화는 ")).scores([half, ids("г")]).rewards.tolist() == [1, -1]


def test_a_character_that_began_before_c_is_judged_with_the_candidate() -> None:
    first, second = (
        next(t for t in range(len(TOKENIZER)) if TABLE[t] == bytes([byte])) for byte in "г".encode()
    )  # fmt: skip
    hangul = [next(t for t in range(len(TOKENIZER)) if TABLE[t] == bytes([byte])) for byte in "엔".encode()]
    assert scorer_after([*ids("통화는 "), first]).scores([[second]]).rewards.tolist() == [-1]
    assert scorer_after([*ids("통화는 "), *hangul[:2]]).scores([[hangul[2]]]).rewards.tolist() == [1]


def test_the_left_context_decides_about_a_fragment() -> None:
    """English is confusion here; without context, the end of a URL or of a capitalised word would be."""
    strict = {"english": "confusion"}
    assert rewards("자세히: https://exam", ["ple"], **strict) == [1]
    assert rewards("언어는 Pyth", ["on 입니다"], **strict) == [1]
    assert rewards("속도는 12 ", ["km/h 입니다"], **strict) == [1]
    assert rewards("그 말은 ", ["wrong 입니다"], **strict) == [-1]


def test_a_certain_confusion_needs_no_lookahead() -> None:
    at = scorer_after(ids("통화는 "))
    assert at.is_certain(ids("гривня"))
    assert not at.is_certain(ids("엔"))
    longer = np.asarray(at.scores([ids("гривня") + ids("입니다"), ids("гривня")]).rewards)
    assert (longer == -1).all()
