"""What methods train on: rows as TRL wants them, with every prompt accounted for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tlpo_ray.baselines.answers import own_answers
from tlpo_ray.baselines.examples import Examples, clean_judge, examples
from tlpo_ray.baselines.rendering import Rendering
from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.load import build_config
from tlpo_ray.config.run import DetectorConfig
from tlpo_ray.data.prompts import read_prompts
from tlpo_ray.errors import ModelError, PromptFileError, UserError
from tlpo_ray.flow.records import Prompt

Make = Callable[..., Examples]
RECORDS: tuple[dict[str, Any], ...] = (
    {"id": "a", "instruction": "통화는?", "input": "일본", "output": "엔입니다."},
    {"id": "b", "instruction": "수도는?", "input": "", "output": "도쿄입니다."},
    {"id": "c", "instruction": "인구는?", "input": "", "output": "  "},
)


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Examples of a method from records as Bactrian-X has them, without looking at a model's weights."""

    def made(method: str, *overrides: str, records: tuple[dict[str, Any], ...] = RECORDS) -> Examples:
        file = tmp_path / "prompts.json"
        file.write_text(json.dumps(records), encoding="utf-8")
        settings = {
            "name": "t", "folder": str(tmp_path / "run"), "method": method, "trainer": {"lr": 1e-3},
            "model": {"path": str(tiny_model)}, "answers": {"reference_field": "output" if method == "sft" else None},
            "data": {"prompts": str(file), "prompt_field": "instruction", "language": "ko", "shuffle": False},
        }  # fmt: skip
        config = build_config(BaselineConfig, settings, overrides, source="test")
        return examples(config, read_prompts(config.data, config.seed).prompts, lambda done, total: None)

    return made


def test_grpo_gets_prompts_and_their_languages(make: Make, tiny_model: Path) -> None:
    found = make("grpo")
    rendering = Rendering(build_config(BaselineConfig, _settings(tiny_model), source="test").model)
    assert found.rows[0] == {"prompt": rendering.prompt("통화는?\n일본"), "language": "ko"}
    assert found.counts == {"prompts": 3, "used": 3, "not_renderable": 0}
    assert found.tokens == 0


def _settings(model: Path) -> dict[str, Any]:
    return {
        "name": "t", "folder": "t", "method": "grpo", "trainer": {"lr": 1}, "model": {"path": str(model)},
        "data": {"prompts": "p.json"},
    }  # fmt: skip


def test_reference_answers_are_put_beside_their_prompts(make: Make) -> None:
    found = make("sft")
    assert [row["completion"] for row in found.rows] == ["엔입니다.<|im_end|>", "도쿄입니다.<|im_end|>"]
    assert "통화는?\n일본" in found.rows[0]["prompt"], "the context belongs to the question and not to the answer"
    assert found.counts == {"prompts": 3, "unanswered": 1, "used": 2, "not_renderable": 0}


def test_prompts_that_the_run_skips_give_no_reference_answer(make: Make) -> None:
    found = make("sft", "data.max_characters=4")
    assert [row["completion"] for row in found.rows] == ["도쿄입니다.<|im_end|>"]
    assert found.counts["prompts"] == 2
    assert len(make("sft", "data.limit=1").rows) == 1


def test_prompts_without_a_name_are_told_apart_by_their_place(make: Make) -> None:
    nameless = tuple({key: value for key, value in record.items() if key != "id"} for record in RECORDS)
    found = make("sft", records=nameless)
    assert [row["completion"] for row in found.rows] == ["엔입니다.<|im_end|>", "도쿄입니다.<|im_end|>"]


