"""`tlpo doctor --ask`: two engines answer the same prompts, and say whose the confusion is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.small_run import LOCAL, run_config
from tlpo_ray.cli import app
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import ConfigError, JudgeError, UserError
from tlpo_ray.evaluation.judge import read_answers
from tlpo_ray.run.backends import (
    Backend,
    BackendComparison,
    BackendReport,
    ConfusedAnswers,
    Origin,
    compare_backends,
)


@pytest.fixture
def config(tiny_model: Path, prompts: Path, tmp_path: Path) -> RunConfig:
    return run_config(tiny_model, prompts, tmp_path / "run", **LOCAL)


def another(config: RunConfig, **changes: Any) -> Backend:
    return Backend(engine="transformers", model=config.model.model_copy(update=changes))


def damaged(model: Path, folder: Path) -> Path:
    """Return a copy of a model of which one layer's weights are noise, as after a wrong conversion."""
    copy = shutil.copytree(model, folder)
    tensors = load_file(copy / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name, tensor in tensors.items():
        if "layers.1." in name:
            tensors[name] = torch.randn(tensor.shape, generator=generator)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.mark.slow
def test_the_same_model_twice_gives_the_same_answers_and_the_confusion_is_the_models(config: RunConfig) -> None:
    comparison = compare_backends(config, answers=12, against=another(config))
    one, other = comparison.backends
    assert (one.greedy, one.sampled) == (other.greedy, other.sampled)
    assert one.greedy.answers == one.sampled.answers == comparison.equal_greedy == 12
    assert comparison.first_parting is None and comparison.largest_logp_difference < 1e-5
    assert comparison.probes > 12 and comparison.prompts_skipped == 0
    assert one.total.confused > 0 and comparison.origin is Origin.MODEL
    assert comparison.verdict.startswith("the confusion comes from the model: ") and comparison.verdict.endswith(
        "; train"
    )
    assert json.loads(json.dumps(comparison.to_json()))["origin"] == "model"


@pytest.mark.slow
def test_damaged_weights_are_noticed(config: RunConfig, tiny_model: Path, tmp_path: Path) -> None:
    other = another(config, path=str(damaged(tiny_model, tmp_path / "damaged")))
    comparison = compare_backends(config, answers=12, against=other)
    assert not comparison.computes_the_same and comparison.logp_difference > 1
    parting = comparison.first_parting
    assert parting is not None and parting.answers[0] != parting.answers[1]
    assert comparison.equal_greedy < 12
    assert "the engines do not compute the same: log-probabilities" in comparison.verdict
    assert str(tmp_path / "damaged") in comparison.backends[1].name


@pytest.mark.slow
def test_another_data_type_is_noticed_where_the_run_asks_for_exactness(config: RunConfig) -> None:
    comparison = compare_backends(config, answers=12, against=another(config, dtype="bfloat16"))
    assert comparison.tolerance == 1e-4 < comparison.logp_difference < 1
    assert not comparison.computes_the_same
    loose = config.model_copy(update={"flow": config.flow.model_copy(update={"canary_tolerance": 1.0})})
    assert compare_backends(loose, answers=4, against=another(config, dtype="bfloat16")).computes_the_same


@pytest.mark.slow
def test_the_command_compares_transformers_with_vllm(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    settings = [f"model.path={tiny_model}", f"data.prompts={prompts}", f"folder={tmp_path / 'run'}"]
    settings += ["rollout.max_new_tokens=8", *(f"{name}={value}" for name, value in LOCAL.items())]
    done = CliRunner().invoke(app, ["doctor", "quickstart", *settings, "--ask", "--answers", "4", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert [backend["name"] for backend in found["backends"]] == ["transformers", "vLLM"]
    assert found["equal_greedy"] == 4 and found["largest_logp_difference"] < 1e-3
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_command_shows_a_table_and_the_verdict(
    tiny_model: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlpo_ray.run.backends.OTHER_ENGINE", {"transformers": "transformers"})
    settings = [f"model.path={tiny_model}", f"data.prompts={prompts}", f"folder={tmp_path / 'run'}"]
    settings += ["rollout.max_new_tokens=8", *(f"{name}={value}" for name, value in LOCAL.items())]
    done = CliRunner().invoke(app, ["doctor", "quickstart", *settings, "--ask", "--answers", "4"])
    assert done.exit_code == 0, done.output
    assert "4 of 4 greedy answers are identical\n" in done.output
    assert "nats apart on average" in done.output and done.output.rstrip().endswith("; train")


@pytest.mark.slow
def test_answers_outlast_a_detector_that_fails(config: RunConfig, moody: Path) -> None:
    detector = config.detector.model_copy(update={"name": "moody"})
    with pytest.raises(JudgeError, match="RuntimeError: the service is down; the sampled answers are in ") as caught:
        compare_backends(config.model_copy(update={"detector": detector}), answers=2, against=another(config))
    file = Path(str(caught.value).rpartition("--answers ")[2].removesuffix(" judges them"))
    assert len(read_answers(file, None)) == 8
    shutil.rmtree(file.parent)


def test_asking_needs_prompts_a_model_and_both_engines(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"data\.prompts is not set"):
        compare_backends(config.model_copy(update={"data": config.data.model_copy(update={"prompts": ""})}))
    for arguments, problem in (
        (["--ask"], "--ask needs a YAML file or a preset"),
        (["quickstart", "--ask"], "the quickstart makes its own"),
        (["--json"], "--answers and --json go with --ask"),
    ):
        done = CliRunner().invoke(app, ["doctor", *arguments])
        assert isinstance(done.exception, UserError) and problem in str(done.exception)
    monkeypatch.setattr("tlpo_ray.run.backends.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="vLLM is not installed"):
        compare_backends(config)


def comparison_of(one: int, other: int, answers: int, difference: float = 0.0) -> BackendComparison:
    """Return a comparison in which so many sampled answers of each engine are confused."""

    def report(name: str, confused: int) -> BackendReport:
        counted = ConfusedAnswers(confused=confused, answers=answers)
        return BackendReport(name=name, greedy=ConfusedAnswers(confused=0, answers=answers), sampled=counted)

    return BackendComparison(
        backends=(report("vLLM", one), report("transformers", other)), temperature=0.6, equal_greedy=0,
        first_parting=None, logp_difference=difference, largest_logp_difference=difference, probes=1, tolerance=0.1,
        prompts_skipped=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "difference", "origin", "begins", "contains"),
    [
        (
            20,
            22,
            0.0,
            Origin.MODEL,
            "the confusion comes from the model: 15.6% of the answers of vLLM and 17.2% of",
            "train",
        ),
        (
            20,
            22,
            0.5,
            Origin.MODEL,
            "the confusion comes from the model",
            "do not compute the same: log-probabilities of the",
        ),
        (20, 0, 0.5, Origin.BACKEND, "the confusion comes from the backend", "check how vLLM computes it: data type"),
        (0, 20, 0.0, Origin.BACKEND, "the confusion comes from the backend", "check how transformers computes it"),
        (
            60,
            5,
            0.5,
            Origin.BOTH,
            "the model confuses languages, and vLLM more often than transformers",
            "check how vL",
        ),
        (0, 0, 0.0, Origin.NEITHER, "nothing to repair: none of the answers is confused, which", "at most 2.9%"),
        (0, 0, 0.5, Origin.NEITHER, "nothing to repair", "the engines do not compute the same"),
        (2, 0, 0.5, Origin.UNCERTAIN, "uncertain", "ask more with --answers"),
        (2, 0, 0.0, Origin.MODEL, "the confusion comes from the model", "train"),
    ],
)
def test_the_verdict(one: int, other: int, difference: float, origin: Origin, begins: str, contains: str) -> None:
    comparison = comparison_of(one, other, 64, difference)
    assert comparison.origin is origin
    assert comparison.verdict.startswith(begins) and contains in comparison.verdict
    assert len(comparison.verdict.splitlines()) == 1
