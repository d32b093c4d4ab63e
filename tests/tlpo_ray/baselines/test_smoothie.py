"""Smoothie: which rows of the head are scaled and by how much, what stays bit-equal, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from detectors.scripts import script_of
from tests.tiny import make_tiny_model, make_tokenizer
from tlpo_ray.baselines.smoothie import row_scales, scale, scaled_rows, unwanted_scripts
from tlpo_ray.baselines.training import train_baseline
from tlpo_ray.commands.baseline import baseline_command
from tlpo_ray.config.baseline import SmoothieConfig, SmoothieRunConfig, load_baseline
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import ConfigError, ModelError, TlpoError, UserError
from tlpo_ray.flow.tokenizer import load_tokenizer

WRONG = ("Cyrillic", "Thai")


def config_of(*overrides: str) -> SmoothieRunConfig:
    """Return the configuration of a run on Korean prompts."""
    given = ["model.path=toy", "data.prompts=none", *overrides]
    config = load_baseline("smoothie", "quickstart", given)
    assert isinstance(config, SmoothieRunConfig)
    return config


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model, and the folder of a run of smoothie on it."""
    folder = tmp_path_factory.mktemp("smoothie")
    model = make_tiny_model(folder / "tiny", tied=request.param)
    config = config_of(f"model.path={model}", f"folder={folder / 'run'}", "data.language=ko", "smoothie.min_scale=0.25")
    result = train_baseline(config)
    assert result.steps == result.tokens_generated == 0 and result.head is not None
    assert result.head.tied == request.param and result.head.tokens > 40 and "Han" in result.head.scripts
    assert json.loads((folder / "run" / "result.json").read_text("utf-8")) == result.to_json()
    return model, folder / "run"


def test_only_rows_of_unwanted_tokens_change_and_by_exactly_their_factor(models: tuple[Path, Path]) -> None:
    model, run = models
    before, after = load_file(model / "model.safetensors"), load_file(run / "model" / "model.safetensors")
    head = before.get("lm_head.weight", before["model.embed_tokens.weight"])
    assert after.keys() == before.keys() | {"lm_head.weight"}
    for name in before.keys() - {"lm_head.weight"}:
        assert torch.equal(before[name], after[name]), f"{name} is not the model's"
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [tokenizer.decode([token]) for token in range(len(head))]
    unwanted = {
        token
        for token, text in enumerate(texts)
        if any(script_of(c) not in ("Hangul", "Latin", "Common") for c in text)
    }
    assert {token for token in unwanted if torch.equal(after["lm_head.weight"][token], 0.25 * head[token])} == unwanted
    for token, text in enumerate(texts):
        if token not in unwanted and "\N{REPLACEMENT CHARACTER}" not in text:
            assert torch.equal(after["lm_head.weight"][token], head[token]), f"{text!r} is scaled"


