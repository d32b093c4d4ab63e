"""What a job takes with it to a cluster."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tlpo_ray.config.load import load_config
from tlpo_ray.errors import ConfigError, UserError
from tlpo_ray.jobs.upload import CONFIG, MOST_MIB, Job, new_run, resumed_run

SHARED = "/shared/runs/korean"
TLPO = Path(sys.executable).with_name("tlpo")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a user submits from: two files of one name, and a model."""
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
    """What the cluster does with a job, with a program in the place of `tlpo`."""
    tools.mkdir()
    (tools / "tlpo").write_text(tlpo)
    (tools / "tlpo").chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(
        job.command, shell=True, cwd=job.upload, env=environment, capture_output=True, text=True, timeout=100
    )


def test_relative_files_travel_and_lie_in_the_run_folder(here: Path) -> None:
    """The command that the cluster runs is run here, in the upload, with a `tlpo` that shows what it was given."""
    job = submitted(
        here / "upload", "data.prompts=questions/ko.jsonl", "detector.name=terms",
        "detector.settings={file: terms/ko.jsonl}", f"folder={here}/my runs/a",
    )  # fmt: skip
    assert job.name == "qwen3-8b-ko" and job.folder == here / "my runs" / "a"
    done = called(job, here / "bin", '#!/bin/sh\necho "$@"\n')
    assert (done.returncode, done.stdout) == (0, f"train {CONFIG}\n"), done.stderr
    assert job.upload is not None
    config = load_config(str(job.upload / CONFIG), [])
    assert Path(config.data.prompts).read_text() == '{"prompt": "questions"}\n'
    assert Path(str(config.detector.settings["file"])).read_text() == '{"prompt": "terms"}\n'
    assert config.folder == job.folder


def test_the_inputs_of_another_run_stay_as_they_are(here: Path) -> None:
    """The real `tlpo train` refuses the folder, and nothing in it has changed until then."""
    folder = here / "my runs" / "a"
    kept = folder / "inputs" / "data" / "ko.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_text("of the other run")
    (folder / "config.yaml").touch()
    job = submitted(here / "upload", "data.prompts=questions/ko.jsonl", f"folder={folder}")
    done = called(job, here / "bin", f'#!/bin/sh\nexec {shlex.quote(str(TLPO))} "$@"\n')
    assert done.returncode == 2 and "holds a run already" in done.stderr
    assert kept.read_text() == "of the other run"


def test_a_folder_of_prompts_travels_whole(here: Path) -> None:
    job = submitted(here / "upload", "data.prompts=questions")
    assert job.upload is not None
    assert (job.upload / "inputs" / "data" / "questions" / "ko.jsonl").is_file()


def test_what_the_cluster_has_itself_does_not_travel(here: Path) -> None:
    job = submitted(here / "upload", f"data.prompts={here}/questions/ko.jsonl")
    assert job.upload is not None
    assert [file.name for file in job.upload.iterdir()] == [CONFIG]
    assert job.command == f"exec tlpo train {CONFIG}"


def test_a_quickstart_takes_nothing(here: Path) -> None:
    job = submitted(here / "upload", "flow.max_staleness=1", name="quickstart")
    assert job.upload is None
    assert shlex.split(job.command) == ["tlpo", "quickstart", f"folder={SHARED}", "flow.max_staleness=1"]


@pytest.mark.parametrize("name", [None, "quickstart", "qwen3-8b-ko"])
def test_a_run_goes_on_where_it_was(name: str | None) -> None:
    job = resumed_run(name, Path(SHARED), ["learner.num_ranks=2"])
    named = [name] if name and name != "quickstart" else []
    assert shlex.split(job.command) == ["exec", "tlpo", "train", "--resume", SHARED, *named, "learner.num_ranks=2"]


def test_what_cannot_travel_is_one_line(here: Path) -> None:
    with pytest.raises(UserError, match="folder runs/x is relative: a job needs a run folder that all nodes see"):
        submitted(here / "a", "folder=runs/x")
    with pytest.raises(UserError, match=r"model\.path model is a folder of this machine: copy it"):
        submitted(here / "b", "model.path=model")
    with pytest.raises(UserError, match="no files of this machine travel with a quickstart: copy what"):
        submitted(here / "e", "data.prompts=questions/ko.jsonl", name="quickstart")
    with pytest.raises(ConfigError, match=r"learner\.rank"):
        submitted(here / "c", "learner.rank=2")
    with (here / "questions" / "large.jsonl").open("wb") as large:
        large.truncate((MOST_MIB + 1) << 20)
    with pytest.raises(UserError, match=f"questions has 101 MiB, and at most {MOST_MIB} travel with a job"):
        submitted(here / "d", "data.prompts=questions")
