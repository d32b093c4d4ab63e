"""Training examples of each method: rows as TRL expects them, with every prompt accounted for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tlpo_ray.baselines import answers
from tlpo_ray.baselines.answers import sample_own_answers
from tlpo_ray.baselines.examples import Examples, build_examples, clean_judge
from tlpo_ray.baselines.rendering import Rendering
from tlpo_ray.baselines.trainers import _trainer
from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.load import build_config
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.data.prompts import read_prompts
from tlpo_ray.errors import JudgeError, ModelError, PromptFileError, UserError
from tlpo_ray.evaluation.judge import read_answers
from tlpo_ray.flow.records import Prompt

Make = Callable[..., Examples]
RECORDS: tuple[dict[str, Any], ...] = (
    {"id": "a", "instruction": "통화는?", "input": "일본", "output": "엔입니다."},
    {"id": "b", "instruction": "수도는?", "input": "", "output": "도쿄입니다."},
    {"id": "c", "instruction": "인구는?", "input": "", "output": "  "},
)


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Builds the examples of a method from records as Bactrian-X has them; loads no model weights."""

    def made(method: str, *overrides: str, records: tuple[dict[str, Any], ...] = RECORDS) -> Examples:
        file = tmp_path / "prompts.json"
        file.write_text(json.dumps(records), encoding="utf-8")
        settings = {
            "name": "t", "folder": str(tmp_path / "run"), "method": method, "trainer": {"lr": 1e-3},
            "model": {"path": str(tiny_model)}, "answers": {"reference_field": "output" if method == "sft" else None},
            "data": {"prompts": str(file), "prompt_field": "instruction", "language": "ko", "shuffle": False},
        }  # fmt: skip
        config = build_config(BaselineConfig, settings, overrides, source="test")
        return build_examples(config, read_prompts(config.data, config.seed).prompts, lambda done, total: None)

    return made


def test_grpo_gets_prompts_and_their_languages(make: Make, tiny_model: Path) -> None:
    built = make("grpo")
    rendering = Rendering(build_config(BaselineConfig, _settings(tiny_model), source="test").model)
    assert built.rows[0] == {"prompt": rendering.prompt("통화는?\n일본"), "language": "ko"}
    assert built.counts == {"prompts": 3, "used": 3, "not_renderable": 0, "prompt_too_long": 0}
    assert built.tokens == 0


def _settings(model: Path) -> dict[str, Any]:
    return {
        "name": "t", "folder": "t", "method": "grpo", "trainer": {"lr": 1}, "model": {"path": str(model)},
        "data": {"prompts": "p.json"},
    }  # fmt: skip


def test_reference_answers_are_paired_with_their_prompts(make: Make) -> None:
    built = make("sft")
    assert [row["completion"] for row in built.rows] == ["엔입니다.<|im_end|>", "도쿄입니다.<|im_end|>"]
    assert "통화는?\n일본" in built.rows[0]["prompt"], "the context belongs to the question and not to the answer"
    assert built.counts == {"prompts": 3, "unanswered": 1, "used": 2, "not_renderable": 0, "prompt_too_long": 0}


def test_skipped_prompts_give_no_reference_answer(make: Make) -> None:
    built = make("sft", "data.max_characters=4")
    assert [row["completion"] for row in built.rows] == ["도쿄입니다.<|im_end|>"]
    assert built.counts["prompts"] == 2
    assert len(make("sft", "data.limit=1").rows) == 1


def test_prompts_without_an_id_are_identified_by_their_line(make: Make) -> None:
    nameless = tuple({key: value for key, value in record.items() if key != "id"} for record in RECORDS)
    built = make("sft", records=nameless)
    assert [row["completion"] for row in built.rows] == ["엔입니다.<|im_end|>", "도쿄입니다.<|im_end|>"]


