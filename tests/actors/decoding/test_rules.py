"""Rules on logits: no foreign letter under a mask, not even in pieces; gates that open and close; boosts."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.decoding.language_tokens import LanguageTokens, decoded, vocabulary_text
from actors.decoding.rules import RuleSet
from actors.requests import DecodingRule
from actors.token_bytes import TokenBytes
from detectors import English, script_characters
from tests.vocabularies import byte_level, sentence_piece

VOCABULARIES = {"byte_level": byte_level, "sentence_piece": sentence_piece}
LANGUAGES = ("ko", "zh", "zh-Hans", "ja", "ar", "ru", "es", "th")


@pytest.fixture(params=VOCABULARIES)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return VOCABULARIES[request.param]()


def one_row(values: dict[int, float], rows: int) -> torch.Tensor:
    """Return logits [1, V] that are 0 but for some tokens."""
    logits_BV = torch.zeros(1, rows)
    for token, value in values.items():
        logits_BV[0, token] = value
    return logits_BV


def token_of(tokenizer: Any, text: str) -> int:
    """Return the token with exactly this text."""
    token_bytes = TokenBytes(tokenizer)
    return next(token for token in range(len(tokenizer)) if token_bytes[token] == text.encode())


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    language=st.sampled_from(LANGUAGES),
    english=st.sampled_from(["neutral", "confusion"]),
)
def test_no_sequence_of_possible_tokens_has_a_foreign_letter(
    vocabulary: str, seed: int, language: str, english: English
) -> None:
    tokenizer = VOCABULARIES[vocabulary]()
    rules, rows = RuleSet(tokenizer, len(tokenizer)), len(tokenizer)
    rule = DecodingRule(method="mask", language=language, english=english)
    random = torch.Generator().manual_seed(seed)
    answer: list[int] = []
    for _ in range(60):
        logits_BV = torch.randn(1, rows, generator=random)
        rules.apply(logits_BV, [rule], [answer])
        possible = logits_BV[0].isfinite().nonzero()[:, 0]
        answer.append(int(possible[torch.randint(len(possible), (1,), generator=random)]))
    text = decoded(TokenBytes(tokenizer).join(answer))[0]
    assert not script_characters(language, english).foreign.search(text)
    assert not re.search("[\udc80-\udcff]", text), "every character that was begun is completed"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_mask_leaves_every_token_of_a_clean_text(tokenizer: Any, language: str) -> None:
    clean = {
        "ko": "일본의 통화는 엔입니다. 3,000원 (Python 3.12)!",
        "zh": "中国的货币是人民币。",
        "zh-Hans": "北京是中华人民共和国的首都",
        "ja": "日本の通貨は円です。東京",
        "ar": "عملة مصر هي الجنيه المصري.",
        "ru": "Валюта это рубль 100 ₽",
        "es": "¿Cuál es la moneda? El peso, señor.",
        "th": "สกุลเงินคือบาท",
    }[language]
    rules = RuleSet(tokenizer, len(tokenizer))
    ids = tokenizer(clean, add_special_tokens=False)["input_ids"]
    for place, token in enumerate(ids):
        logits_BV = torch.zeros(1, len(tokenizer))
        rules.apply(logits_BV, [DecodingRule(method="mask", language=language)], [ids[:place]])
        assert logits_BV[0, token] == 0, tokenizer.decode(ids[: place + 1])


def test_added_tokens_and_the_end_of_an_answer_stay_possible(tokenizer: Any) -> None:
    logits_BV = torch.zeros(1, len(tokenizer))
    RuleSet(tokenizer, len(tokenizer)).apply(
        logits_BV, [DecodingRule(method="mask", language="ko", english="confusion")], [[]]
    )
    assert all(logits_BV[0, token] == 0 for token in tokenizer.added_tokens_decoder)


def test_a_character_that_can_only_become_foreign_is_not_begun() -> None:
    tokens = LanguageTokens(vocabulary_text(byte_level(), len(byte_level())), "ko", "neutral")
    spelled = {
        content: token for token in range(len(byte_level())) if len(content := TokenBytes(byte_level())[token]) == 1
    }
    foreign = tokens.foreign()
    # D0 begins Cyrillic letters only; EA, EB, EC and ED begin syllables of Hangul, F0 an emoji.
    assert foreign[spelled[b"\xd0"]]
    assert not any(foreign[spelled[bytes([byte])]] for byte in (0xEA, 0xEB, 0xEC, 0xED, 0xF0))
    # E4 B8 begins Chinese characters only, E2 82 begins the sign of the euro.
    allowed = tokens.following(b"\xe2").tolist()
    assert spelled[b"\x82"] in allowed
    assert spelled[b"\xb8"] not in tokens.following(b"\xe4").tolist()


def test_interventions_are_rows_whose_most_probable_token_has_changed() -> None:
    tokenizer = byte_level()
    hangul, arabic, digit = token_of(tokenizer, "의"), token_of(tokenizer, "ل"), token_of(tokenizer, "3")
    rows = [one_row({arabic: 5, hangul: 3}, len(tokenizer)), one_row({digit: 5, arabic: 3}, len(tokenizer))]
    logits_BV = torch.cat(rows)
    rule = DecodingRule(method="mask", language="ko")
    changed_B = RuleSet(tokenizer, len(tokenizer)).apply(logits_BV, [rule, rule], [[], []])
    assert changed_B.tolist() == [True, False]
    assert logits_BV[:, arabic].tolist() == [float("-inf")] * 2


def test_rows_without_a_rule_stay_as_they_are_and_languages_share_a_batch() -> None:
    tokenizer = byte_level()
    logits_BV = torch.zeros(3, len(tokenizer))
    korean = DecodingRule(method="mask", language="ko")
    RuleSet(tokenizer, len(tokenizer)).apply(
        logits_BV, [korean, None, DecodingRule(method="mask", language="ar")], [[], [], []]
    )
    hangul, arabic = token_of(tokenizer, "의"), token_of(tokenizer, "ل")
    assert logits_BV[:, hangul].tolist() == [0, 0, float("-inf")]
    assert logits_BV[:, arabic].tolist() == [float("-inf"), 0, 0]


def test_a_gate_masks_only_where_a_foreign_token_is_probable_and_keeps_the_last_words_script() -> None:
    tokenizer = byte_level()
    hangul, arabic = token_of(tokenizer, "의"), token_of(tokenizer, "ل")
    rules = RuleSet(tokenizer, len(tokenizer))
    rule = DecodingRule(method="gate", language="ko", top_k=2)
    rows = [one_row({hangul: 9, token_of(tokenizer, "3"): 8, arabic: 7}, len(tokenizer))]
    rows += 2 * [one_row({hangul: 9, arabic: 8}, len(tokenizer))]
    logits_BV = torch.cat(rows)
    rules.apply(logits_BV, [rule] * 3, [[hangul], [hangul], [arabic]])
    assert logits_BV[:, arabic].tolist() == [7, float("-inf"), 8]


def test_a_boost_is_alpha_times_the_foreign_share() -> None:
    tokenizer = byte_level()
    hangul, arabic, digit = token_of(tokenizer, "의"), token_of(tokenizer, "ل"), token_of(tokenizer, "3")
    logits_BV = torch.full((2, len(tokenizer)), -1e4)
    logits_BV[0, [hangul, arabic, digit]] = torch.tensor([0.25, 0.75, 5.0]).log()
    logits_BV[1, [hangul, digit]] = 0.0
    rule = DecodingRule(method="boost", language="ko", alpha=4.0)
    changed_B = RuleSet(tokenizer, len(tokenizer)).apply(logits_BV, [rule] * 2, [[], []])
    assert logits_BV[0, hangul].item() == pytest.approx(torch.tensor(0.25).log().item() + 4 * 0.75, abs=1e-4)
    assert logits_BV[0, arabic].item() == pytest.approx(torch.tensor(0.75).log().item())
    assert logits_BV[1, hangul].item() == pytest.approx(0.0, abs=1e-6)
    assert changed_B.tolist() == [True, False]


def test_a_boost_leaves_the_rest_of_a_begun_character_alone() -> None:
    tokenizer = byte_level()
    rules, rule = RuleSet(tokenizer, len(tokenizer)), DecodingRule(method="boost", language="ko")
    first, *rest = tokenizer("뷁", add_special_tokens=False)["input_ids"]
    assert rest, "written in pieces"
    for place in range(1, 1 + len(rest)):
        logits_BV = one_row({[first, *rest][place]: 9.0}, len(tokenizer))
        before_BV = logits_BV.clone()
        assert rules.apply(logits_BV, [rule], [[first, *rest][:place]]).tolist() == [False]
        assert torch.equal(logits_BV, before_BV)
    # Behind the complete character the same logits rise where a foreign token is probable.
    logits_BV = one_row({token_of(tokenizer, "ل"): 9.0}, len(tokenizer))
    rules.apply(logits_BV, [rule], [[first, *rest]])
    assert logits_BV[0, token_of(tokenizer, "의")] > 7


def test_a_boost_also_raises_pieces_of_the_languages_letters() -> None:
    tokenizer = byte_level()
    spelled = {content: token for token in range(len(tokenizer)) if (content := TokenBytes(tokenizer)[token])}
    hangul, arabic = token_of(tokenizer, "의"), token_of(tokenizer, "ل")
    logits_BV = one_row({arabic: 9.0}, len(tokenizer))
    RuleSet(tokenizer, len(tokenizer)).apply(logits_BV, [DecodingRule(method="boost", language="ko")], [[]])
    # EB begins syllables of Hangul only; D8 begins Arabic letters, and 80 ends a character.
    assert logits_BV[0, spelled[b"\xeb"]] == logits_BV[0, hangul] > 7
    assert logits_BV[0, [spelled[b"\xd8"], spelled[b"\x80"]]].tolist() == [0, 0]
