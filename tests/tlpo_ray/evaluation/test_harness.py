"""lm-eval in both directions: our task files run on a tiny model, and its sample logs judged like our own answers."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import detectors
from actors.chat import prompt_ids
from tlpo_ray.commands.evaluate import Request, evaluate_command
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import JudgeError, UserError
from tlpo_ray.evaluation.harness import TASKS, _with_stop_strings, load_tasks, paper_tasks, read_log
from tlpo_ray.evaluation.harness_model import language_model, model_arguments
from tlpo_ray.evaluation.judge import read_answers
from tlpo_ray.evaluation.suites import SUITES, read_items
from tlpo_ray.flow.tokenizer import load_tokenizer

PACKAGES = {package.metadata["Name"] for package in metadata.distributions()}


def sample(doc_id: int, answer: str, doc: dict[str, Any], filtered: str = "none") -> str:
    row = {"doc_id": doc_id, "doc": doc, "resps": [[answer]], "filtered_resps": [answer], "filter": filtered}
    return json.dumps(row, ensure_ascii=False) + "\n"


def log(folder: Path, task: str, lines: list[str], date: str = "2026-01-01T00-00-00.000001") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"samples_{task}_{date}.jsonl"
    file.write_text("".join(lines), encoding="utf-8")
    return file


def problem(number: int) -> dict[str, str]:
    return {"question": f"{number} and {number}?", "answer": f"… #### {2 * number}"}


def test_an_answer_logged_for_several_filters_counts_once(tmp_path: Path) -> None:
    lines = [sample(0, "답은 2", problem(1), name) for name in ("strict-match", "flexible-extract")]
    log(tmp_path, "gsm8k_platinum_mix_ko", lines)
    (answer,) = read_log(tmp_path, ())
    assert (answer.answer, answer.item.language, answer.item.reference) == ("답은 2", "ko", "2")


def test_every_answer_of_a_log_is_read(tmp_path: Path) -> None:
    """A task with `repeats` has several answers to a document, and no document may lack a line of the filter read."""
    repeated = json.loads(sample(1, "답은 4", problem(2))) | {"resps": [["답은 4", "답은 5", "답은 4"]]}
    file = log(tmp_path, "gsm8k_cross_ko", [sample(0, "답은 2", problem(1)), json.dumps(repeated) + "\n"])
    assert [(answer.item.id, answer.sample, answer.answer) for answer in read_log(file, ())] == [
        ("0", 0, "답은 2"), ("1", 0, "답은 4"), ("1", 1, "답은 5"), ("1", 2, "답은 4"),
    ]  # fmt: skip
    file.write_text(sample(0, "답은 2", problem(1)) + sample(1, "답은 4", problem(2), "other"), encoding="utf-8")
    with pytest.raises(UserError, match="document 1 has no line with the filter 'none'"):
        read_log(file, ())
    file.write_text(sample(0, "답은 2", problem(1)) + '{"doc_id": 1}\n', encoding="utf-8")
    with pytest.raises(UserError, match="document 1 has no line with the filter 'none'"):
        read_log(file, ())


def test_answers_that_the_paper_does_not_judge_are_left_out(tmp_path: Path) -> None:
    english = {"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "en"}], "prompt": "…"}
    plain = {"instruction_id_list": [], "kwargs": [], "prompt": "…"}
    log(tmp_path, "mif_ko", [sample(0, "a", english), sample(67, "b", plain), sample(68, "c", plain)])
    log(tmp_path, "mif_en", [sample(0, "d", plain)])
    log(tmp_path, "arc_challenge_chat", [sample(0, "e", {})])
    assert [answer.answer for answer in read_log(tmp_path, ("ko",))] == ["c"]


def test_the_latest_log_of_a_task_counts(tmp_path: Path) -> None:
    log(tmp_path / "model", "lcb_monolingual_ko", [sample(0, "전", {"prompt": "…"})])
    log(tmp_path / "model", "lcb_monolingual_ko", [sample(0, "후", {"prompt": "…"})], "2026-01-02T00-00-00.000001")
    assert [answer.answer for answer in read_log(tmp_path, ())] == ["후"]
    log(tmp_path / "other", "lcb_monolingual_ko", [sample(0, "누구", {"prompt": "…"})])
    with pytest.raises(UserError, match=r"lcb_monolingual_ko is in .*model and .*other; give one of them"):
        read_log(tmp_path, ())


def test_other_tasks_are_read_by_name_and_need_a_language(tmp_path: Path) -> None:
    log(tmp_path, "my_task", [sample(0, "안녕하세요", {"question": "…"})])
    (answer,) = read_log(tmp_path, ("ko",), ("my_task",))
    assert answer.item.language == "ko"
    with pytest.raises(UserError, match="--task my_task: its name does not contain a language"):
        read_log(tmp_path, (), ("my_task",))
    with pytest.raises(UserError, match="no sample log"):
        read_log(tmp_path, ("ko",))


def test_a_damaged_log_is_reported_in_one_line(tmp_path: Path) -> None:
    for content in ('{"doc": {}}\n', "{\n", "[]\n"):
        file = log(tmp_path, "mif_ko", [content])
        with pytest.raises(UserError, match="not a sample log of lm-eval") as caught:
            read_log(file, ())
        assert len(str(caught.value).splitlines()) == 1
        assert str(caught.value).count(file.name) == 1


@pytest.mark.slow
def test_lm_eval_knows_all_tasks_of_the_paper() -> None:
    from lm_eval.tasks import TaskManager

    known = TaskManager(include_path=str(TASKS)).all_tasks
    for language in ("ko", "zh", "ja", "ar"):
        assert set(paper_tasks(language)) <= set(known)


@pytest.mark.parametrize("tasks", [["gsm8k_cross_ko", "mmmlu_KO_KR"], ["arc_challenge_chat"]])
def test_a_source_is_the_data_of_one_suite(tasks: list[str]) -> None:
    with pytest.raises(UserError, match="--source gives the data of a single built-in suite"):
        load_tasks(tasks, "transformers", "x")


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    lines = [json.dumps(problem(number)) + "\n" for number in range(1, 5)]
    (folder / "test.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def test_an_engine_that_lm_eval_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match="--engine sglang: lm-eval runs models with vllm or transformers") as caught:
        load_tasks(["gsm8k_cross_ko"], "sglang")
    assert len(str(caught.value).splitlines()) == 1


def test_unicode_line_separators_in_an_answer_do_not_end_a_line_of_a_log(tmp_path: Path) -> None:
    answer = "하나\u2028둘\u2029셋\u0085넷"
    log(tmp_path, "lcb_monolingual_ko", [sample(0, answer, {"prompt": "…"}), sample(1, "다섯", {"prompt": "…"})])
    assert [read.answer for read in read_log(tmp_path, ())] == [answer, "다섯"]


@pytest.mark.skipif(
    "vllm" in {package.metadata["Name"] for package in metadata.distributions()}, reason="vllm is installed"
)
def test_vllm_under_another_package_name_is_refused() -> None:
    with pytest.raises(UserError, match="use --engine transformers"):
        load_tasks(["gsm8k_cross_ko"], "vllm")


def test_data_of_ours_that_cannot_be_loaded_are_reported_in_one_line() -> None:
    with pytest.raises(UserError, match="the hub dataset cannot be loaded") as caught:
        load_tasks(["gsm8k_cross_ko"], "transformers")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "expected"),
    [("arc_challenge_chat", "its data cannot be loaded"), ("gsm8k_cross_kr", "neither a task of lm-eval nor one of")],
)
def test_a_task_that_cannot_run_is_reported_in_one_line(task: str, expected: str) -> None:
    with pytest.raises(UserError, match=f"--accuracy {task}: {expected}") as caught:
        load_tasks([task], "transformers")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_a_log_of_lm_eval_is_judged_like_our_own_answers(tiny_model: Path, problems: Path, tmp_path: Path) -> None:
    """The same greedy model through lm-eval and through us gives the same prompts, answers, rates and accuracy."""
    shared: dict[str, Any] = {
        "model": str(tiny_model), "source": str(problems), "engine": "transformers", "max_new_tokens": 24,
    }  # fmt: skip
    evaluate_command(Request(**shared, accuracy="gsm8k_cross_ko", output=tmp_path / "lm-eval"))
    evaluate_command(Request(**shared, suite="gsm8k-cross", languages=("ko",), output=tmp_path / "own"))
    evaluate_command(Request(lm_eval=tmp_path / "lm-eval", output=tmp_path / "read"))

    own, read = (
        [json.loads(line) for line in (tmp_path / name / "answers.jsonl").read_text("utf-8").splitlines()]
        for name in ("own", "read")
    )
    assert len(own) == 4
    for field in ("prompt", "answer", "reference", "status", "words"):
        assert [row[field] for row in read] == [row[field] for row in own], field
    ours, theirs = (json.loads((tmp_path / name / "result.json").read_text("utf-8")) for name in ("own", "read"))
    for rate in ("rpr", "wpr", "line_pass_rate", "accuracy", "answers", "failed"):
        assert theirs[rate] == ours[rate], rate
    scores = json.loads((tmp_path / "lm-eval" / "result.json").read_text("utf-8"))["accuracy"]
    assert scores["gsm8k_cross_ko"]["exact_match,flexible-extract"] == ours["accuracy"]
    again = detectors.pass_rates([row["answer"] for row in read], detectors.language("ko"))
    assert again.rpr == theirs["rpr"]


def test_task_files_have_the_prompts_of_the_suites(problems: Path, tmp_path: Path) -> None:
    """lm-eval's own task objects on local copies of the data."""
    options = {"A": "1", "B": "2", "C": "3", "D": "4"}
    row = {"Question": "뼈는 몇 개?", **options, "Answer": "B", "Subject": "anatomy"}
    (tmp_path / "KO_KR.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    for task, suite, source, language in (
        ("gsm8k_cross_ko", "gsm8k-cross", problems, "ko"),
        ("gsm8k_cross_ar", "gsm8k-cross", problems, "ar"),
        ("mmmlu_KO_KR", "mmmlu", tmp_path / "KO_KR.jsonl", "ko"),
    ):
        loaded = load_tasks([task], "transformers", str(source)).load(task)["tasks"][task]
        expected = read_items(SUITES[suite], str(source), (language,)).items
        assert [loaded.doc_to_text(doc) for doc in loaded.test_docs()] == [item.prompt for item in expected]
        assert [loaded.doc_to_target(doc) for doc in loaded.test_docs()] == [item.reference for item in expected]
        sampling = loaded.config.generation_kwargs
        assert sampling["max_gen_toks"] == SUITES[suite].max_new_tokens
        assert sampling.get("temperature", 0.0) == SUITES[suite].temperature


