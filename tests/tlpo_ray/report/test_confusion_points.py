from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tlpo_ray.report.folders import group
from tlpo_ray.errors import UserError
from tlpo_ray.report.confusion_points import TokenTexts, confusion_point, confusions


def test_confusions_are_counted_by_language_with_the_mass_of_their_confusing_candidates() -> None:
    # Candidates have 1/2, 1/4, 1/8 …: the confusing ones 1/4 + 1/8, 1/4 + 1/8 and 1/2.
    groups = [group("ko"), group("ko"), group("ar", confusing=(0,))]
    # The trained policy: 3/4 on the clean first candidate, 1/16 on each confusing one.
    new_logp = {0: np.log([0.75, 1 / 16, 1 / 16, *[1e-3] * 13]).tolist()}
    first, second = confusions(groups, new_logp)
    assert (first.language, first.word, first.times) == ("ko", "чеська", 2)
    assert first.mass_before == pytest.approx(0.375, abs=1e-6)
    assert first.mass_after == pytest.approx(0.125), "mean over the probed ones"
    assert first.now == ["체코 코루나입니다."]
    assert (second.language, second.times, second.mass_after, second.now) == ("ar", 1, None, None)
    assert second.mass_before == pytest.approx(0.5)


def test_a_confusion_point_shows_every_candidate_before_and_after() -> None:
    point = confusion_point(group("ko", n=4), np.log([0.7, 0.1, 0.1, 0.1]).tolist(), "질문")
    assert [candidate.clean for candidate in point.candidates] == [True, False, False, True]
    assert [candidate.before for candidate in point.candidates] == pytest.approx([0.5, 0.25, 0.125, 0.0625])
    assert [candidate.after for candidate in point.candidates] == pytest.approx([0.7, 0.1, 0.1, 0.1])
    assert (point.mass_before, point.mass_after) == (pytest.approx(0.375), pytest.approx(0.2))
    assert point.parts == [("체코의 통화는 ", False), ("чеська", True)]
    assert confusion_point(group("ko"), None, "").mass_after is None


def test_tokens_are_decoded_with_the_runs_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    tokenizer = Tokenizer(WordLevel({"체코": 0, "통화": 1, "<end>": 2}, unk_token="<end>"))
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert TokenTexts(tmp_path / "tokenizer.json").text([0, 1, 2]) == "체코 통화"


def test_a_missing_tokenizer_gives_no_text_and_a_damaged_one_an_error(tmp_path: Path) -> None:
    assert TokenTexts(tmp_path / "tokenizer.json").text([1, 2]) == ""
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json is not a tokenizer"):
        TokenTexts(tmp_path / "tokenizer.json")
