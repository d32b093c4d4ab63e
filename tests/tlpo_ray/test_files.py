"""Files appear whole or not at all, and a folder has one writer."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.files import held, read_json, replacing, write_json, written


def test_a_file_that_could_not_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, 1)
    with pytest.raises(OSError, match="full"), replacing(file) as partial:
        partial.write_text("half")
        raise OSError("the disk is full")
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"] and file.read_text() == "1\n"


def test_two_processes_may_write_one_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, replace = tmp_path / "a.json", os.replace

    def meanwhile(one: Path, other: Path) -> None:
        with monkeypatch.context() as another:
            another.setattr(os, "replace", replace)
            another.setattr(os, "getpid", lambda: 1)
            write_json(file, {"by": "another"})
        replace(one, other)

    monkeypatch.setattr(os, "replace", meanwhile)
    write_json(file, {"by": "me"})
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"] and read_json(file) == {"by": "me"}


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "5", "[" * 100_000, "\udcff"])
def test_what_is_no_json_object_is_a_value_error(content: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"JSON|nested|codec|Expecting|property"):
        read_json(file)


def test_a_full_disk_is_one_line() -> None:
    told = r"^cannot write the result: .*; free space there or make it writable, then go on$"
    with pytest.raises(ResourceError, match=told), written("the result", ", then go on"):
        Path("/dev/full").write_text("anything")


def hold(folder: Path) -> str:
    try:
        with held(folder):
            return "held"
    except UserError as error:
        return str(error)


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as other:
        with held(tmp_path):
            assert "another process works in" in other.apply(hold, [tmp_path])
        assert other.apply(hold, [tmp_path]) == "held"


def test_a_folder_that_is_closed_to_this_process_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()  # no mode keeps root out
    told = r"^cannot write to .*; free space there or make it writable$"
    with pytest.raises(ResourceError, match=told), held(tmp_path):
        pass
