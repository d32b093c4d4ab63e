"""Selecting prompts and presenting them to a model; no engine is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tlpo_ray.data.prompts import USUAL_FIELDS
from tlpo_ray.errors import ModelError, UserError
from tlpo_ray.evaluation.generation import model_for_sampling, select_prompts
from tlpo_ray.evaluation.sampling import checked_engine


@pytest.mark.parametrize("field", USUAL_FIELDS)
def test_prompts_are_found_in_any_usual_field(field: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({field: "수도는?"}), encoding="utf-8")
    (prompt,) = select_prompts(str(file), "ko", None, 0, skip_bad=False).prompts
    assert (prompt.text, prompt.language) == ("수도는?", "ko")


def test_the_model_of_a_run_is_asked_as_it_was_trained(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(tiny_model)
    (tmp_path / "config.yaml").write_text("model: {path: elsewhere, system_prompt: 한국어로., max_context: 7}\n")
    model = model_for_sampling(str(tmp_path / "model"), 16)
    assert (model.system_prompt, model.path) == ("한국어로.", str(tmp_path / "model"))
    assert model.max_context > 16, "room for prompt and answer, whatever the run had"
    assert model_for_sampling(str(tiny_model), 16).system_prompt is None


def test_a_missing_model_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder or hub name") as caught:
        model_for_sampling(str(tmp_path / "gone"), 16)
    assert len(str(caught.value).splitlines()) == 1


def test_an_engine_that_is_not_installed_is_reported_with_those_that_are() -> None:
    assert checked_engine("transformers") == "transformers"
    with pytest.raises(UserError, match=r"--engine vlm: expected one of transformers, vllm; did you mean vllm\?"):
        checked_engine("vlm")