PARTS = (
    "Today is {{ strftime_now('%Y-%m-%d') }}.\n{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for part in m.content %}{{ part.text }}{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
SETTINGS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "a template of one's own, stop strings": (
        None, {"prompt_template": "질문: {prompt}\n답변:", "stop_strings": ["の", "円", "엔"]}
    ),
    "a chat template that expects parts, a date": (PARTS, {"date": "2020-01-02", "system_prompt": "한국어로."}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_lm_eval_asks_as_rollouts_do(kind: str, tiny_model: Path, problems: Path, tmp_path: Path) -> None:
    template, settings = SETTINGS[kind]
    model = shutil.copytree(tiny_model, tmp_path / "model")
    if template is not None:
        (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    like = tmp_path / "like.yaml"
    like.write_text(json.dumps({"model": settings}), encoding="utf-8")
    shared: dict[str, Any] = {
        "model": str(model), "source": str(problems), "engine": "transformers", "max_new_tokens": 24, "like": str(like),
    }  # fmt: skip
    evaluate_command(Request(**shared, accuracy="gsm8k_cross_ko", output=tmp_path / "lm-eval"))
    evaluate_command(Request(**shared, suite="gsm8k-cross", languages=("ko",), output=tmp_path / "own"))
    (log_file,) = (tmp_path / "lm-eval").rglob("samples_*.jsonl")
    logged = [json.loads(line) for line in log_file.read_text("utf-8").splitlines()]
    own = [json.loads(line) for line in (tmp_path / "own" / "answers.jsonl").read_text("utf-8").splitlines()]
    configured = ModelConfig(path=str(model), **{"stop_strings": ()} | settings)
    tokenizer = load_tokenizer(configured)
    assert len(own) == len(logged) == 4
    for row, theirs in zip(own, sorted(logged, key=lambda sample: int(sample["doc_id"])), strict=True):
        asked = theirs["arguments"]["gen_args_0"]["arg_0"]
        assert tokenizer(asked, add_special_tokens=False)["input_ids"] == prompt_ids(
            tokenizer, configured, row["prompt"]
        )
        assert theirs["resps"][0][0] == row["answer"]
    if "date" in settings:
        assert asked.startswith("Today is 2020-01-02.\n")
    else:
        assert any(row["tokens"] < 24 for row in own), "a stop string ended an answer"


def test_stop_strings_are_added_to_those_of_tasks(problems: Path) -> None:
    manager = load_tasks(["gsm8k_cross_ko"], "transformers", str(problems))
    (task,) = _with_stop_strings(manager, ["gsm8k_cross_ko"], ("\n\n",))
    plain = manager.load("gsm8k_cross_ko")["tasks"]["gsm8k_cross_ko"].config.generation_kwargs
    assert task.config.generation_kwargs == plain | {"until": [*plain["until"], "\n\n"]}


GENERATION: dict[str, dict[str, Any]] = {
    "a penalty": {"repetition_penalty": 3.0},
    "repeated n-grams": {"no_repeat_ngram_size": 1},
    "forbidden tokens": {"suppress_tokens": list(range(3, 400, 2))},
    "tokens forbidden at the start": {"begin_suppress_tokens": list(range(3, 400, 2))},
    "forbidden words": {"bad_words_ids": [[token] for token in range(3, 400, 2)]},
    "favoured words": {"sequence_bias": [[[7], 1000.0]]},
    "a forced end": {"forced_eos_token_id": 0, "max_length": 30},
    "a growing end": {"exponential_decay_length_penalty": [1, 50.0]},
    "fewer tokens": {"max_new_tokens": 3},
    "beams": {"num_beams": 3, "length_penalty": 2.0},
    "sampling": {"do_sample": True, "temperature": 9.0, "top_k": 3, "top_p": 0.5, "min_p": 0.4, "typical_p": 0.3},
}
"""Settings of a model's generation_config that transformers applies to greedy decoding unless they are overruled."""


def with_generation(model: Path, folder: Path, settings: dict[str, Any]) -> Path:
    """Return a copy of a model whose generation_config has these settings."""
    copy = shutil.copytree(model, folder)
    file = copy / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | settings), encoding="utf-8")
    return copy


def greedy_answers(path: Path) -> list[str]:
    """Return the answers of lm-eval's model to two prompts."""
    from lm_eval.api.instance import Instance

    model = ModelConfig(path=str(path), dtype="float32", max_context=128)
    asked = language_model(model, "transformers", model_arguments(model, "transformers", 0))
    options = {"until": [], "do_sample": False, "max_gen_toks": 24}
    requests = [Instance("generate_until", {}, (prompt, options), 0) for prompt in ("일본의 통화는", "태국의")]
    return list(asked.generate_until(requests, disable_tqdm=True))


@pytest.mark.slow
def test_no_setting_of_a_models_generation_config_changes_lm_evals_answers(tiny_model: Path, tmp_path: Path) -> None:
    plain = greedy_answers(tiny_model)
    assert all(len(answer) > 3 for answer in plain)
    for number, (kind, settings) in enumerate(GENERATION.items()):
        assert greedy_answers(with_generation(tiny_model, tmp_path / str(number), settings)) == plain, kind


@pytest.mark.slow
def test_lm_eval_and_suites_give_the_same_answers_whatever_the_generation_config(
    tiny_model: Path, problems: Path, tmp_path: Path
) -> None:
    settings = {"repetition_penalty": 3.0, "no_repeat_ngram_size": 2, "do_sample": True, "top_k": 5, "max_length": 40}
    shared: dict[str, Any] = {
        "model": str(with_generation(tiny_model, tmp_path / "model", settings)), "source": str(problems),
        "engine": "transformers", "max_new_tokens": 24,
    }  # fmt: skip
    evaluate_command(Request(**shared, accuracy="gsm8k_cross_ko", output=tmp_path / "lm-eval"))
    evaluate_command(Request(**shared, suite="gsm8k-cross", languages=("ko",), output=tmp_path / "own"))
    read = [answer.answer for answer in read_log(tmp_path / "lm-eval", ())]
    own = [answer.answer for answer in read_answers(tmp_path / "own", None)]
    assert len(own) == 4 and read == own
    assert not (tmp_path / "lm-eval" / "sampled").exists(), "answers that were scored are in lm-eval's own log"


@pytest.mark.slow
def test_the_end_of_text_tokens_of_a_generation_config_still_end_an_answer(tiny_model: Path, tmp_path: Path) -> None:
    (_, second) = greedy_answers(tiny_model)
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_model)))
    ends = tokenizer(second, add_special_tokens=False)["input_ids"][0]
    stopped = greedy_answers(with_generation(tiny_model, tmp_path / "stopped", {"eos_token_id": [2, ends]}))
    assert len(stopped[1]) < len(second)
    longer = {"eos_token_id": [2, ends], "min_new_tokens": 24}
    assert greedy_answers(with_generation(tiny_model, tmp_path / "longer", longer)) == stopped


