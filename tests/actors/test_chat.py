"""A model folder is checked before anything starts, and a problem is reported in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from actors.chat import check_model, prompt_ids
from actors.tokenizer import load_tokenizer
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import ModelError

NO_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{{ message['content'] }}{% endfor %}"
)


def changed(model: Path, folder: Path, file: str, content: str) -> ModelConfig:
    """Copy a model, replace one of its files, and return the settings of the copy."""
    shutil.copytree(model, folder)
    (folder / file).write_text(content, encoding="utf-8")
    return ModelConfig(path=str(folder), max_context=64)


def error_of(model: ModelConfig) -> str:
    with pytest.raises(ModelError) as error:
        check_model(model)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", "[]"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": 5}}'),
        ("tokenizer.json", ""),
        ("tokenizer_config.json", "[]"),
        ("config.json", "[]"),
        ("config.json", "{"),
    ],
)
def test_a_damaged_file_is_reported_in_one_line(file: str, content: str, tiny_model: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "model") in error_of(changed(tiny_model, tmp_path / "model", file, content))


@pytest.mark.parametrize(
    "setting", [{"num_hidden_layers": "x"}, {"vocab_size": None}, {"max_position_embeddings": "many"}]
)
def test_a_configuration_of_the_wrong_type_is_named(
    setting: dict[str, object], tiny_model: Path, tmp_path: Path
) -> None:
    settings = json.loads((tiny_model / "config.json").read_text())
    message = error_of(changed(tiny_model, tmp_path / "model", "config.json", json.dumps(settings | setting)))
    assert next(iter(setting)) in message


def test_a_template_that_rejects_the_settings_is_reported_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    model = changed(tiny_model, tmp_path / "model", "chat_template.jinja", NO_SYSTEM)
    check_model(model)
    message = error_of(model.model_copy(update={"system_prompt": "Be brief."}))
    assert (
        "its chat template or tokenizer cannot encode a prompt: TemplateError: System role not supported; change model."
        in message
    )


def test_a_broken_template_is_reported_in_one_line_wherever_a_prompt_is_rendered(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = changed(tiny_model, tmp_path / "model", "chat_template.jinja", "{% for message in %}")
    assert "its chat template or tokenizer cannot encode a prompt: TemplateSyntaxError: " in error_of(model)
    with pytest.raises(ModelError, match="its chat template or tokenizer cannot encode a prompt"):
        prompt_ids(load_tokenizer(model), model, "질문?")
