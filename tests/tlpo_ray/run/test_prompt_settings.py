"""How a run presents its prompts: its date is recorded, and whoever asks its model later asks as it was trained."""

from __future__ import annotations

import datetime
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.confusion import cut_at_stop_string
from tests.small_run import LOCAL, PROMPTS, run_config
from tests.tiny import CHAT_TEMPLATE
from tlpo_ray.commands.evaluate import Request, evaluate_command
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import StoppedError, UserError
from tlpo_ray.evaluation.generation import model_for_sampling
from tlpo_ray.flow.records import read_experiences
from tlpo_ray.flow.tokenizer import load_tokenizer
from tlpo_ray.progress import ProgressListener, TrainingProgress
from tlpo_ray.run.training import resume_training, run_training

DATED = "Today is {{ strftime_now('%Y-%m-%d') }}.\n" + CHAT_TEMPLATE


class StopAt(ProgressListener):
    """Stops a run when it reaches a policy version."""

    def __init__(self, version: int) -> None:
        self._version = version

    def training(self, progress: TrainingProgress) -> None:
        if progress.version == self._version:
            raise StoppedError("stopped", 15)


def with_template(model: Path, folder: Path, template: str) -> Path:
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def settings(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "config.yaml").read_text("utf-8"))["model"])


def rewrite_settings(folder: Path, model: dict[str, Any]) -> None:
    file = folder / "config.yaml"
    config = yaml.safe_load(file.read_text("utf-8")) | {"model": model}
    file.write_text(yaml.safe_dump(config), encoding="utf-8")


def asked(folder: Path, model: Path) -> list[str]:
    """Return the prompts of a run's experiences, in the order in which they were learned from."""
    tokenizer = load_tokenizer(ModelConfig(path=str(model)))
    groups = read_experiences(folder / "experiences")
    return [tokenizer.decode(group.context_ids[: group.prompt_length].tolist()) for group in groups]


@pytest.mark.slow
def test_the_day_on_which_a_run_begins_is_recorded_and_a_resumed_run_asks_with_it(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    model, folder = with_template(tiny_model, tmp_path / "model", DATED), tmp_path / "run"
    began = datetime.date.today()
    with pytest.raises(StoppedError):
        run_training(run_config(model, prompts, folder, **LOCAL), progress=StopAt(2))
    recorded = settings(folder)["date"]
    assert recorded in {str(began), str(datetime.date.today())}
    before = asked(folder, model)
    assert before and all(text.startswith(f"Today is {recorded}.\n") for text in before)

    # As if the run had begun long ago.
    rewrite_settings(folder, settings(folder) | {"date": "1999-12-31"})
    resume_training(folder)
    assert settings(folder)["date"] == "1999-12-31"
    days = [text[len("Today is ") :][:10] for text in asked(folder, model)]
    assert days == [recorded] * len(before) + ["1999-12-31"] * (len(days) - len(before))
    assert days[-1] == "1999-12-31"
    assert model_for_sampling(str(folder / "model"), 16).date == datetime.date(1999, 12, 31)
    assert model_for_sampling(str(model), 16, str(folder / "config.yaml")).date == datetime.date(1999, 12, 31)
    assert model_for_sampling(str(model), 16).date == datetime.date.today()


@pytest.mark.slow
def test_a_run_without_a_date_in_its_template_records_none_and_neither_does_an_old_one(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(StoppedError):
        run_training(run_config(tiny_model, prompts, folder, **LOCAL), progress=StopAt(2))
    assert settings(folder)["date"] is None
    new = ("date", "prompt_template", "stop_strings")
    rewrite_settings(folder, {key: value for key, value in settings(folder).items() if key not in new})
    assert resume_training(folder).accounting.as_json()["total"] == PROMPTS
    assert settings(folder)["date"] is None


@pytest.mark.slow
def test_a_run_with_a_template_of_one_s_own_is_evaluated_with_it(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    folder, stops = tmp_path / "run", ["の", "。"]
    own = {"model.prompt_template": '"질문: {prompt}\\n답변:"', "model.stop_strings": json.dumps(stops)}
    result = run_training(run_config(tiny_model, prompts, folder, **LOCAL, **own))
    assert result.accounting.as_json()["total"] == PROMPTS
    contexts = asked(folder, tiny_model)
    assert contexts and all(text.startswith("질문: ") and text.endswith("\n답변:") for text in contexts)
    for group in read_experiences(folder / "experiences"):
        assert cut_at_stop_string(group.response, stops) == group.response

    model = model_for_sampling(str(folder / "model"), 16)
    assert (model.prompt_template, model.stop_strings) == ("질문: {prompt}\n답변:", tuple(stops))
    options: dict[str, Any] = {
        "prompts": str(prompts), "languages": ("ko",), "engine": "transformers", "max_new_tokens": 12, "samples": 2,
    }  # fmt: skip
    evaluate_command(Request(model=str(folder / "model"), output=tmp_path / "with", **options))
    # A base model is asked like the run by naming it.
    like = tmp_path / "like.yaml"
    like.write_text(yaml.safe_dump({"model": {"prompt_template": "질문: {prompt}\n답변:", "stop_strings": stops}}))
    shutil.copytree(folder / "model", tmp_path / "base")
    evaluate_command(Request(model=str(tmp_path / "base"), like=str(like), output=tmp_path / "like", **options))
    with_run, with_like = ((tmp_path / name / "answers.jsonl").read_text("utf-8") for name in ("with", "like"))
    assert with_run == with_like
    answers = [json.loads(line)["answer"] for line in with_run.splitlines()]
    assert answers and all(cut_at_stop_string(answer, stops) == answer for answer in answers)


@pytest.mark.slow
def test_an_evaluation_counts_the_prompts_that_it_could_not_ask(tiny_model: Path, tmp_path: Path) -> None:
    model = with_template(
        tiny_model, tmp_path / "model", "{% for m in messages %}{{ m.content.split('#')[0] }}{% endfor %}"
    )
    file = tmp_path / "prompts.jsonl"
    texts = ["통화는?", "통화는 # 무엇?", "통화 " * 900]
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), encoding="utf-8")
    request = Request(
        model=str(model), prompts=str(file), languages=("ko",), engine="transformers", max_new_tokens=4,
        output=tmp_path / "out",
    )  # fmt: skip
    evaluate_command(request)
    result = json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))
    assert (result["prompts_answered"], result["prompts_too_long"]) == (1, 1)
    assert result["prompts_skipped"] == {"its chat template drops or changes the prompt": 1}
    file.write_text(json.dumps({"prompt": texts[1]}) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no prompt can be answered: its chat template drops .* \(1\)"):
        evaluate_command(replace(request, output=None))
