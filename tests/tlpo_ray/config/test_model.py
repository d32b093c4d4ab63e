"""Settings of the model that contradict each other, or have no effect, are refused in one line."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from tlpo_ray.config.baseline import load_baseline
from tlpo_ray.config.load import dump_config, load_config
from tlpo_ray.errors import ConfigError

MODEL = ["model.path=x"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.prompt_template=질문:"], "model.prompt_template has {prompt} 0 times: it needs it once"),
        (
            ["model.prompt_template=a {prompt} b {prompt}"],
            "model.prompt_template has {prompt} 2 times: it needs it once",
        ),
        (
            ["model.prompt_template=a {prompt}", "model.system_prompt=b"],
            "model.system_prompt has no effect with model.prompt_template",
        ),
        (
            ["model.prompt_template=a {prompt}", "model.date=2020-01-02"],
            "model.date has no effect with model.prompt_template",
        ),
        (["model.stop_strings=['a', '']"], "model.stop_strings has an empty text"),
        (["model.stop_strings=a"], "model.stop_strings is 'a': expected a list"),
        (["model.date=tomorrow"], "model.date is 'tomorrow': expected a valid date"),
    ],
)
def test_a_wrong_setting_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", [*MODEL, *overrides])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_templates_stop_strings_and_dates_are_read_back_equal(tmp_path: Path) -> None:
    template, stops = "{{x}} {0} 질문: {prompt}\n\t답변: %s", ("\n", "\n\n", "질문:", "\\n", "{prompt}")
    own = load_config("quickstart", MODEL).model.model_copy(update={"prompt_template": template, "stop_strings": stops})
    dated = load_config("quickstart", [*MODEL, "model.date=2020-01-02"]).model
    assert dated.date == datetime.date(2020, 1, 2)
    for model in (own, dated):
        config = load_config("quickstart", MODEL).model_copy(update={"model": model})
        (tmp_path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        assert load_config(str(tmp_path / "config.yaml")).model == model


def test_a_line_break_on_the_command_line_is_written_in_quotes() -> None:
    model = load_config(
        "quickstart", [*MODEL, r'model.prompt_template="{prompt}\n답변:"', r'model.stop_strings=["\n"]']
    ).model
    assert (model.prompt_template, model.stop_strings) == ("{prompt}\n답변:", ("\n",))


def test_grpo_knows_no_stop_strings() -> None:
    with pytest.raises(ConfigError, match=r"model\.stop_strings have no effect with grpo"):
        load_baseline("grpo-toy", "quickstart", [*MODEL, "model.stop_strings=[a]"])
    assert load_baseline("dpo-toy", "quickstart", [*MODEL, "model.stop_strings=[a]"]).model.stop_strings == ("a",)
