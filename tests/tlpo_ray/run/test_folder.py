"""The run folder: who may use it, and what happens to damaged files in it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.records import make_group
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import UserError
from tlpo_ray.flow.exchange import Snapshot
from tlpo_ray.flow.records import encode, read_experiences
from tlpo_ray.run.folder import RunFolder, is_quickstart
from tlpo_ray.run.journal import State
from tlpo_ray.run.training import resume_training


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return load_config("quickstart", ["model.path=m", "data.prompts=p", f"folder={tmp_path / 'run'}"])


def write_updates(config: RunConfig, versions: range) -> None:
    """Write a folder with one group per update, each in an experiences file of its own."""
    with RunFolder(config) as folder:
        for version in versions:
            groups = encode([make_group(version)])
            folder.journal.write_groups(version, groups)
            snapshot = Snapshot(state={}, queue=encode([]))
            folder.journal.commit(State(version=version, progress=0.1, exchange=snapshot, counters={}))
            folder.keep_experiences(version, groups)
            folder.flush_experiences()


def learned(folder: Path) -> list[int]:
    return [group.prompt_index for group in read_experiences(folder / "experiences")]


def test_experiences_beyond_the_state_are_taken_from_the_journal(config: RunConfig) -> None:
    write_updates(config, range(1, 5))
    with RunFolder(config, 3):
        assert sorted(file.name for file in (config.folder / "experiences").iterdir()) == [
            f"until-{version:08d}.parquet" for version in (1, 2, 3)
        ]
    assert learned(config.folder) == [1, 2, 3]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet"])
def test_a_damaged_experiences_file_does_not_stop_a_run(
    content: bytes, config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    write_updates(config, range(1, 4))
    damaged = config.folder / "experiences" / "until-00000002.parquet"
    damaged.write_bytes(content)
    with caplog.at_level(logging.WARNING), RunFolder(config, 3):
        pass
    assert damaged.read_bytes() == content
    (record,) = caplog.records
    assert "is damaged and left as it is" in record.message


def test_two_runs_never_share_a_folder(config: RunConfig) -> None:
    write_updates(config, range(1, 2))
    with pytest.raises(UserError, match="holds a run"):
        RunFolder(config)


def test_a_quickstart_is_not_resumed_without_its_comparison(config: RunConfig) -> None:
    with RunFolder(config, quickstart=True):
        pass
    with pytest.raises(UserError, match="is a quickstart, which ends with a comparison: use resume_quickstart"):
        resume_training(config.folder)


def test_a_quickstart_that_was_stopped_as_it_began_leaves_no_mark_on_the_next_run(config: RunConfig) -> None:
    with RunFolder(config, quickstart=True):
        assert is_quickstart(config.folder)
    (config.folder / "config.yaml").unlink()  # it is written last
    with RunFolder(config):
        assert not is_quickstart(config.folder)
