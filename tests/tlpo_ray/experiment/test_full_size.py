"""A plan with a target, as for a model of full size: here on a tiny one, through the same commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tlpo_ray.commands.experiment import experiment_command
from tlpo_ray.config.yaml_text import dump_document
from tlpo_ray.errors import ConfigError, TlpoError, UserError
from tlpo_ray.experiment import full_size
from tlpo_ray.experiment.full_size import _arguments, run_commands, trial_commands
from tlpo_ray.experiment.plan import Trial, load_plan

QUESTIONS = ["일본의 통화는 무엇입니까?", "태국의 통화는 무엇입니까?", "일본의 수도는 어디입니까?", "엔은 무엇입니까?"]


@pytest.fixture
def plan(tmp_path: Path, tiny_model: Path) -> Path:
    prompts = [
        {"id": str(number), "language": "ko", "prompt": text, "output": "엔입니다."}
        for number, text in enumerate(QUESTIONS)
    ]
    write_lines(tmp_path / "prompts.jsonl", prompts)
    lcb = [
        {"id": str(number), "task": "monolingual", "source": "own", "language": "ko", "prompt": text}
        for number, text in enumerate(QUESTIONS[:2])
    ]
    write_lines(tmp_path / "lcb.jsonl", lcb)
    write_lines(tmp_path / "gsm8k.jsonl", [{"question": "What is 1 + 1?", "answer": "It is 2.\n#### 2"}])
    write_lines(tmp_path / "texts.jsonl", [{"text": text, "language": "ko"} for text in QUESTIONS])
    preset = {
        "extends": "quickstart", "name": "tiny", "stack": "local",
        "model": {"path": str(tiny_model), "max_context": 256}, "data": {"prompts": str(tmp_path / "prompts.jsonl")},
        "rollout": {"engine": "transformers", "max_new_tokens": 8},
        "learner": {"engine": "torch", "num_ranks": 1, "groups_per_update": 2},
    }  # fmt: skip
    (tmp_path / "preset.yaml").write_text(dump_document(preset))
    written = {
        "name": "own", "title": "A model of one's own", "seeds": [0],
        "target": {
            "preset": str(tmp_path / "preset.yaml"), "settings": ["data.languages=[ko]"],
            "suites": {"lcb-monolingual": str(tmp_path / "lcb.jsonl")}, "engine": "transformers", "limit": 1,
            "max_new_tokens": 32, "accuracy": "gsm8k_cross_ko", "accuracy_source": str(tmp_path / "gsm8k.jsonl"),
            "temperature": 0.5, "perplexity": str(tmp_path / "texts.jsonl"),
        },
        "variants": [
            {"name": "baseline", "label": "before", "method": "none"},
            {"name": "tlpo", "label": "TLPO"},
            {"name": "tlpo-retry", "label": "TLPO + retry", "decoding": "retry"},
            {"name": "sft", "label": "SFT", "method": "sft",
             "settings": ["answers.reference_field=output", "trainer.max_length=128"]},
        ],
    }  # fmt: skip
    file = tmp_path / "plan.yaml"
    file.write_text(dump_document(written))
    return file


def write_lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.slow
def test_every_method_is_trained_and_evaluated_and_nothing_is_done_twice(plan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    experiment_command(str(plan), [], folder, None, None, None)
    results = {row["variant"]: row for row in rows(folder)}
    assert results.keys() == {"baseline", "tlpo", "tlpo-retry", "sft"}
    for name, row in results.items():
        metrics = row["metrics"]
        assert (metrics["length"] > 0 and {"seconds", "tokens"} <= metrics.keys()) or name == "baseline"
        assert ("accuracy" in metrics) == ("perplexity" in metrics) == (name != "tlpo-retry"), (
            "measured of weights once"
        )
        assert name == "tlpo-retry" or 0 <= metrics["accuracy"] <= 1 < metrics["perplexity"] == metrics["perplexity_ko"]
        run = folder / "runs" / row["run"]
        judged = json.loads((run / "lcb-monolingual" / "result.json").read_text("utf-8"))
        assert metrics.get("rpr") == judged["rpr"] and judged["prompts_answered"] == 1
        assert judged["temperature"] == 0.5 and judged["english"] == "neutral"
        assert judged["decoding"] == ("retry" if name == "tlpo-retry" else "plain")
    assert results["tlpo-retry"]["metrics"]["seconds"] == results["tlpo"]["metrics"]["seconds"]
    models = [folder / "runs" / run / "train" / "model" / "model.safetensors" for run in ("tlpo-0", "tlpo-retry-0")]
    assert models[0].samefile(models[1]), "trained once"
    log = (folder / "runs" / "tlpo-0" / "log.txt").read_text("utf-8")
    assert [line.split()[2] for line in log.splitlines() if line.startswith("$ tlpo")][:2] == ["train", "evaluate"]
    assert "A model of one&#39;s own" in (folder / "report" / "report.html").read_text("utf-8")

    # An evaluation is lost: it alone is repeated, with the model that exists.
    # Its answers exist, so they are not sampled again.
    run = folder / "runs" / "tlpo-0"
    (run / "lcb-monolingual" / "result.json").unlink()
    model = (run / "train" / "model" / "model.safetensors").stat().st_mtime_ns
    steps = json.loads((run / "steps.json").read_text("utf-8"))
    del steps["seconds"]["lcb-monolingual"]
    (run / "steps.json").write_text(json.dumps(steps))
    (run / "trial.json").unlink()
    experiment_command(str(plan), [], folder, None, None, None)
    assert (run / "train" / "model" / "model.safetensors").stat().st_mtime_ns == model
    last = [line for line in (run / "log.txt").read_text("utf-8").splitlines() if line.startswith("$ tlpo")][-1]
    assert last.split()[2:5] == ["evaluate", "--answers", str(run / "lcb-monolingual.answers.jsonl")]
    repeated = {row["variant"]: row["metrics"].get("rpr") for row in rows(folder)}
    assert repeated["tlpo"] == results["tlpo"]["metrics"].get("rpr")


@pytest.mark.slow
def test_a_command_that_fails_is_reported_with_its_last_line(plan: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    suite = f"target.suites.lcb-monolingual={tmp_path}/empty.jsonl"
    with pytest.raises(TlpoError) as caught:
        experiment_command(str(plan), [suite], tmp_path / "out", None, None, None)
    assert "trial baseline-0 failed (and 3 more)" in str(caught.value)
    assert f"--suite lcb-monolingual --source {tmp_path}/empty.jsonl" in str(caught.value)
    assert "no prompt in language 'ko'" in str(caught.value)


def test_jobs_do_not_go_with_a_target(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="own has a target"):
        experiment_command(str(plan), [], tmp_path / "out", 2, None, None)


def test_a_wrong_preset_is_reported_once_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"qwen3-8b-kp: no preset .* did you mean qwen3-8b-ko"):
        experiment_command("paper", ["target.preset=qwen3-8b-kp"], tmp_path / "out", None, None, None)
    assert not (tmp_path / "out").exists()


def test_the_paper_s_comparison_trains_every_method_and_evaluates_every_suite() -> None:
    plan = load_plan("paper", ["target.preset=gemma-3-4b-ja", "target.suites.lcb-crosslingual=lcb"])
    assert plan.target is not None
    commands = {trial.variant: trial_commands(trial, plan.target, Path("out")) for trial in plan.trials()}
    assert list(commands["baseline"]) == [*plan.target.suites, "accuracy"]
    assert {name: steps["train"][:2] for name, steps in commands.items() if "train" in steps} == {
        "tlpo": ["train", "gemma-3-4b-ja"],
        **{name: ["baseline", name.partition("-")[0]] for name in ("sft", "sft-own", "dpo", "orpo", "grpo")},
    }
    confusing = load_plan("paper", ["target.preset=gemma-3-4b-ja", "target.settings=[detector.english=confusion]"])
    assert confusing.target is not None
    evaluation = trial_commands(next(confusing.trials()), confusing.target, Path("out"))["mif"]
    assert evaluation[evaluation.index("--english") + 1] == "confusion", "judged as it was trained"
    evaluation = commands["tlpo"]["lcb-crosslingual"]
    assert evaluation[:2] == ["evaluate", "out/train/model"]
    assert evaluation[evaluation.index("--language") + 1] == "ja"
    assert evaluation[evaluation.index("--source") + 1] == "lcb"


def test_what_a_failed_step_has_sampled_is_moved_aside_and_never_removed(tmp_path: Path) -> None:
    command = ["evaluate", "model", "--suite", "mif", "--output", str(tmp_path / "mif")]
    assert _arguments("mif", command, tmp_path) == command
    (tmp_path / "mif").mkdir()
    (tmp_path / "mif" / "answers.jsonl").write_text("kept")
    for _ in range(2):  # the answers may be judged in vain more than once
        continued = ["evaluate", "--answers", f"{tmp_path}/mif.answers.jsonl", "--output", f"{tmp_path}/mif"]
        assert _arguments("mif", command, tmp_path) == continued
        assert (tmp_path / "mif.answers.jsonl").read_text() == "kept" and not (tmp_path / "mif").exists()
    (tmp_path / "accuracy" / "sampled").mkdir(parents=True)
    (tmp_path / "accuracy" / "sampled" / "samples_mif_ko.jsonl").write_text("kept")
    assert _arguments("accuracy", command, tmp_path) == command
    assert (tmp_path / "accuracy.sampled" / "samples_mif_ko.jsonl").read_text() == "kept"
    (tmp_path / "train.answers.jsonl").write_text("those of a baseline, which it finds itself")
    assert _arguments("train", ["baseline"], tmp_path) == ["baseline"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "target.suites.lcb-monolingual=gone.jsonl",
            "target.suites.lcb-monolingual: gone.jsonl: no such file or folder",
        ),
        ("target.suites.lcb=null", "target.suites: lcb: expected one of lcb-monolingual"),
        ("target.perplexity=gone/texts.jsonl", "target.perplexity: gone/texts.jsonl: no such file or folder"),
        ("target.accuracy_source=./gone", "target.accuracy_source: ./gone: no such file or folder"),
    ],
)
def test_what_an_evaluation_lacks_is_reported_before_anything_is_trained(
    plan: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment_command(str(plan), [override], tmp_path / "out", None, None, None)
    assert not (tmp_path / "out").exists()


class Commands:
    """Stands for the commands of trials: each leaves what `tlpo` would, with a number of its own."""

    def __init__(self) -> None:
        self.run: list[str] = []

    def __call__(self, arguments: Sequence[str], log: Path, deadline_s: float) -> float:
        self.run.append(arguments[0] if arguments[0] == "train" else arguments[arguments.index("--output") + 1])
        if arguments[0] == "train":
            output = Path(next(each for each in arguments if each.startswith("folder=")).partition("=")[2])
            (output / "model").mkdir(parents=True)
            (output / "model" / "weights").write_text(str(len(self.run)))
            (output / "result.json").write_text('{"tokens_generated": 5}')
            return 7.0
        output = Path(self.run[-1])
        output.mkdir()
        sampled = {"tokens_sampled": 20, "tokens": 20, "seconds": 1.0, "interventions": 0, "mean_tokens": 2.0}
        decoding = arguments[arguments.index("--decoding") + 1] if "--decoding" in arguments else "plain"
        found = {"rpr": 1.0, "wpr": 1.0, "decoding": decoding, **sampled, "perplexity": 1.5, "by_language": []}
        (output / "result.json").write_text(json.dumps(found))
        (output / "answers.jsonl").write_text("")
        return 1.0

    def names(self) -> list[str]:
        """Return the steps that were run since the last call."""
        names, self.run = [Path(each).name for each in self.run], []
        return names


def test_a_training_that_was_removed_is_linked_again_or_repeated_with_its_evaluations(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands()
    monkeypatch.setattr(full_size, "_run", commands)
    own = load_plan(str(plan), ["target.accuracy=''"])
    assert own.target is not None
    tlpo, retry = (trial for trial in own.trials() if trial.method == "tlpo")
    folders = tmp_path / "runs" / "tlpo-0", tmp_path / "runs" / "tlpo-retry-0"

    def run(trial: Trial, folder: Path) -> dict[str, float]:
        assert own.target is not None
        return run_commands(trial, own.target, folder, 60)["metrics"]

    run(tlpo, folders[0])
    assert commands.names() == ["train", "lcb-monolingual", "perplexity"]
    metrics = run(retry, folders[1])
    assert commands.names() == ["lcb-monolingual"], "trained once"
    assert metrics["interventions"] == 0, "none at all is a number, too"
    assert metrics["seconds"] == 7

    # One of the linked folders is removed, and an evaluation with it: the other one gives its model back.
    for step in ("train", "perplexity"):
        shutil.rmtree(folders[0] / step)
    assert "interventions" not in run(tlpo, folders[0])
    assert commands.names() == ["perplexity"]
    assert (folders[0] / "train/model/weights").samefile(folders[1] / "train/model/weights")

    # Both are gone: other weights are trained, and what the first ones have reached says nothing about them.
    for folder in folders:
        shutil.rmtree(folder / "train")
    run(tlpo, folders[0])
    assert commands.names() == ["train", "lcb-monolingual", "perplexity"]
