"""Rewards of candidates: their lookaheads are judged in their left context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import detectors
from actors.confusion import ConfusionPoint, cut_at_stop_string
from actors.lookahead import CandidateScorer, score_candidates
from actors.requests import CandidateSet, GreedyRequest
from actors.rollout import Rollout
from actors.token_bytes import TokenBytes
from tests.vocabularies import byte_level
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.records import Prompt

TOKENIZER = byte_level()
TABLE = TokenBytes(TOKENIZER)


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


END = 0
"""The end-of-text token of the scorers here."""


def scorer_after(
    left: Sequence[int],
    language: str = "ko",
    english: detectors.English = "neutral",
    stop_strings: Sequence[str] = (),
    sampled: Sequence[int] = (END,),
) -> CandidateScorer:
    finding = detectors.Finding(start=0, end=1, text="", kind="")
    rollout = Rollout(
        prompt=Prompt(index=0, id="p", language=language, text=""),
        prompt_ids=(),
        token_ids=(*left, *sampled),
        point=ConfusionPoint(token=len(left), last_token=len(left), finding=finding, response=""),
    )
    return CandidateScorer(rollout, TABLE, detectors.language(language, english), {END}, stop_strings)


def single(content: bytes) -> int:
    """Return the token with exactly these bytes."""
    return next(token for token in range(len(TOKENIZER)) if TABLE[token] == content)


def rewards(left: str, texts: Sequence[str], **kind: str) -> list[float]:
    return scorer_after(ids(left), **kind).scores([ids(text) for text in texts]).rewards.tolist()  # type: ignore[arg-type]


def test_a_confused_character_in_candidate_or_lookahead_makes_the_reward_negative() -> None:
    assert rewards("통화는 ", ["엔입니다", "гривня", "엔 гр", " yen"]) == [1, -1, -1, 1]


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
    first, second = (single(bytes([byte])) for byte in "г".encode())
    assert scorer_after([*ids("통화는 "), first]).is_decided(second)
    assert not scorer_after(ids("통화는 ")).is_decided(first), "its other byte may make it another character"
    assert not scorer_after(ids("통화는 ")).is_decided(ids("엔")[0])
    longer = np.asarray(scorer_after(ids("통화는 ")).scores([ids("гривня") + ids("입니다"), ids("гривня")]).rewards)
    assert (longer == -1).all()


def test_an_end_of_text_token_is_judged_as_nothing_and_needs_no_lookahead() -> None:
    """Also where the left context would be confused if it ended there, and where it has an unfinished character."""
    for left, english in (("통화는 ", "neutral"), ("크기는 12 by", "confusion")):
        at = scorer_after(ids(left), english=english)  # type: ignore[arg-type]
        assert at.is_decided(END)
        scores = at.scores([[END], [END, *ids("гривня")]])
        assert scores.rewards.tolist() == [1, 1]
        assert scores.lookaheads == ("", "")
    assert scorer_after([*ids("통화는 "), single("г".encode()[:1])]).scores([[END]]).lookaheads == ("",)


def test_tokens_without_bytes_do_not_end_the_answer() -> None:
    at = scorer_after(ids("통화는 "))
    for token in (END + 1, len(TOKENIZER) + 100):
        assert TABLE[token] == b""
        assert not at.is_decided(token)
        assert at.scores([[token, *ids("гривня")], [token, *ids("엔")], [token]]).rewards.tolist() == [-1, 1, 1]


def test_a_stop_string_ends_the_answer() -> None:
    at = scorer_after(ids("통화는 엔.\n"), stop_strings=["\n\n", "###"])
    newline, mark = ids("\n")[0], ids("#")[0]
    assert at.is_decided(newline), "it completes a stop string that began in the left context"
    assert not at.is_decided(mark)
    texts = ["\nгривня", "엔\n\nгривня", "엔 г###", "##엔", "엔 #", "гри"]
    scores = at.scores([ids(text) for text in texts])
    assert scores.rewards.tolist() == [1, 1, -1, 1, 1, -1]
    assert scores.lookaheads == ("", "엔", "엔 г", "##엔", "엔 #", "гри")


AUTO = RolloutConfig(lookahead="auto", lookahead_tokens=3, lookahead_limit=20)


def scored(scorer: CandidateScorer, tails: dict[str, str], config: RolloutConfig) -> tuple[GreedyRequest, list[float]]:
    """Return the request for lookaheads of candidates, and the rewards if they are continued by these texts."""
    firsts = [ids(text)[0] for text in tails]
    candidates = CandidateSet(token_ids=np.asarray(firsts, np.int32), logp=np.zeros(len(firsts), np.float32))
    scoring = score_candidates(candidates, (), scorer, config)
    request = next(scoring)
    assert isinstance(request, GreedyRequest)
    continuations = []
    rest = {ids(text)[0]: ids(text)[1:] + ids(tail) for text, tail in tails.items()}
    stops = request.stop_conditions or [lambda _: False] * len(request.contexts)
    for (token_id,), stop in zip(request.contexts, stops, strict=True):
        read: list[int] = []
        for token in rest[token_id][: request.max_new_tokens]:
            read.append(token)
            if stop([token]):
                break
        continuations.append(read)
    try:
        scoring.send(continuations)
    except StopIteration as done:
        return request, done.value.rewards.tolist()
    raise AssertionError("one request is enough")


def test_in_latin_script_a_candidate_is_continued_until_its_language_is_certain() -> None:
    tails = {
        "The": " capital of Spain is",
        "El": " clima de la ciudad es suave",
        "Xqz": " Xqz 12, 13 - Xqz = 12",
        "Me": "",
    }
    at = scorer_after(ids("La capital es bonita. "), "es", "confusion", sampled=ids("It is what they say"))
    request, rewards = scored(at, tails, AUTO)
    assert request.max_new_tokens == 20
    assert rewards == [-1, 1, 0, 1], "English, Spanish, undecided, and an answer that has ended"
    for text, more in (("The capital", " of "), ("El clima", " de ")):
        stop = at.stop_condition(ids(text)[0])
        assert not stop(ids(text)[1:]), "the last word may go on"
        assert stop(ids(more)), text


def test_the_lookahead_of_the_sampled_token_is_the_answer() -> None:
    """ "In" is a word of both languages: the greedy continuation is Italian, the answer was not."""
    tails = {"In": " questo paese si parla", "Nel": " paese si parla"}
    at = scorer_after(ids("Roma. "), "it", "confusion", sampled=ids("In this country they speak"))
    request, rewards = scored(at, tails, AUTO)
    assert len(request.contexts) == 1
    assert rewards == [-1, 1]


def test_where_letters_decide_the_lookahead_has_k_tokens() -> None:
    for config in (AUTO, AUTO.model_copy(update={"lookahead": "fixed"})):
        request, _ = scored(scorer_after(ids("통화는 ")), {"엔": "입니다"}, config)
        assert (request.max_new_tokens, request.stop_conditions) == (3, ())


@given(
    st.lists(st.text("ab\n엔", min_size=1, max_size=3), max_size=3), st.text("ab\n엔"), st.text("ab\n엔", min_size=1)
)
def test_the_judged_text_is_the_answers_from_c_up_to_its_first_stop_string(
    stop_strings: list[str], left: str, text: str
) -> None:
    left = cut_at_stop_string(left, stop_strings)
    at = scorer_after(ids(left), stop_strings=stop_strings)
    (judged,) = at.scores([ids(text)]).lookaheads
    assert judged == cut_at_stop_string(left + text, stop_strings)[len(left) :]
