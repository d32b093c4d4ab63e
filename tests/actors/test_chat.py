"""A model folder is checked before anything starts, and a problem is reported in one line."""

from __future__ import annotations

import copy
import datetime
import json
import shutil
from pathlib import Path

import pytest
from tokenizers import processors

from actors.chat import check_model, conversation_text, encode_prompts, prompt_ids, with_date
from actors.engine import EngineOptions
from actors.hf_engine import TransformersEngine
from actors.worker import RolloutWorker
from tests.vocabularies import byte_level
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.errors import ModelError
from tlpo_ray.flow.records import Outcome, Prompt
from tlpo_ray.flow.tokenizer import load_tokenizer

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


# --------------------------------------------------------------------------------- templates and the text of a prompt

MESSAGES = "{{% for m in messages %}}<|im_start|>{{{{ m['role'] }}}}\n{content}<|im_end|>\n{{% endfor %}}"
PARTS = {
    "loop": "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}",
    "first part": "{{ m['content'][0]['text'] }}",
    "attribute, joined": "{{ '' + m.content[0].text + '' }}",
    "system prompt as text": "{% if m.role == 'system' %}{{ m.content }}{% else %}{{ m.content[0].text }}{% endif %}",
    "both forms": "{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}{% endif %}",
}
CHANGES = {
    "lower case": "{{ m.content | lower }}",
    "title case": "{{ m.content | title }}",
    "escaped": "{{ m.content | e }}",
    "as JSON": "{{ m.content | tojson }}",
    "truncated": "{{ m.content | truncate }}",
    "first characters": "{{ m.content[:1500] }}",
    "white space": "{{ m.content.split() | join(' ') }}",
    "wrapped": "{{ m.content | wordwrap }}",
    "indented": "{{ m.content | indent }}",
    "without quotation marks": "{{ m.content | replace('\"', '') }}",
    "without line breaks": "{{ m.content.splitlines() | join(' ') }}",
    "ASCII": "{% for c in m.content %}{% if c <= '~' %}{{ c }}{% endif %}{% endfor %}",
    "another field": "{{ m.text }}",
    "dropped": "",
    "a list is printed, a text is not": "{% if m.content is not string %}{{ m.content }}{% endif %}",
}
SYSTEM = 'Answer  in "Korean".\nAlways'


def with_template(model: Path, folder: Path, template: str, **settings: object) -> ModelConfig:
    return changed(model, folder, "chat_template.jinja", template).model_copy(update=settings)


def text_of(model: ModelConfig, prompt: str) -> str:
    tokenizer = load_tokenizer(model)
    return str(tokenizer.decode(prompt_ids(tokenizer, model, prompt)))


@pytest.mark.parametrize("system", [None, SYSTEM])
@pytest.mark.parametrize("form", sorted(PARTS))
def test_a_template_that_expects_parts_gets_parts(
    form: str, system: str | None, tiny_model: Path, tmp_path: Path
) -> None:
    template = MESSAGES.format(content=PARTS[form])
    model = with_template(tiny_model, tmp_path / "model", template, system_prompt=system)
    check_model(model)
    expected = "<|im_start|>user\n일본의 <b>통화</b>는?\n\n  Say it. <|im_end|>\n"
    before = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    assert text_of(model, "일본의 <b>통화</b>는?\n\n  Say it. ") == before + expected


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_template_that_changes_prompts_is_refused(change: str, tiny_model: Path, tmp_path: Path) -> None:
    model = with_template(tiny_model, tmp_path / "model", MESSAGES.format(content=CHANGES[change]))
    assert "its chat template drops or changes the prompt: repair it" in error_of(model)


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "model.system_prompt"),
        ("{{ messages[0].content }}", "the prompt"),
    ],
)
def test_a_template_that_drops_a_message_is_refused(template: str, what: str, tiny_model: Path, tmp_path: Path) -> None:
    model = with_template(tiny_model, tmp_path / "model", template)
    check_model(model)
    assert f"its chat template drops or changes {what}: " in error_of(
        model.model_copy(update={"system_prompt": SYSTEM})
    )


def test_white_space_at_the_ends_of_a_prompt_may_go(tiny_model: Path, tmp_path: Path) -> None:
    model = with_template(tiny_model, tmp_path / "model", MESSAGES.format(content="{{ m.content | trim }}"))
    check_model(model)
    assert text_of(model, " 통화는?\n") == "<|im_start|>user\n통화는?<|im_end|>\n"