def test_the_model_loads_untied_and_its_logits_are_those_computed_by_hand(models: tuple[Path, Path]) -> None:
    model, run = models
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in (model, run / "model"))
    assert not after.config.tie_word_embeddings
    assert after.lm_head.weight is not after.model.embed_tokens.weight
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(model).chat_template
    scales = row_scales(
        tokenizer, unwanted_scripts(config_of(), ["ko"]), SmoothieConfig(min_scale=0.25, ngram_weights=(1.0,))
    )
    factors = torch.tensor([scales.get(token, 1.0) for token in range(len(tokenizer))])
    ids = torch.tensor([tokenizer("일본의 통화는")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(after(ids).logits, before(ids).logits * factors)


def test_a_head_with_its_own_weights_in_the_file_of_a_run_can_be_evaluated_as_it_was(models: tuple[Path, Path]) -> None:
    from tlpo_ray.evaluation.generation import model_for_sampling

    model, run = models
    assert model_for_sampling(str(run / "model"), 16).path == str(run / "model")
    with pytest.raises(UserError, match="already holds a run"):
        train_baseline(config_of(f"model.path={model}", f"folder={run}", "data.language=ko"))


def test_parts_of_characters_are_scaled_by_how_often_others_complete_them(tmp_path: Path) -> None:
    """Checked against an enumeration of all pairs and triples of partial tokens, for some tokens of each kind."""
    tokenizer = make_tokenizer(tmp_path)
    table = {token: bytes(piece_bytes(tokenizer, token)) for token in range(3, len(tokenizer))}
    partial = {token: data for token, data in table.items() if not is_text(data)}
    settings = SmoothieConfig(ngram_weights=(0.75, 0.25))
    scales = row_scales(tokenizer, WRONG, settings)
    assert any(scales.get(token, 1.0) not in (1.0, 0.5) for token in partial), "nothing is checked"
    followers = list(partial.values())
    begun = [token for token, data in partial.items() if pending(data)]
    checked = {token: partial[token] for token in (*begun[::9], *(token for token in begun if len(partial[token]) > 1))}
    assert {data[0] for data in checked.values()} >= {0xD0} or len(checked) > 8
    assert [
        token for token, data in partial.items() if len(data) == 1 and 0x80 <= data[0] < 0xC0 and token in scales
    ] == []
    for token, data in checked.items():
        pairs = sum(completes(data, [other]) for other in followers) / len(followers)
        triples = sum(
            completes(data, [one, other]) for one in followers for other in followers if pending(data + one)
        ) + sum(completes(data, [one]) for one in followers if not pending(data + one)) * len(followers)
        probability = 0.75 * pairs + 0.25 * triples / len(followers) ** 2
        assert scales.get(token, 1.0) == pytest.approx(scale(probability, 0.5, 10.0)), data


def piece_bytes(tokenizer: Any, token: int) -> bytes:
    from actors.token_bytes import TokenBytes

    return TokenBytes(tokenizer)[token]


def is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def pending(data: bytes) -> bool:
    """Return whether bytes are the beginning of exactly one character."""
    lead = data[0]
    length = 2 if 0xC2 <= lead <= 0xDF else 3 if 0xE0 <= lead <= 0xEF else 4 if 0xF0 <= lead <= 0xF4 else 1
    return len(data) < length and any(is_text(data + tail) for tail in TAILS[length - len(data)])


TAILS = {
    1: [bytes([last]) for last in range(0x80, 0xC0)],
    2: [bytes([first, 0x80]) for first in range(0x80, 0xC0)],
    3: [bytes([first, 0x80, 0x80]) for first in range(0x80, 0xC0)],
}


def completes(data: bytes, others: list[bytes]) -> bool:
    """Return whether the character that begins in `data` is completed to one of `WRONG` by the others."""
    if not pending(data):
        return False
    whole = data + b"".join(others)
    for length in range(2, 5):
        if is_text(whole[:length]):
            return len(whole[:length].decode()) == 1 and script_of(whole[:length].decode()) in WRONG
    return False


def test_the_factor_falls_from_1_to_the_smallest_as_the_formula_says() -> None:
    assert scale(0.0, 0.5, 10.0) == 1.0
    assert scale(1.0, 0.5, 10.0) == pytest.approx(0.5)
    assert scale(0.25, 0.5, 10.0) == pytest.approx(1 - 0.5 * math.log10(1 + 9 * 0.25))
    assert scale(0.25, 0.5, 1000.0) < scale(0.25, 0.5, 10.0) < scale(0.25, 0.5, 1.1)


def test_rows_are_rounded_once_to_their_number_format() -> None:
    head = torch.tensor([[1.0, -3.0], [0.1, 0.7], [5.0, 6.0]], dtype=torch.bfloat16)
    scaled = scaled_rows(head, {1: 0.3, 2: 0.5})
    assert torch.equal(scaled[0], head[0]) and torch.equal(scaled[2], torch.tensor([2.5, 3.0], dtype=torch.bfloat16))
    assert torch.equal(scaled[1], (head[1].double() * 0.3).to(torch.bfloat16))
    assert torch.equal(head[2], torch.tensor([5.0, 6.0], dtype=torch.bfloat16)), "the model's own head has changed"


def test_tokens_of_a_chat_format_keep_their_rows(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    tokenizer = load_tokenizer(ModelConfig(path=str(tmp_path)))
    tokenizer.add_tokens(["<думай>"])
    scales = row_scales(tokenizer, ("Latin", "Cyrillic"), SmoothieConfig())
    assert tokenizer.convert_tokens_to_ids("<думай>") not in scales
    assert tokenizer.convert_tokens_to_ids("<|im_start|>") not in scales
    assert scales[tokenizer.convert_tokens_to_ids("a")] == 0.5


@pytest.mark.parametrize(
    ("languages", "settings", "wanted", "unwanted"),
    [
        (("ko",), (), ("Hangul", "Latin"), ("Han", "Cyrillic", "Thai", "Greek")),
        (("ja",), (), ("Han", "Hiragana", "Katakana", "Latin"), ("Hangul", "Bopomofo")),
        (("ko", "ja", "zh", "ar"), (), ("Hangul", "Han", "Arabic", "Bopomofo", "Latin"), ("Cyrillic", "Thai")),
        (("de",), (), ("Latin",), ("Cyrillic", "Han")),
        (("ko",), ("detector.english=confusion",), ("Hangul",), ("Latin", "Han")),
    ],
)
def test_by_default_every_script_that_the_prompts_lack_is_unwanted(
    languages: tuple[str, ...], settings: tuple[str, ...], wanted: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    scripts = set(unwanted_scripts(config_of(*settings), languages))
    assert scripts.isdisjoint(wanted) and scripts.issuperset(unwanted)


@pytest.mark.parametrize(
    ("suppress", "expected"),
    [
        ("[zh]", ("Han", "Bopomofo")),
        ("[Chinese, th]", ("Han", "Bopomofo", "Thai")),
        ("[Cyrillic, han]", ("Cyrillic", "Han")),
        ("[en]", ("Latin",)),
    ],
)
def test_languages_and_scripts_can_be_named(suppress: str, expected: tuple[str, ...]) -> None:
    assert unwanted_scripts(config_of(f"smoothie.suppress={suppress}"), ["ko"]) == expected


def test_scripts_that_a_suppressed_language_shares_with_the_prompts_are_left_alone() -> None:
    assert unwanted_scripts(config_of("smoothie.suppress=[ja]"), ["zh"]) == ("Hiragana", "Katakana")


@pytest.mark.parametrize(
    ("languages", "settings", "expected"),
    [
        (("de",), ["detector.english=confusion"], "'de' is written in Latin like English"),
        (("ko", "fr"), ["detector.english=confusion"], "'fr' is written in Latin like English"),
        (("ja",), ["smoothie.suppress=[zh]"], "zh cannot be scaled down, because 'ja'"),
        (("uk",), ["smoothie.suppress=[ru]"], "ru cannot be scaled down, because 'uk'"),
        (("de",), ["smoothie.suppress=[Latin]"], "Latin cannot be scaled down, because 'de'"),
        (("ko",), ["smoothie.suppress=[Klingon]"], "'Klingon' is neither a language of the detectors nor a script"),
    ],
)
def test_what_scripts_cannot_tell_apart_is_refused_in_one_line(
    languages: tuple[str, ...], settings: list[str], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        unwanted_scripts(config_of(*settings), languages)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["smoothie.min_scale=1"], "smoothie.min_scale is 1"),
        (["smoothie.smoothness=1"], "smoothie.smoothness is 1"),
        (["smoothie.ngram_weights=[0, 0]"], "all weights are 0"),
        (["smoothie.ngram_weights=[]"], "smoothie.ngram_weights is []"),
        (["trainer.lr=1e-6"], "unknown key trainer"),
        (["answers.samples=4"], "unknown key answers"),
    ],
)
def test_settings_without_a_meaning_are_refused_in_one_line(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(*overrides)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def altered(model: Path, name: str, change: dict[str, object]) -> None:
    file = model / name
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | change), encoding="utf-8")


@pytest.mark.parametrize(
    ("case", "error", "expected"),
    [
        ("tied", ModelError, "its output head shares its weights with the embeddings"),
        ("quantized", ModelError, "is quantized (fp8)"),
        ("pickled", ModelError, "cannot be loaded"),
        ("missing", ModelError, "no tokenizer found"),
        ("other alphabet", ConfigError, "no token of model"),
    ],
)
def test_a_model_that_cannot_be_scaled_is_refused_in_one_line_and_leaves_nothing(
    case: str, error: type[TlpoError], expected: str, tmp_path: Path
) -> None:
    model, folder = tmp_path / "tiny", tmp_path / "run"
    overrides = [f"model.path={model}", f"folder={folder}", "data.language=ko"]
    if case != "missing":
        make_tiny_model(model)
    if case == "tied":
        overrides.append("smoothie.untie=false")
    if case == "quantized":
        altered(model, "config.json", {"quantization_config": {"quant_method": "fp8"}})
    if case == "pickled":
        torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
        (model / "model.safetensors").unlink()
    if case == "other alphabet":
        overrides.append("smoothie.suppress=[Cherokee]")
        overrides.append("smoothie.ngram_weights=[1]")
    with pytest.raises(error) as caught:
        train_baseline(config_of(*overrides))
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert not folder.exists()


def test_pickled_weights_are_read_if_the_model_s_setting_allows_it(tmp_path: Path) -> None:
    model, folder = make_tiny_model(tmp_path / "tiny"), tmp_path / "run"
    before = load_file(model / "model.safetensors")
    torch.save(before, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    train_baseline(config_of(f"model.path={model}", f"folder={folder}", "data.language=ko", "model.allow_pickle=true"))
    after = load_file(folder / "model" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before) and "lm_head.weight" in after


def test_without_a_language_in_the_settings_those_of_the_prompts_count(tmp_path: Path) -> None:
    model, prompts = make_tiny_model(tmp_path / "tiny"), tmp_path / "prompts.jsonl"
    rows = [{"prompt": "日本の通貨は?", "language": "ja"}, {"prompt": "일본의 통화는?", "language": "ko"}]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = train_baseline(config_of(f"model.path={model}", f"folder={tmp_path / 'run'}", f"data.prompts={prompts}"))
    assert result.head is not None
    assert {"Han", "Hiragana", "Hangul"}.isdisjoint(result.head.scripts) and "Cyrillic" in result.head.scripts


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_scaling_does_to_the_probability_of_the_scaled_tokens_is_measured_and_said(
    tmp_path: Path, sign: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one hidden direction that every row of an unwanted token has, its logits are all positive or negative."""
    model, prompts, run = make_tiny_model(tmp_path / "tiny", tied=False), tmp_path / "prompts.jsonl", tmp_path / "run"
    rows = [{"prompt": text, "language": "ko"} for text in ("일본의 통화는?", "태국의 통화는?")]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tokenizer, policy = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    messages = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    encoded = [tokenizer.apply_chat_template(one, add_generation_prompt=True)["input_ids"] for one in messages]
    contexts = [torch.tensor([ids]) for ids in encoded]
    scaled = sorted(row_scales(load_tokenizer(ModelConfig(path=str(model))), WRONG, SmoothieConfig()))
    with torch.no_grad():
        states = torch.cat([policy.model(ids).last_hidden_state[:, -1] for ids in contexts])
        policy.lm_head.weight[scaled] = sign * states.mean(0) / states.mean(0).norm() ** 2
    policy.save_pretrained(model)
    overrides = [f"model.path={model}", f"data.prompts={prompts}", f"folder={run}"]
    overrides.append(f"smoothie.suppress=[{','.join(WRONG)}]")
    baseline_command("smoothie", "quickstart", overrides)
    head = json.loads((run / "result.json").read_text("utf-8"))["head"]
    for folder, measured in ((model, head["probability_before"]), (run / "model", head["probability_after"])):
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            masses = [loaded(ids).logits[0, -1].softmax(-1)[scaled].sum().item() for ids in contexts]
        assert measured == pytest.approx(sum(masses) / len(masses), rel=1e-4)
    rose = head["probability_after"] > head["probability_before"]
    assert rose == (sign < 0)
    shown = capsys.readouterr().out
    assert f"{head['probability_before']:.2%} before, {head['probability_after']:.2%} after" in shown
    assert ("it rose, because the model gives such tokens negative logits" in shown) == rose
