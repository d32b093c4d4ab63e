"""Conversations through a complete run: asked as transformers renders them, resumed, evaluated, paired, held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.small_run import LOCAL, PROMPTS, run_config, write_prompts
from tests.tiny import TEXT
from tests.tlpo_ray.run.test_prompt_settings import StopAt, asked, with_template
from tlpo_ray.baselines.examples import build_examples
from tlpo_ray.baselines.pairs import make_pairs
from tlpo_ray.baselines.rendering import Rendering
from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.load import build_config
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.data.prompts import read_prompts
from tlpo_ray.data.requests import PairsRequest
from tlpo_ray.errors import PromptFileError, StoppedError, UserError
from tlpo_ray.evaluation.evaluate import EvaluateRequest, evaluate
from tlpo_ray.evaluation.judge import read_answers
from tlpo_ray.flow.tokenizer import load_tokenizer
from tlpo_ray.progress import ProgressListener
from tlpo_ray.quickstart.held_out import read_held_out
from tlpo_ray.quickstart.held_out import write_prompts as write_held_out
from tlpo_ray.run.training import resume_training, run_training

SYSTEM = {"role": "system", "content": "짧게."}
ASKED = {"role": "user", "content": "일본의 통화는 무엇입니까?"}
ANSWERED = {"role": "assistant", "content": "엔입니다."}


def messages_of(number: int) -> list[dict[str, str]]:
    language = number % 3
    question = f"{TEXT[(0, 2, 4)[language]][: 12 + number % 5]}{number}?"
    return [SYSTEM, ASKED, ANSWERED, {"role": "user", "content": question}]


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Return a folder with the prompts of a small run: conversations, and some single texts."""
    rows: list[dict[str, Any]] = [
        {"id": f"c{number}", "language": ("ko", "ja", "ar")[number % 3], "messages": [*messages_of(number), ANSWERED]}
        for number in range(PROMPTS)
    ]
    (tmp_path / "chats").mkdir()
    file = tmp_path / "chats" / "chats.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    write_prompts(tmp_path / "chats" / "texts.jsonl")
    return tmp_path / "chats"


