"""Files are written completely or not at all, and a folder has one writer."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.files import atomic_write, disk_errors, lock_folder, read_json, write_json


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, 1)
    with pytest.raises(OSError, match="full"), atomic_write(file) as partial:
        partial.write_text("half")
        raise OSError("the disk is full")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and file.read_text() == "1\n"


def test_two_processes_may_write_the_same_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, replace = tmp_path / "a.json", os.replace

    def replace_after_another_process(source: Path, target: Path) -> None:
        with monkeypatch.context() as other_process:
            other_process.setattr(os, "replace", replace)
            other_process.setattr(os, "getpid", lambda: 1)
            write_json(file, {"by": "another"})
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_after_another_process)
    write_json(file, {"by": "me"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and read_json(file) == {"by": "me"}


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "5", "[" * 100_000, "\udcff"])
def test_a_file_that_is_not_a_json_object_is_a_value_error(content: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"JSON|nested|codec|Expecting|property"):
        read_json(file)


def test_a_full_disk_is_reported_in_one_line() -> None:
    message = r"^cannot write the result: .*; free space there or make it writable, then resume$"
    with pytest.raises(ResourceError, match=message), disk_errors("the result", ", then resume"):
        Path("/dev/full").write_text("anything")


def try_to_lock(folder: Path) -> str:
    try:
        with lock_folder(folder):
            return "locked"
    except UserError as error:
        return str(error)


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as other:
        with lock_folder(tmp_path):
            assert "another process writes into" in other.apply(try_to_lock, [tmp_path])
        assert other.apply(try_to_lock, [tmp_path]) == "locked"


def test_a_folder_without_write_permission_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()  # instead of a file mode, which root may ignore
    message = r"^cannot write to .*; free space there or make it writable$"
    with pytest.raises(ResourceError, match=message), lock_folder(tmp_path):
        pass