SINGLE = {
    "its chat template drops or changes the prompt": "{{ m.content.split('</think>')[-1] }}",
    "its chat template refuses the prompt": "{% if '</think>' in m.content %}{{ raise_exception('no') }}{% endif %}"
    "{{ m.content }}",
}


@pytest.mark.parametrize("reason", sorted(SINGLE))
def test_a_single_prompt_that_its_template_does_not_take_is_skipped_with_a_reason(
    reason: str, tiny_model: Path, tmp_path: Path
) -> None:
    model = with_template(tiny_model, tmp_path / "model", MESSAGES.format(content=SINGLE[reason]))
    check_model(model)
    rollout = RolloutConfig(engine="transformers", max_new_tokens=4)
    worker = RolloutWorker(TransformersEngine(model, rollout, EngineOptions()), model, rollout, DetectorConfig(), 0)
    prompts = [
        Prompt(index=n, id="", language="ko", text=text) for n, text in enumerate(["통화는?", "</think>통화는?"])
    ]
    report = worker.run_batch(prompts)
    skipped = [result for result in report.results if result.outcome is Outcome.SKIPPED]
    assert [(result.prompt_index, result.reason) for result in skipped] == [(1, reason)]
    assert {completion.prompt_index for completion in worker.generate(prompts, 2, 0.0, 4, 0)} == {0}


# ------------------------------------------------------------------------------------------ a template of one's own

BRACES = "{{질문}}: {prompt} {0} {x!r}\n%s답변:"
END, PAD = "<|end|>", "<|pad|>"
ADDED = [(END, 0), (PAD, 1)]
PROCESSORS = {
    "an end": (processors.TemplateProcessing(single=f"$A {END}", special_tokens=ADDED), []),
    "two ends": (processors.TemplateProcessing(single=f"{PAD} $A {END} {PAD}", special_tokens=ADDED), [1]),
    "as in BERT": (processors.BertProcessing(ADDED[0], ADDED[1]), [1]),
    "as in RoBERTa": (processors.RobertaProcessing(ADDED[0], ADDED[1]), [1]),
    "a sequence": (
        processors.Sequence(
            [processors.ByteLevel(), processors.TemplateProcessing(single=f"{PAD} $A {END}", special_tokens=ADDED)]
        ),
        [1],
    ),
}
"""What a tokenizer adds to every text, and the tokens that a prompt begins with."""


@pytest.mark.parametrize("template", [None, "{prompt}", BRACES])
@pytest.mark.parametrize("kind", sorted(PROCESSORS))
def test_a_prompt_begins_as_a_text_does_and_does_not_end_as_one(kind: str, template: str | None) -> None:
    tokenizer, model = copy.deepcopy(byte_level()), ModelConfig(path="x", prompt_template=template)
    plain = tokenizer((template or "{prompt}").replace("{prompt}", "안녕 <b>"), add_special_tokens=False)["input_ids"]
    tokenizer.backend_tokenizer.post_processor, before = PROCESSORS[kind]
    assert prompt_ids(tokenizer, model, "안녕 <b>") == before + plain


def test_an_end_of_text_that_the_prompt_itself_has_stays() -> None:
    tokenizer = copy.deepcopy(byte_level())
    plain = tokenizer(f"안녕{END}", add_special_tokens=False)["input_ids"]
    assert plain[-1] == 0
    tokenizer.backend_tokenizer.post_processor = PROCESSORS["an end"][0]
    assert prompt_ids(tokenizer, ModelConfig(path="x"), f"안녕{END}") == plain


def test_the_beginning_of_a_text_is_added_once() -> None:
    tokenizer = copy.deepcopy(byte_level())
    tokenizer.backend_tokenizer.post_processor = PROCESSORS["as in BERT"][0]
    twice = ModelConfig(path="x", prompt_template=f"{PAD}질문: {{prompt}}")
    once = ModelConfig(path="x", prompt_template="질문: {prompt}")
    assert prompt_ids(tokenizer, twice, "안녕") == prompt_ids(tokenizer, once, "안녕")


def test_a_template_of_one_s_own_replaces_the_chat_template(tiny_model: Path) -> None:
    model = ModelConfig(path=str(tiny_model), max_context=64, prompt_template=BRACES)
    check_model(model)
    assert text_of(model, "일본의 {prompt}는?") == BRACES.replace("{prompt}", "일본의 {prompt}는?", 1)


