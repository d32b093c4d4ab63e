"""What a job takes along to a cluster."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from ray._private.runtime_env.packaging import create_package
from ray._private.runtime_env.working_dir import upload_working_dir_if_needed

from tlpo_ray.config.load import load_config
from tlpo_ray.data.prompts import read_prompts
from tlpo_ray.errors import ConfigError, UserError
from tlpo_ray.jobs.upload import ARCHIVE, CONFIG, MAX_UPLOAD_MIB, Job, new_run, resumed_run

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


def arrived(job: Job) -> Path:
    """Return the folder in which a job starts: Ray's own functions pack what is uploaded, and it is unpacked here."""

    assert job.upload is not None
    folder = job.upload.with_name(f"{job.upload.name}-arrived")

    def pack(working_dir: str, excludes: list[str], is_file: bool = False) -> None:
        create_package(working_dir, folder / "package.zip", include_gitignore=True, excludes=excludes)

    folder.mkdir()
    upload_working_dir_if_needed({"working_dir": str(job.upload)}, include_gitignore=True, upload_fn=pack)
    with ZipFile(folder / "package.zip") as package:
        package.extractall(folder / "working_dir")
    return folder / "working_dir"


def called(job: Job, tools: Path, tlpo: str) -> subprocess.CompletedProcess[str]:
    """Run a job's command as the cluster does, with another program in place of `tlpo`."""
    tools.mkdir(exist_ok=True)
    (tools / "tlpo").write_text(tlpo)
    (tools / "tlpo").chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(
        job.command, shell=True, cwd=arrived(job), env=environment, capture_output=True, text=True, timeout=100
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


IGNORED = {".gitignore": "*\n", ".rayignore": "a.jsonl\n", "deep/.gitignore": "!b.jsonl\nb.*\n"}
"""Files by which Ray leaves others out of an upload."""
NEEDED = (
    "a.jsonl",
    "deep/b.jsonl",
    "deep/venv/c.jsonl.gz",  # what a job calls venv, .git and __pycache__ Ray leaves out by itself
    "__pycache__/d.parquet",
    "가나다/" + "긴" * 60 + "/" + "이름" * 30 + ".csv",
    "new\nline.jsonl",
    "not UTF-8 \udcff.jsonl",
    "README.md",
    "saved/state.json",
    "saved/data-00000-of-00001.arrow",
)
UNUSED = (".git/e.jsonl", ".hidden.jsonl", "notes.txt")


def test_everything_that_a_run_reads_arrives(work_folder: Path) -> None:
    """Ray leaves out much of a folder, whereas all files that `tlpo train` would read must arrive."""
    for name in (*NEEDED, *UNUSED, *IGNORED):
        file = work_folder / "questions" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.fsencode(IGNORED.get(name, name)))
    (work_folder / ".gitignore").write_text("*\n")  # of a folder above
    elsewhere = work_folder / "elsewhere" / "f.jsonl"
    elsewhere.parent.mkdir()
    elsewhere.write_text("elsewhere")
    (work_folder / "questions" / "linked").symlink_to(elsewhere.parent)
    (work_folder / "questions" / "back").symlink_to(work_folder / "questions")
    (work_folder / "questions" / "old.jsonl").symlink_to(elsewhere)
    os.utime(work_folder / "questions" / "a.jsonl", (0, 0))  # a ZIP archive begins in 1980
    folder = work_folder / "run"
    job = submitted(work_folder / "upload", "data.prompts=questions", f"folder={folder}")
    done = called(job, work_folder / "bin", "#!/bin/sh\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert job.upload is not None
    kept = Path(load_config(str(job.upload / CONFIG), []).data.prompts)
    files = (file for file in kept.rglob("*") if file.is_file())
    read = {str(file.relative_to(kept)): os.fsdecode(file.read_bytes()) for file in files}
    expected = {name: name for name in NEEDED} | {"ko.jsonl": '{"prompt": "questions"}\n'}
    assert read == expected | {"linked/f.jsonl": "elsewhere", "old.jsonl": "elsewhere"}


def test_the_prompts_of_a_folder_with_a_gitignore_are_all_read(work_folder: Path) -> None:
    for name in ("a", "b-large"):
        lines = "".join(f'{{"prompt": "{name} {number}", "language": "ko"}}\n' for number in range(4))
        (work_folder / "questions" / f"{name}.jsonl").write_text(lines)
    (work_folder / "questions" / "ko.jsonl").unlink()
    (work_folder / "questions" / ".gitignore").write_text("b-large.jsonl\n")
    settings = "data.prompts=questions", "data.prompt_field=prompt", f"folder={work_folder / 'run'}"
    job = submitted(work_folder / "upload", *settings)
    assert called(job, work_folder / "bin", "#!/bin/sh\n").returncode == 0
    assert job.upload is not None
    assert read_prompts(load_config(str(job.upload / CONFIG), []).data, 0).total == 8


@pytest.mark.parametrize("what", ["missing", "cut"])
def test_an_upload_that_does_not_arrive_is_one_line(
    work_folder: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive is left out by Ray, as somebody may set it up, or cut."""
    folder = work_folder / "run"
    job = submitted(work_folder / "upload", "data.prompts=questions", f"folder={folder}")
    assert job.upload is not None
    if what == "missing":
        monkeypatch.setenv("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "*.gz")
    else:
        os.truncate(job.upload / ARCHIVE, 100)
    done = called(job, work_folder / "bin", "#!/bin/sh\necho trained\n")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "did not arrive on the cluster as it was sent: submit the run again" in done.stderr
    assert not (folder / "inputs").exists()


def test_files_of_an_earlier_job_are_not_read(work_folder: Path) -> None:
    """A job that failed before its run began has left its inputs in the folder; one of them is gone since then."""
    (work_folder / "questions" / "ja.jsonl").write_text('{"prompt": "?"}\n')
    settings = ("data.prompts=questions", f"folder={work_folder / 'run'}")
    first = submitted(work_folder / "first", *settings)
    assert called(first, work_folder / "bin", "#!/bin/sh\nexit 2\n").returncode == 2
    (work_folder / "questions" / "ja.jsonl").unlink()
    second = submitted(work_folder / "second", *settings)
    assert called(second, work_folder / "bin", "#!/bin/sh\n").returncode == 0
    assert second.upload is not None
    kept = Path(load_config(str(second.upload / CONFIG), []).data.prompts)
    assert [file.name for file in kept.iterdir()] == ["ko.jsonl"]


def test_the_folder_that_a_run_is_submitted_from_is_uploaded(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work_folder / "questions")
    job = submitted(work_folder / "upload", "data.prompts=.", f"folder={work_folder / 'run'}")
    assert called(job, work_folder / "bin", "#!/bin/sh\n").returncode == 0
    assert job.upload is not None
    assert (Path(load_config(str(job.upload / CONFIG), []).data.prompts) / "ko.jsonl").is_file()


def odd_file(path: Path, kind: str) -> None:
    """Make something that is not a file."""
    match kind:
        case "dangling link":
            path.symlink_to("nowhere.jsonl")
        case "link loop":
            path.symlink_to(path)
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.relpath(path))  # its name has a short limit
        case _:
            raise ValueError(kind)


@pytest.mark.parametrize("kind", ["dangling link", "link loop", "pipe", "socket"])
@pytest.mark.parametrize("where", ["questions", "questions/odd.jsonl"])
def test_what_is_not_a_file_is_one_line(work_folder: Path, kind: str, where: str) -> None:
    odd_file(work_folder / "questions" / "odd.jsonl", kind)
    with pytest.raises(UserError) as caught:
        submitted(work_folder / "upload", f"data.prompts={where}")
    with pytest.raises(UserError) as in_training:
        read_prompts(load_config("qwen3-8b-ko", [f"data.prompts={where}"]).data, 0)
    expected = {
        "dangling link": "a link to nowhere.jsonl, no such file or directory; restore or remove it",
        "link loop": "too many levels of symbolic links; restore or remove it",
    }.get(kind, "not a regular file but a socket, a pipe, a device or a folder; remove or rename it")
    for error in (caught.value, in_training.value):
        assert str(error).startswith("questions/odd.jsonl: ") and str(error).endswith(expected)


def test_odd_files_that_are_no_prompt_files_do_not_matter(work_folder: Path) -> None:
    for kind in ("dangling link", "link loop", "pipe", "socket"):
        odd_file(work_folder / "questions" / kind.replace(" ", "-"), kind)
    job = submitted(work_folder / "upload", "data.prompts=questions")
    assert job.upload is not None and (job.upload / ARCHIVE).is_file()


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


def test_prompts_that_are_missing_are_missed_before_the_job_starts(work_folder: Path) -> None:
    for number, name in enumerate(("questions/jp.jsonl", "./none", "none.csv.gz")):
        with pytest.raises(UserError, match="no such file or folder"):
            submitted(work_folder / f"upload{number}", f"data.prompts={name}", f"folder={work_folder}/a")
    job = submitted(work_folder / "hub", "data.prompts=owner/name", f"folder={work_folder}/a")
    assert job.upload is not None and load_config(str(job.upload / CONFIG), []).data.prompts == "owner/name"


def test_a_file_that_cannot_be_uploaded_is_one_line(work_folder: Path) -> None:
    with pytest.raises(UserError, match="folder runs/x is relative: a job needs a run folder that all nodes see"):
        submitted(work_folder / "a", "folder=runs/x")
    with pytest.raises(UserError, match=r"model\.path model is a folder of this machine: copy it"):
        submitted(work_folder / "b", "model.path=model")
    with pytest.raises(UserError, match="files of this machine are not uploaded with a quickstart: copy what"):
        submitted(work_folder / "e", "data.prompts=questions/ko.jsonl", name="quickstart")
    with pytest.raises(ConfigError, match=r"learner\.rank"):
        submitted(work_folder / "c", "learner.rank=2")
    for name in ("questions", "terms"):  # each alone would be small enough
        with (work_folder / name / "large.jsonl").open("wb") as large:
            large.truncate(MAX_UPLOAD_MIB << 19)
    settings = ("data.prompts=questions/large.jsonl", "detector.name=terms")
    submitted(work_folder / "d", *settings[:1])
    with pytest.raises(UserError) as caught:
        submitted(
            work_folder / "f", "data.prompts=questions", *settings[1:], "detector.settings={file: terms/large.jsonl}"
        )
    assert f"{MAX_UPLOAD_MIB} MiB, and at most {MAX_UPLOAD_MIB} are uploaded with a job: copy" in str(caught.value)
    with pytest.raises(UserError, match="questions: nothing in it names a split"):
        submitted(work_folder / "g", "data.prompts=questions", "data.split=test")
