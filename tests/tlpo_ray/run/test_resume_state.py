"""A run is resumed only with the detector that it has learned with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from detectors import build_detector
from tests.records import make_group
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.errors import UserError
from tlpo_ray.flow.exchange import Snapshot
from tlpo_ray.flow.records import encode
from tlpo_ray.run.journal import Journal, State
from tlpo_ray.run.resume import last_state


def make_journal(folder: Path, versions: list[str]) -> Journal:
    """Write a journal with one update per version of the detector."""
    journal = Journal(folder / "journal")
    for number, version in enumerate(versions, 1):
        groups = [replace(make_group(index), detector_version=version) for index in range(2)]
        journal.write_groups(number, encode(groups))
        snapshot = Snapshot(state={}, queue=encode([]))
        journal.commit(State(version=number, progress=0.1, exchange=snapshot, counters={}))
    return journal


def test_a_run_is_resumed_with_the_same_version(tmp_path: Path) -> None:
    assert last_state(make_journal(tmp_path, []), DetectorConfig()) is None
    state = last_state(make_journal(tmp_path, ["0", build_detector("language", "ko").version]), DetectorConfig())
    assert state is not None and state.version == 2


def test_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, ["0"])
    with pytest.raises(
        UserError, match=r"^the run was trained with version 0 of the detector \w+ for ko, but .+ is installed: "
    ):
        last_state(journal, DetectorConfig())


def test_a_changed_file_of_terms_is_another_version(tmp_path: Path) -> None:
    terms = tmp_path / "terms.txt"
    terms.write_text("synergy\n")
    detector = DetectorConfig(name="terms", settings={"file": str(terms)})
    before = build_detector("terms", "ko", "neutral", detector.settings).version
    journal = make_journal(tmp_path, [before])
    last_state(journal, detector)
    terms.write_text("leverage\n")
    with pytest.raises(UserError, match=f"with version {before} of the detector terms for ko"):
        last_state(journal, detector)


def test_a_damaged_state_causes_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    version = build_detector("language", "ko").version
    journal = make_journal(tmp_path, [version, version])
    (tmp_path / "journal" / "state-00000002.json").write_text("{}")
    state = last_state(journal, DetectorConfig())
    assert state is not None and state.version == 1
    assert len(caplog.records) == 1