@pytest.mark.parametrize(
    ("records", "override", "expected"),
    [
        (RECORDS, "answers.reference_field=answer", "no answers in field 'answer'; check answers.reference_field"),
        ((RECORDS[0], RECORDS[1] | {"id": "a"}), "seed=0", "share a name in field 'id'"),
    ],
)
def test_unusable_reference_answers_are_reported_in_one_line(
    make: Make, records: Any, override: str, expected: str
) -> None:
    with pytest.raises(PromptFileError) as caught:
        make("sft", override, records=records)
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_answers_are_judged_by_the_prompt_s_language_and_the_run_s_english_setting() -> None:
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
def test_pairs_are_made_of_the_policy_s_own_answers(make: Make, curt: tuple[str, ...]) -> None:
    built = make("dpo", *curt)
    is_clean = clean_judge(DetectorConfig())
    prompt = Prompt(index=0, id="", language="ko", text="")
    assert built.rows and built.tokens > 0
    for row in built.rows:
        assert row["chosen"].endswith("<|im_end|>") and row["rejected"].endswith("<|im_end|>")
        assert is_clean(prompt, row["chosen"].removesuffix("<|im_end|>"))
        assert not is_clean(prompt, row["rejected"].removesuffix("<|im_end|>"))
    given = {name: built.counts[name] for name in ("used", "all_clean", "all_confused", "unanswered")}
    assert sum(given.values()) == built.counts["prompts"] == 3
    assert make("orpo", *curt).rows == built.rows, "the same pairs for both methods, and the same ones again"
    assert make("dpo", *curt, "seed=1").rows != built.rows


@pytest.mark.slow
def test_sft_is_trained_on_clean_answers(make: Make, curt: tuple[str, ...]) -> None:
    built = make("sft", *curt)
    is_clean, prompt = clean_judge(DetectorConfig()), Prompt(index=0, id="", language="ko", text="")
    assert built.rows
    assert all(is_clean(prompt, row["completion"].removesuffix("<|im_end|>")) for row in built.rows)
    assert all(row["completion"].removesuffix("<|im_end|>").strip() for row in built.rows)


@pytest.mark.slow
def test_a_run_without_examples_is_reported_in_one_line(make: Make, curt: tuple[str, ...]) -> None:
    with pytest.raises(
        UserError, match=r"sft: no example from 3 prompts \(3 unanswered, \d+ answers cut off"
    ) as caught:
        make("sft", *curt, "answers.max_new_tokens=1")
    assert "answers.max_new_tokens" in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_vllm_samples_the_same_answers_in_a_process_of_its_own(make: Make, curt: tuple[str, ...]) -> None:
    before = "vllm" in sys.modules
    built = make("dpo", *curt, "answers.engine=vllm")
    assert built == make("dpo", *curt)
    assert ("vllm" in sys.modules) == before