class Notes(StopAt):
    """Stops a run at a policy version, and keeps what it notes."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.slow
def test_a_run_asks_conversations_as_transformers_renders_them(tiny_model: Path, chats: Path, tmp_path: Path) -> None:
    folder, notes = tmp_path / "run", Notes(2)
    config = run_config(tiny_model, chats, folder, **LOCAL, **{"model.max_context": 160})
    with pytest.raises(StoppedError):
        run_training(config, progress=notes)
    assert f"{PROMPTS} prompts: ends with an answer, which is left out" in notes.lines
    # Another answer before the question makes it another prompt.
    file = chats / "chats.jsonl"
    before = file.read_text("utf-8")
    file.write_text(before.replace("엔입니다", "원입니다"), encoding="utf-8")
    with pytest.raises(UserError, match="the prompts differ from those that the run was started with"):
        resume_training(folder)
    file.write_text(before, encoding="utf-8")
    accounting = resume_training(folder).accounting.as_json()
    assert accounting["total"] == 2 * PROMPTS and accounting["skipped"] == {}

    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_model)))
    possible = {
        tokenizer.apply_chat_template(messages_of(number), add_generation_prompt=True, tokenize=False)
        for number in range(PROMPTS)
    }
    contexts = [text for text in asked(folder, tiny_model) if text.startswith("<|im_start|>system")]
    assert len(contexts) > 3 and set(contexts) <= possible


@pytest.mark.slow
def test_a_run_names_the_first_prompt_that_its_template_refuses(tiny_model: Path, chats: Path, tmp_path: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('No system prompt, please') }}{% endif %}"
    model = with_template(tiny_model, tmp_path / "model", f"{template}{{{{ messages[-1].content }}}}")
    with pytest.raises(PromptFileError) as caught:
        run_training(run_config(model, chats, tmp_path / "run", **LOCAL))
    assert f"{chats / 'chats.jsonl'} line 1: prompt 'c0' (system, user, assistant, user) cannot be asked: " in str(
        caught.value
    )
    assert "No system prompt, please" in str(caught.value) and not (tmp_path / "run").exists()
    # The others can be asked.
    skipping = run_config(model, chats, tmp_path / "run", **LOCAL, **{"data.skip_bad": "true"})
    accounting = run_training(skipping).accounting.as_json()
    assert accounting["total"] == 2 * PROMPTS
    assert accounting["skipped"] == {"its chat template refuses the prompt": PROMPTS}


@pytest.mark.slow
def test_answers_to_conversations_are_saved_and_paired(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"id": "same", "messages": messages_of(3 * number), "documents": "円"} for number in range(4)]
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    request = EvaluateRequest(
        model=str(tiny_model), prompts=str(file), languages=("ko",), engine="transformers", max_new_tokens=8, samples=2,
        temperature=1.0,
    )  # fmt: skip
    result = evaluate(request)
    result.write(tmp_path / "answers")
    saved = read_answers(tmp_path / "answers", None)
    assert [answer.item for answer in saved] == [answer.item for answer in result.answers]
    assert saved[0].item.prompt == messages_of(0)[-1]["content"]
    assert saved[0].item.conversation is not None and saved[0].item.conversation.documents == "円"
    # One answer of each conversation is made a clean one, the other a confused one.
    answers = tmp_path / "answers" / "answers.jsonl"
    lines = [json.loads(line) for line in answers.read_text("utf-8").split("\n") if line]
    edited = [{**line, "answer": "엔입니다." if line["sample"] else "єна입니다.", "finished": True} for line in lines]
    answers.write_text("".join(json.dumps(line) + "\n" for line in edited), encoding="utf-8")
    pairs = make_pairs(PairsRequest(answers=answers, language="ko", output=tmp_path / "pairs.jsonl"))
    assert len(pairs.pairs) == 4, "prompts of one id are told apart by their conversations"
    first = json.loads((tmp_path / "pairs.jsonl").read_text("utf-8").split("\n")[0])
    question = messages_of(0)[-1]["content"]
    assert first == {
        "id": "same", "language": "ko",
        "prompt": [*messages_of(0)[:-1], {"role": "user", "content": f"円\n\n{question}"}],
        "chosen": [{"role": "assistant", "content": "엔입니다."}],
        "rejected": [{"role": "assistant", "content": "єна입니다."}],
    }  # fmt: skip


def test_trl_gets_conversations_rendered_with_their_last_answers(tiny_model: Path, chats: Path) -> None:
    def made(method: str, field: str | None) -> Any:
        settings = {
            "name": "t", "folder": "t", "method": method, "trainer": {"lr": 1e-3}, "model": {"path": str(tiny_model)},
            "answers": {"reference_field": field},
            "data": {"prompts": str(chats / "chats.jsonl"), "shuffle": False},
        }  # fmt: skip
        config = build_config(BaselineConfig, settings, source="test")
        return build_examples(config, read_prompts(config.data, 0).prompts, lambda done, total: None)

    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_model)))
    expected = [
        tokenizer.apply_chat_template(messages_of(number), add_generation_prompt=True, tokenize=False)
        for number in range(PROMPTS)
    ]
    end = Rendering(ModelConfig(path=str(tiny_model))).end
    sft = made("sft", "messages")
    assert sft.rows == tuple({"prompt": text, "completion": f"엔입니다.{end}"} for text in expected)
    assert sft.counts == {
        "prompts": PROMPTS,
        "unanswered": 0,
        "used": PROMPTS,
        "not_renderable": 0,
        "prompt_too_long": 0,
    }
    assert [row["prompt"] for row in made("grpo", None).rows] == expected


def test_conversations_are_held_out_complete(tiny_model: Path, chats: Path, tmp_path: Path) -> None:
    # The last messages are the same: what differs is what was said before.
    rows = [
        {"language": "ko", "messages": [*messages_of(number), ANSWERED, {"role": "user", "content": "왜?"}]}
        for number in range(20)
    ]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = write_held_out(run_config(tiny_model, file, tmp_path / "run"), ProgressListener())
    held_out = read_held_out(tmp_path / "run")
    prompts = read_prompts(config.data, 0).prompts
    assert held_out is not None and (len(held_out), len(prompts)) == (4, 16)
    assert len({prompt.key for prompt in (*held_out, *prompts)}) == 20
    assert {prompt.text for prompt in (*held_out, *prompts)} == {"왜?"}
