"""lm-eval, really run on a tiny model: its sample log gives the rates that `tlpo evaluate` gives on equal answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tlpo_ray.commands.evaluate import Request, evaluate_command
from tlpo_ray.evaluation.harness import paper_tasks, read_log
from tlpo_ray.flow.errors import UserError

PROBLEMS = [{"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(8)]


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("problems") / "test.jsonl"
    file.write_text("\n".join(json.dumps(problem) for problem in PROBLEMS))
    return file


@pytest.fixture(scope="module")
def logged(problems: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm-eval") / "out"
    evaluate_command(
        Request(
            model=str(tiny_model), accuracy="gsm8k_cross_ko", source=str(problems), engine="transformers",
            max_new_tokens=16, output=folder,
        )
    )  # fmt: skip
    return folder


@pytest.mark.slow
def test_a_sample_log_gives_the_rates_of_the_same_answers_sampled_by_us(
    logged: Path, problems: Path, tiny_model: Path, tmp_path: Path
) -> None:
    evaluate_command(Request(lm_eval=logged, languages=("ko",), output=tmp_path / "theirs"))
    evaluate_command(
        Request(
            model=str(tiny_model), suite="gsm8k-cross", source=str(problems), languages=("ko",), temperature=0.0,
            max_new_tokens=16, engine="transformers", output=tmp_path / "ours",
        )
    )  # fmt: skip
    theirs, ours = (json.loads((tmp_path / name / "result.json").read_text("utf-8")) for name in ("theirs", "ours"))
    assert theirs["answers"] == ours["answers"] == len(PROBLEMS)
    for rate in (
        "rpr",
        "rpr_of_all",
        "wpr",
        "line_pass_rate",
        "failed",
        "empty",
        "words",
        "confused_words",
        "accuracy",
    ):
        assert theirs[rate] == ours[rate], rate
    answers = [
        [json.loads(line)["answer"] for line in (tmp_path / name / "answers.jsonl").read_text("utf-8").splitlines()]
        for name in ("theirs", "ours")
    ]
    assert answers[0] == answers[1] and any(answers[0]), "greedy answers of both engines are the same"


@pytest.mark.slow
def test_kept_answers_are_judged_again_without_a_model(logged: Path, tmp_path: Path) -> None:
    evaluate_command(Request(lm_eval=logged, output=tmp_path / "kept"))
    evaluate_command(Request(answers=tmp_path / "kept", output=tmp_path / "again"))
    first, again = (json.loads((tmp_path / name / "result.json").read_text("utf-8")) for name in ("kept", "again"))
    assert first["by_task"] == again["by_task"]
    rows = (tmp_path / "kept" / "answers.jsonl").read_text("utf-8").splitlines()
    changed = [json.dumps(json.loads(row) | {"answer": "답은 answer 3입니다"}) for row in rows]
    (tmp_path / "english.jsonl").write_text("\n".join(changed))
    for english, failed in (("neutral", 0), ("confusion", len(rows))):
        evaluate_command(Request(answers=tmp_path / "english.jsonl", english=english, output=tmp_path / english))
        assert json.loads((tmp_path / english / "result.json").read_text("utf-8"))["failed"] == failed


def test_a_log_is_read_by_the_paper_s_rules(tmp_path: Path) -> None:
    def sample(number: int, said: str, filtered: str = "none", **doc: object) -> str:
        return json.dumps({"doc_id": number, "doc": doc, "resps": [[said]], "filter": filtered, "target": "B"})

    def log(task: str, *lines: str) -> None:
        (tmp_path / f"samples_{task}_2026-01-01T00-00-00.000000.jsonl").write_text("\n".join(lines))

    asks_english = {"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "en"}]}
    log("mif_ko", sample(1, "하나", prompt="a"), sample(67, "둘", prompt="b"), sample(2, "three", **asks_english))
    log("gsm8k_platinum_mix_ko", sample(0, "넷", "strict-match"), sample(0, "넷", "flexible-extract", answer="#### 4"))
    log("mmmlu_KO_KR", sample(0, "정답: B", Question="q", Answer="B"))
    log("arc_challenge_chat", sample(0, "A"))
    log("mif_ja", sample(0, "五"))
    answers = read_log(tmp_path, ["ko"])
    assert sorted(one.answer for one in answers) == sorted(["하나", "넷", "정답: B"])
    assert {one.item.reference for one in answers} == {"", "4", "B"}
    assert [one.answer for one in read_log(tmp_path, [], ["mif_ja"])] == ["五"]


def test_a_wrong_log_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sample log of LCB, MIF, MMMLU or GSM8K-cross in ko"):
        read_log(tmp_path, ["ko"])
    (tmp_path / "samples_mif_ko_2026-01-01T00-00-00.jsonl").write_text('{"doc": 1}')
    with pytest.raises(UserError, match="not a sample log of lm-eval"):
        read_log(tmp_path, ["ko"])


@pytest.mark.slow
def test_an_unknown_task_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="--accuracy gsm9k: neither a task of lm-eval nor one of ours"):
        evaluate_command(Request(model=str(tiny_model), accuracy="gsm9k", engine="transformers"))


@pytest.mark.slow
def test_all_of_the_paper_s_tasks_are_known_to_lm_eval_or_ours() -> None:
    from lm_eval.tasks import TaskManager

    from tlpo_ray.evaluation.harness import TASKS

    known = set(TaskManager(include_path=str(TASKS)).all_tasks)
    for language in ("ko", "zh", "ja", "ar"):
        assert set(paper_tasks(language)) <= known
