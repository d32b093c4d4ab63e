"""The journal: what counts, what is pruned, what is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.flow.exchange import Snapshot
from tlpo_ray.flow.records import encode
from tlpo_ray.run.journal import Journal, State


def make_journal(folder: Path, versions: int) -> Journal:
    journal = Journal(folder)
    for version in range(1, versions + 1):
        journal.write_groups(version, f"groups of {version}".encode())
        snapshot = Snapshot(state={"v": version}, queue=encode([]))
        journal.commit(State(version=version, progress=version / 10, exchange=snapshot, counters={"sampled": version}))
    return journal


def test_the_last_state_is_read_back_unchanged(tmp_path: Path) -> None:
    assert Journal(tmp_path / "none").last() is None
    state = make_journal(tmp_path, 3).last()
    assert state is not None
    assert (state.version, state.progress, state.exchange.state, state.counters) == (3, 0.3, {"v": 3}, {"sampled": 3})


def test_an_update_without_its_state_does_not_count(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, 2)
    journal.write_groups(3, b"killed before its update was over")
    state = journal.last()
    assert state is not None and state.version == 2


def test_updates_are_read_in_order_with_their_groups(tmp_path: Path) -> None:
    found = list(make_journal(tmp_path, 4).updates(1, 4))
    assert [(update.version, update.groups, update.progress) for update in found] == [
        (version, f"groups of {version}".encode(), version / 10) for version in (2, 3, 4)
    ]


def test_updates_that_a_checkpoint_holds_are_pruned_except_the_last_states(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, 5)
    journal.prune(2)
    assert [update.version for update in journal.updates(2, 5)] == [3, 4, 5]
    message = r"begins with policy version 3, and all checkpoints, .* are damaged or missing"
    with pytest.raises(UserError, match=message):
        list(journal.updates(1, 5))
    (tmp_path / "groups-00000004.arrow").unlink()
    with pytest.raises(UserError, match="policy version 4 cannot be repeated"):
        list(journal.updates(2, 5))
    journal.prune(5)
    assert sorted(file.name for file in tmp_path.glob("state-*")) == ["state-00000004.json", "state-00000005.json"]


def test_a_journal_without_an_intact_state_is_reported(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, 2)
    for file in tmp_path.glob("state-*"):
        file.write_text("{}")
    with pytest.raises(UserError, match=r"none of the 2 states in .* is intact"):
        journal.last()


def test_a_folder_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = r"cannot write the journal .*; free space there or make it writable, then resume with"
    with pytest.raises(ResourceError, match=told):
        Journal(tmp_path / "file" / "journal")