@pytest.mark.slow
def test_vllm_in_lm_eval_takes_no_sampling_from_the_generation_config(tiny_model: Path, tmp_path: Path) -> None:
    from vllm.engine.arg_utils import EngineArgs

    model = with_generation(tiny_model, tmp_path / "model", {"repetition_penalty": 3.0, "top_k": 5})
    arguments = model_arguments(ModelConfig(path=str(model)), "vllm", 0)

    def sampling(generation_config: str) -> dict[str, Any]:
        made = EngineArgs(model=str(model), generation_config=generation_config).create_model_config()
        return dict(made.get_diff_sampling_param())

    assert sampling("auto") == {"repetition_penalty": 3.0, "top_k": 5}
    assert sampling(arguments["generation_config"]) == {}


@pytest.mark.parametrize(
    ("language", "answer", "score"),
    [("ar", "الجواب النهائي هو ١٬٢٣٤.", 1.0), ("zh", "答案是１，２３４。", 1.0), ("ko", "답은 1,235", 0.0)],
)
def test_lm_evals_task_reads_numbers_as_the_suite_does(
    language: str, answer: str, score: float, tmp_path: Path
) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps({"question": "?", "answer": "#### 1,234"}) + "\n", encoding="utf-8")
    name = f"gsm8k_cross_{language}"
    task = load_tasks([name], "transformers", str(file)).load(name)["tasks"][name]
    (document,) = task.test_docs()
    assert task.process_results(document, [answer]) == {"exact_match": score}