@pytest.mark.parametrize(
    ("records", "override", "said"),
    [
        (RECORDS, "answers.reference_field=answer", "no answers in field 'answer'; check answers.reference_field"),
        ((RECORDS[0], RECORDS[1] | {"id": "a"}), "seed=0", "share a name in field 'id'"),
    ],
)
def test_unusable_reference_answers(make: Make, records: Any, override: str, said: str) -> None:
    with pytest.raises(PromptFileError) as caught:
        make("sft", override, records=records)
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_the_judge_goes_by_the_prompt_s_language_and_the_run_s_setting() -> None:
    def clean(text: str, language: str, english: str) -> bool:
        prompt = Prompt(index=0, id="p", language=language, text="?")
        return clean_judge(DetectorConfig(english=english))(prompt, text)  # type: ignore[arg-type]

    assert clean("엔입니다.", "ko", "neutral") and not clean("єна입니다.", "ko", "neutral")
    assert clean("It is the yen.", "ko", "neutral") and not clean("It is the yen.", "ko", "confusion")
    assert not clean("엔입니다.", "ja", "neutral")


# ------------------------------------------------------------------------------------------------ sampled answers

SAMPLED = (
    "answers.engine=transformers", "answers.reference_field=null", "answers.samples=16", "answers.max_new_tokens=24",
    "answers.temperature=1.0", "model.dtype=float32", "model.max_context=128",
)  # fmt: skip


@pytest.fixture
def curt(curt_model: Path) -> tuple[str, ...]:
    return (*SAMPLED, f"model.path={curt_model}")


@pytest.mark.slow
def test_pairs_are_of_the_policy_s_own_answers(make: Make, curt: tuple[str, ...]) -> None:
    found = make("dpo", *curt)
    judge = clean_judge(DetectorConfig())
    asked = Prompt(index=0, id="", language="ko", text="")
    assert found.rows and found.tokens > 0
    for row in found.rows:
        assert row["chosen"].endswith("<|im_end|>") and row["rejected"].endswith("<|im_end|>")
        assert judge(asked, row["chosen"].removesuffix("<|im_end|>"))
        assert not judge(asked, row["rejected"].removesuffix("<|im_end|>"))
    given = {name: found.counts[name] for name in ("used", "all_clean", "all_confused", "unanswered")}
    assert sum(given.values()) == found.counts["prompts"] == 3
    assert make("orpo", *curt).rows == found.rows, "the same pairs for both methods, and the same ones again"
    assert make("dpo", *curt, "seed=1").rows != found.rows


@pytest.mark.slow
def test_sft_learns_clean_answers(make: Make, curt: tuple[str, ...]) -> None:
    found = make("sft", *curt)
    judge, asked = clean_judge(DetectorConfig()), Prompt(index=0, id="", language="ko", text="")
    assert found.rows
    assert all(judge(asked, row["completion"].removesuffix("<|im_end|>")) for row in found.rows)
    assert all(row["completion"].removesuffix("<|im_end|>").strip() for row in found.rows)


@pytest.mark.slow
def test_no_example_is_told_in_one_line(make: Make, curt: tuple[str, ...]) -> None:
    with pytest.raises(
        UserError, match=r"sft: no example from 3 prompts \(3 unanswered, \d+ answers cut off"
    ) as caught:
        make("sft", *curt, "answers.max_new_tokens=1")
    assert "answers.max_new_tokens" in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_vllm_samples_the_same_answers_in_a_process_of_its_own(make: Make, curt: tuple[str, ...]) -> None:
    before = "vllm" in sys.modules
    found = make("dpo", *curt, "answers.engine=vllm")
    assert found == make("dpo", *curt)
    assert ("vllm" in sys.modules) == before


@pytest.mark.slow
def test_what_goes_wrong_in_that_process_is_told_as_if_it_were_here(
    tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = _settings(tiny_model) | {"model": {"path": "./nowhere"}}
    config = build_config(BaselineConfig, settings, source="test")
    assert config.answers.engine == "vllm"
    with pytest.raises(ModelError, match=r"model '\./nowhere': no tokenizer found"):
        own_answers(config, [Prompt(index=0, id="p", language="ko", text="?")], lambda done, total: None)
    assert "Traceback" not in capfd.readouterr().err