@pytest.mark.slow
def test_an_error_in_that_process_is_raised_here(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = _settings(tiny_model) | {"model": {"path": "./nowhere"}}
    config = build_config(BaselineConfig, settings, source="test")
    assert config.answers.engine == "vllm"
    with pytest.raises(ModelError, match=r"model '\./nowhere': no tokenizer found"):
        sample_own_answers(config, [Prompt(index=0, id="p", language="ko", text="?")], lambda done, total: None)
    assert "Traceback" not in capfd.readouterr().err


# ----------------------------------------------------------------------------------- prompts without room for an answer


def prompt_lengths(rendering: Rendering) -> dict[str, int]:
    texts = {"a": "통화는?\n일본", "b": "수도는?", "c": "인구는?"}
    return {name: rendering.length(rendering.prompt(text) or "") for name, text in texts.items()}


def test_a_prompt_that_fills_the_length_of_an_example_is_counted(make: Make, tiny_model: Path) -> None:
    lengths = prompt_lengths(Rendering(build_config(BaselineConfig, _settings(tiny_model), source="test").model))
    assert lengths["a"] < lengths["b"]
    built = make("sft", f"trainer.max_length={lengths['b']}")
    assert [row["completion"] for row in built.rows] == ["엔입니다.<|im_end|>"]
    assert built.counts == {"prompts": 3, "unanswered": 1, "used": 1, "not_renderable": 0, "prompt_too_long": 1}
    assert make("sft", f"trainer.max_length={lengths['b'] + 1}").counts["prompt_too_long"] == 0
    assert make("sft", f"trainer.extra={{max_length: {lengths['b']}}}").counts["prompt_too_long"] == 1
    keep_end = f"trainer.extra={{max_length: {lengths['a']}, truncation_mode: keep_end}}"
    assert make("sft", keep_end).counts["prompt_too_long"] == 0, "the end of the answer is left"
    with pytest.raises(UserError, match=r"no example from 3 prompts .*2 prompt too long.*; raise trainer.max_length"):
        make("sft", "trainer.max_length=1")


def test_grpo_leaves_out_prompts_that_fill_the_context(make: Make, tiny_model: Path) -> None:
    lengths = prompt_lengths(Rendering(build_config(BaselineConfig, _settings(tiny_model), source="test").model))
    longest = max(lengths.values())
    built = make("grpo", f"model.max_context={longest}", "trainer.max_length=1")
    dropped = sum(length == longest for length in lengths.values())
    assert (built.counts["prompt_too_long"], len(built.rows), built.counts["used"]) == (
        dropped,
        3 - dropped,
        3 - dropped,
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_trl_drops_no_example_that_is_counted_as_used(
    method: str, make: Make, curt: tuple[str, ...], curt_model: Path, tmp_path: Path
) -> None:
    lengths = prompt_lengths(Rendering(ModelConfig(path=str(curt_model))))
    limit = max(lengths.values())
    built, all_lengths = make(method, *curt, f"trainer.max_length={limit}"), make(method, *curt)
    dropped = built.counts["prompt_too_long"]
    assert 0 < dropped == len(all_lengths.rows) - len(built.rows) < len(all_lengths.rows)
    settings = _settings(curt_model) | {
        "method": method, "folder": str(tmp_path / "trl"),
        "trainer": {"lr": 1e-3, "batch_size": 1, "micro_batch_size": 1, "max_length": limit},
    }  # fmt: skip
    config = build_config(BaselineConfig, settings, source="test")

    def trained(examples: Examples) -> int:
        return len(_trainer(config, examples, tmp_path / "trl", lambda step, values: None).train_dataset)

    assert trained(built) == len(built.rows)
    # Otherwise TRL would drop them and say nothing; ORPO would learn from their empty answers.
    assert trained(all_lengths) == len(all_lengths.rows) - (0 if method == "orpo" else dropped)


# ----------------------------------------------------------------------------------------------- a judge that fails


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_sampled_answers_outlast_a_detector_that_fails(
    method: str, make: Make, curt: tuple[str, ...], moody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = make(method, *curt)
    settings = (*curt, "detector.name=moody")
    with pytest.raises(JudgeError) as caught:
        make(method, *settings)
    file = tmp_path / "run.answers.jsonl"
    assert str(caught.value) == (
        f"an answer to 'a' in ko cannot be judged: RuntimeError: the service is down; the sampled answers are in "
        f"{file}: the same command continues from them"
    )
    assert len(read_answers(file, None)) == 3 * 16
    moody.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(answers, "sample_own_answers", None)  # calling it would be an error
        assert make(method, *settings) == expected
    assert not file.exists()


@pytest.mark.slow
def test_answers_of_other_settings_are_not_taken(
    make: Make, curt: tuple[str, ...], moody: Path, tmp_path: Path
) -> None:
    with pytest.raises(JudgeError):
        make("dpo", *curt, "detector.name=moody")
    assert (tmp_path / "run.answers.jsonl").exists()
    assert make("dpo", *curt, "seed=1") != make("dpo", *curt)