@pytest.mark.slow
def test_answers_of_lm_eval_outlast_a_scorer_that_fails(
    tiny_model: Path, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(answer: str, reference: str, language: str) -> bool:
        raise KeyError("xx")

    monkeypatch.setitem(SUITES, "gsm8k-cross", replace(SUITES["gsm8k-cross"], correct=fail))
    asked: dict[str, Any] = {
        "model": str(tiny_model), "source": str(problems), "engine": "transformers", "max_new_tokens": 8,
        "accuracy": "gsm8k_cross_ko",
    }  # fmt: skip
    for output in (tmp_path / "out", None):
        with pytest.raises(JudgeError, match=r"the answer to .* of gsm8k-cross in ko cannot be judged: KeyE") as caught:
            evaluate_command(Request(**asked, output=output))
        (folder,) = re.findall(r"the sampled answers are in (\S+): tlpo evaluate --lm-eval", str(caught.value))
        monkeypatch.undo()
        assert [answer.item.id for answer in read_log(Path(folder), ("ko",))] == ["0", "1", "2", "3"]
        evaluate_command(Request(lm_eval=Path(folder), output=tmp_path / "again" / str(output is None)))
        monkeypatch.setitem(SUITES, "gsm8k-cross", replace(SUITES["gsm8k-cross"], correct=fail))
        if output is None:
            shutil.rmtree(folder)