def test_a_system_prompt_without_a_template_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = changed(tiny_model, tmp_path / "model", "README.md", "")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    check_model(model)
    message = error_of(model.model_copy(update={"system_prompt": SYSTEM}))
    assert "has no chat template, so model.system_prompt has no effect: " in message


@pytest.mark.parametrize("settings", [{}, {"system_prompt": SYSTEM}, {"prompt_template": BRACES}])
def test_a_conversation_as_text_has_the_tokens_of_the_prompt(settings: dict[str, str], tiny_model: Path) -> None:
    model = ModelConfig(path=str(tiny_model), **settings)
    tokenizer = load_tokenizer(model)
    system = [{"role": "system", "content": SYSTEM}] if "system_prompt" in settings else []
    text = conversation_text(tokenizer, model, [*system, {"role": "user", "content": "통화는?"}])
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == prompt_ids(tokenizer, model, "통화는?")


# -------------------------------------------------------------------------------------------------------------- dates

NEW_YEAR = datetime.date(2020, 1, 2)
DATED = {
    "gpt-oss": ("Current date: {{ strftime_now('%Y-%m-%d') }}\n", "Current date: 2020-01-02\n"),
    "llama 3.2": (
        "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
        "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}"
        "{%- endif %}{%- endif %}Today Date: {{ date_string }}\n",
        "Today Date: 02 Jan 2020\n",
    ),
    "mistral small": ("{%- set today = strftime_now('%Y-%m-%d') %}It is {{ today }}.\n", "It is 2020-01-02.\n"),
    "granite": ("Today's Date: {{ strftime_now('%B %d, %Y') }}.\n", "Today's Date: January 02, 2020.\n"),
    "with the time of day": ("{{ strftime_now('%H:%M:%S') }}\n", "00:00:00\n"),
}
LLAMA_3_1 = (
    "{%- if not date_string is defined %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "Today Date: {{ date_string }}\n"
)
USER = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize("family", sorted(DATED))
def test_a_template_sees_the_date_of_the_settings(family: str, tiny_model: Path, tmp_path: Path) -> None:
    template, expected = DATED[family]
    model = with_template(tiny_model, tmp_path / "model", template + USER)
    assert with_date(model).date == datetime.date.today()
    dated = model.model_copy(update={"date": NEW_YEAR})
    assert with_date(dated) == dated
    assert text_of(dated, "통화는?") == expected + "통화는?"
    check_model(dated)


def test_a_template_that_asks_for_no_date_gets_none(tiny_model: Path, tmp_path: Path) -> None:
    plain = ModelConfig(path=str(tiny_model))
    assert with_date(plain) == plain
    # Llama 3.1's own date does not change, and a run of today must ask as a run of last year did.
    llama = with_template(tiny_model, tmp_path / "model", LLAMA_3_1 + USER)
    assert with_date(llama) == llama
    assert text_of(llama, "통화는?") == "Today Date: 26 Jul 2024\n통화는?"
    assert text_of(llama.model_copy(update={"date": NEW_YEAR}), "통화는?") == "Today Date: 02 Jan 2020\n통화는?"


def test_a_date_among_the_template_s_arguments_counts(tiny_model: Path, tmp_path: Path) -> None:
    model = with_template(
        tiny_model, tmp_path / "model", DATED["llama 3.2"][0] + USER, chat_template_kwargs={"date_string": "1 May 1886"}
    )
    assert with_date(model) == model
    dated = model.model_copy(update={"date": NEW_YEAR})
    assert text_of(dated, "통화는?") == "Today Date: 1 May 1886\n통화는?"


def test_a_template_of_one_s_own_has_no_date(tiny_model: Path, tmp_path: Path) -> None:
    model = with_template(tiny_model, tmp_path / "model", DATED["gpt-oss"][0] + USER, prompt_template="Q: {prompt}")
    assert with_date(model) == model


def test_settings_with_which_no_prompt_can_be_asked_do_not_skip_all_of_them(tiny_model: Path, tmp_path: Path) -> None:
    model = with_template(tiny_model, tmp_path / "model", NO_SYSTEM, system_prompt=SYSTEM)
    prompts = [Prompt(index=0, id="", language="ko", text="통화는?")]
    with pytest.raises(ModelError, match="System role not supported"):
        encode_prompts(load_tokenizer(model), model, 64, prompts)
    encoded, _ = encode_prompts(load_tokenizer(model), model.model_copy(update={"system_prompt": None}), 64, prompts)
    assert len(encoded) == 1
