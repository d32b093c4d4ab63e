"""`tlpo data pairs` keeps what it has sampled until it is judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import detectors
from tlpo_ray.baselines.pairs import make_pairs
from tlpo_ray.data.requests import PairsRequest
from tlpo_ray.errors import JudgeError


@pytest.mark.slow
def test_sampled_answers_outlast_a_detector_that_fails(
    curt_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"통화는 {number}?"}) + "\n" for number in range(3)))
    request = PairsRequest(
        prompts=str(prompts), model=str(curt_model), language="ko", output=tmp_path / "pairs.jsonl",
        temperature=1.0, max_new_tokens=24, engine="transformers",
    )  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(detectors.LanguageDetector, "find", lambda *_: 1 / 0)
        with pytest.raises(JudgeError) as caught:
            make_pairs(request)
    file = tmp_path / "pairs.jsonl.answers.jsonl"
    assert str(caught.value).endswith(
        f"the sampled answers are in {file}: tlpo data pairs --answers {file} makes pairs of them"
    )
    made = make_pairs(replace(request, prompts=None, model=None, answers=file))
    assert made.pairs and file.exists(), "the answers are the user's file now"
    file.unlink()
    again = make_pairs(replace(request, output=tmp_path / "again.jsonl"))
    assert again.pairs == made.pairs
    assert not (tmp_path / "again.jsonl.answers.jsonl").exists()
