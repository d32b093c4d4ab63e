from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tlpo_ray.commands.evaluate import Request, evaluate_command
from tlpo_ray.errors import ModelError, UserError
from tlpo_ray.evaluation.perplexity import MAX_TOKENS, PerplexityRequest, measure_perplexity

TEXTS = {
    "ko": ["일본의 통화는 일본 엔화입니다.", "태국의 수도는 방콕입니다."],
    "en": ["The currency of Japan is the yen.", "Bangkok is the capital of Thailand."],
}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    rows = [{"text": text, "language": language} for language, each in TEXTS.items() for text in each]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_it_is_that_of_each_token_after_the_first(texts: Path, tiny_model: Path) -> None:
    result = measure_perplexity(PerplexityRequest(model=str(tiny_model), texts=str(texts)))
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    assert [each.language for each in result.languages] == ["en", "ko"]
    for each in result.languages:
        nats = []
        for text in TEXTS[each.language]:
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                nats += [float(model(ids, labels=ids).loss)] * (ids.shape[1] - 1)
        assert (each.texts, each.tokens, each.cut_off) == (2, len(nats), 0)
        assert each.nats == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    en, ko = (each.nats for each in result.languages)
    assert result.perplexity == pytest.approx(math.exp((en + ko) / 2))


def test_a_limit_counts_for_each_language_and_long_texts_are_cut_off_and_counted(
    tmp_path: Path, tiny_model: Path
) -> None:
    rows = [{"text": f"{text} " * 400, "language": language} for language, each in TEXTS.items() for text in each]
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = measure_perplexity(PerplexityRequest(model=str(tiny_model), texts=str(file), limit=1))
    assert [(each.texts, each.cut_off, each.tokens) for each in result.languages] == [(1, 1, MAX_TOKENS - 1)] * 2


def test_the_command_shows_each_language_and_writes_the_result(
    texts: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    evaluate_command(Request(model=str(tiny_model), perplexity=str(texts), languages=("Korean",), output=output))
    result = json.loads((output / "result.json").read_text("utf-8"))
    assert [row["language"] for row in result["by_language"]] == ["ko"]
    assert f"{result['perplexity']:.3f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"languages": ("ja",)}, "no text in ja"),
        ({"languages": ("ko", "ja", "th")}, "no text in ja, th"),
        ({"decoding": "mask"}, "--decoding does not go with --perplexity"),
        ({"engine": "transformers"}, "--engine does not go with --perplexity"),
        ({"model": None}, "--perplexity needs a MODEL"),
    ],
)
def test_what_has_no_effect_is_refused(texts: Path, tiny_model: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_command(Request(**{"model": str(tiny_model), "perplexity": str(texts)} | wrong))  # type: ignore[arg-type]


def test_texts_of_one_token_are_nothing_to_predict(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "short.jsonl").write_text('{"text": "a", "language": "en"}\n')
    with pytest.raises(UserError, match="no text in en has two tokens"):
        measure_perplexity(PerplexityRequest(model=str(tiny_model), texts=str(tmp_path / "short.jsonl")))


def test_a_conversation_is_not_measured_by_its_last_question(tmp_path: Path, tiny_model: Path) -> None:
    messages = [{"role": "user", "content": "일본의 통화는?"}, {"role": "assistant", "content": "엔입니다."}]
    rows = [{"prompt": "일본의 통화는?", "language": "ko"}, {"messages": messages, "language": "ko"}]
    file = tmp_path / "conversations.jsonl"
    for kept in (rows[1:], rows):
        file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        with pytest.raises(UserError, match=rf"conversations.jsonl line {len(kept)}: a conversation, expected a text"):
            measure_perplexity(PerplexityRequest(model=str(tiny_model), texts=str(file)))


def test_damaged_weights_are_reported_in_one_line(texts: Path, tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(tiny_model, copy)
    (copy / "model.safetensors").write_bytes(b"xx")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        measure_perplexity(PerplexityRequest(model=str(copy), texts=str(texts)))
    assert "\n" not in str(caught.value)
