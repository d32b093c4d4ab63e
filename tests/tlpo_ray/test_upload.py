"""What a job takes along to a cluster."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tlpo_ray.config.load import load_config
from tlpo_ray.errors import ConfigError, UserError
from tlpo_ray.jobs.upload import CONFIG, MAX_UPLOAD_MIB, Job, new_run, resumed_run

SHARED = "/shared/runs/korean"
TLPO = Path(sys.executable).with_name("tlpo")


@pytest.fixture
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder that a user submits from: two files of the same name, and a model."""
    for name in ("questions", "terms"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ko.jsonl").write_text(f'{{"prompt": "{name}"}}\n')
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def submitted(upload: Path, *settings: str, name: str = "qwen3-8b-ko") -> Job:
    upload.mkdir()
    return new_run(name, [f"folder={SHARED}", *settings], upload)


def called(job: Job, tools: Path, tlpo: str) -> subprocess.CompletedProcess[str]:
    """Run a job's command as the cluster does, with another program in place of `tlpo`."""
    tools.mkdir()
    (tools / "tlpo").write_text(tlpo)
    (tools / "tlpo").chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(
        job.command, shell=True, cwd=job.upload, env=environment, capture_output=True, text=True, timeout=100
    )


def test_relative_files_are_uploaded_and_kept_in_the_run_folder(work_folder: Path) -> None:
    """Run the job's command in the upload, with a `tlpo` that prints its arguments."""
    job = submitted(
        work_folder / "upload", "data.prompts=questions/ko.jsonl", "detector.name=terms",
        "detector.settings={file: terms/ko.jsonl}", f"folder={work_folder}/my runs/a",
    )  # fmt: skip
    assert job.name == "qwen3-8b-ko" and job.folder == work_folder / "my runs" / "a"
    done = called(job, work_folder / "bin", '#!/bin/sh\necho "$@"\n')
    assert (done.returncode, done.stdout) == (0, f"train {CONFIG}\n"), done.stderr
    assert job.upload is not None
    config = load_config(str(job.upload / CONFIG), [])
    assert Path(config.data.prompts).read_text() == '{"prompt": "questions"}\n'
    assert Path(str(config.detector.settings["file"])).read_text() == '{"prompt": "terms"}\n'
    assert config.folder == job.folder


def test_the_inputs_of_another_run_are_not_changed(work_folder: Path) -> None:
    """The real `tlpo train` refuses the folder, and nothing in it may have changed until then."""
    folder = work_folder / "my runs" / "a"
    kept = folder / "inputs" / "data" / "ko.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_text("of the other run")
    (folder / "config.yaml").touch()
    job = submitted(work_folder / "upload", "data.prompts=questions/ko.jsonl", f"folder={folder}")
    done = called(job, work_folder / "bin", f'#!/bin/sh\nexec {shlex.quote(str(TLPO))} "$@"\n')
    assert done.returncode == 2 and "already holds a run" in done.stderr
    assert kept.read_text() == "of the other run"


def test_a_folder_of_prompts_is_uploaded_completely(work_folder: Path) -> None:
    job = submitted(work_folder / "upload", "data.prompts=questions")
    assert job.upload is not None
    assert (job.upload / "inputs" / "data" / "questions" / "ko.jsonl").is_file()


def test_files_of_the_cluster_are_not_uploaded(work_folder: Path) -> None:
    job = submitted(work_folder / "upload", f"data.prompts={work_folder}/questions/ko.jsonl")
    assert job.upload is not None
    assert [file.name for file in job.upload.iterdir()] == [CONFIG]
    assert job.command == f"exec tlpo train {CONFIG}"


def test_a_quickstart_uploads_nothing(work_folder: Path) -> None:
    job = submitted(work_folder / "upload", "flow.max_staleness=1", name="quickstart")
    assert job.upload is None
    assert shlex.split(job.command) == ["tlpo", "quickstart", f"folder={SHARED}", "flow.max_staleness=1"]


@pytest.mark.parametrize("name", [None, "quickstart", "qwen3-8b-ko"])
def test_a_run_is_resumed(name: str | None) -> None:
    job = resumed_run(name, Path(SHARED), ["learner.num_ranks=2"])
    typed = [name] if name and name != "quickstart" else []
    assert shlex.split(job.command) == ["exec", "tlpo", "train", "--resume", SHARED, *typed, "learner.num_ranks=2"]


def test_a_file_that_cannot_be_uploaded_is_one_line(work_folder: Path) -> None:
    with pytest.raises(UserError, match="folder runs/x is relative: a job needs a run folder that all nodes see"):
        submitted(work_folder / "a", "folder=runs/x")
    with pytest.raises(UserError, match=r"model\.path model is a folder of this machine: copy it"):
        submitted(work_folder / "b", "model.path=model")
    with pytest.raises(UserError, match="files of this machine are not uploaded with a quickstart: copy what"):
        submitted(work_folder / "e", "data.prompts=questions/ko.jsonl", name="quickstart")
    with pytest.raises(ConfigError, match=r"learner\.rank"):
        submitted(work_folder / "c", "learner.rank=2")
    with (work_folder / "questions" / "large.jsonl").open("wb") as large:
        large.truncate((MAX_UPLOAD_MIB + 1) << 20)
    with pytest.raises(UserError, match=f"questions has 101 MiB, and at most {MAX_UPLOAD_MIB} are uploaded with a job"):
        submitted(work_folder / "d", "data.prompts=questions")
