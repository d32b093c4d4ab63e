"""A run goes on only with the detector that it has learned with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from detectors import build_detector
from tests.records import make_group
from tlpo_ray.config.load import dump_config, load_config
from tlpo_ray.flow.errors import UserError
from tlpo_ray.flow.exchange import Snapshot
from tlpo_ray.flow.records import encode
from tlpo_ray.journal import Journal, State
from tlpo_ray.resume import resumed_config


def learned(folder: Path, versions: list[str], *settings: str) -> None:
    """A run of one update for each version of its detector."""
    config = load_config("quickstart", ["model.path=a", "data.prompts=b", f"folder={folder}", *settings])
    (folder / "config.yaml").write_text(dump_config(config))
    journal = Journal(folder / "journal")
    for number, version in enumerate(versions, 1):
        groups = [replace(make_group(index), detector_version=version) for index in range(2)]
        journal.keep_groups(number, encode(groups))
        snapshot = Snapshot(state={}, queue=encode([]))
        journal.commit(State(version=number, progress=0.1, exchange=snapshot, tally={}))


def test_of_the_same_version_a_run_goes_on(tmp_path: Path) -> None:
    learned(tmp_path, [])
    resumed_config(tmp_path, [])
    learned(tmp_path, ["0", build_detector("language", "ko").version])
    assert resumed_config(tmp_path, []).folder == tmp_path


def test_another_version_is_one_line(tmp_path: Path) -> None:
    learned(tmp_path, ["0"])
    with pytest.raises(
        UserError, match=r"^the run has learned with version 0 of the detector \w+ for ko, and here is "
    ):
        resumed_config(tmp_path, [])


def test_a_file_of_terms_that_has_changed_is_another_version(tmp_path: Path) -> None:
    terms = tmp_path / "terms.txt"
    terms.write_text("synergy\n")
    settings = {"file": str(terms)}
    before = build_detector("terms", "ko", "neutral", settings).version
    learned(tmp_path, [before], "detector.name=terms", f"detector.settings.file={terms}")
    resumed_config(tmp_path, [])
    terms.write_text("leverage\n")
    with pytest.raises(UserError, match=f"with version {before} of the detector terms for ko"):
        resumed_config(tmp_path, [])
