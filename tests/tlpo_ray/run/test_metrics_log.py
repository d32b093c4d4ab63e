"""The metrics log: what it keeps, what it drops, and what happens on a full disk."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from tlpo_ray.errors import ResourceError
from tlpo_ray.run.metrics_log import MetricsLog, truncate_metrics

DISK_FULL = OSError(28, "No space left on device")


def test_the_log_takes_kept_metrics_and_refuses_others(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    with MetricsLog(file, tmp_path / "tensorboard") as log:
        log.write(1, {"loss": 0.5})
        log.write(2, {"loss": 0.25})
        for unknown in ("eta", "los"):
            with pytest.raises(KeyError, match=rf"does not keep: \['{unknown}'\]"):
                log.write(3, {unknown: 1.0})
    truncate_metrics(file, 1)
    assert [json.loads(line)["loss"] for line in file.read_text().splitlines()] == [0.5]


@pytest.mark.parametrize("line", ["null", "5", '{"stap": 1}', '{"step": "1"}', '{"step": 1e999}', '{"step": 2, "lo'])
def test_damaged_lines_are_dropped(line: str, tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n{{"step": 4}}\n')
    truncate_metrics(file, 3)
    assert file.read_text() == '{"step": 1}\n{"step": 3}\n'


def test_a_log_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"^cannot write metrics to .*; free space there or make it writable$"):
        MetricsLog(tmp_path / "file" / "metrics.jsonl", tmp_path / "tensorboard")
    with pytest.raises(ResourceError, match=r"^cannot write metrics to .*; free space there or make it writable$"):
        MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "file" / "tensorboard")
    log = MetricsLog(Path("/dev/full"), tmp_path / "tensorboard")
    message = r"^cannot write metrics to /dev/full: .*; free space there or make it writable$"
    with pytest.raises(ResourceError, match=message):
        log.write(1, {"loss": 0.5})


def test_events_that_cannot_be_written_are_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard")
    message = (
        r"^cannot write metrics to .*tensorboard: .*No space left on device; free space there or make it writable$"
    )
    for name, act in (("add_event", lambda: log.write(1, {"loss": 0.5})), ("close", log.close)):
        with monkeypatch.context() as full:
            full.setattr(log._events, name, Mock(side_effect=DISK_FULL))
            with pytest.raises(ResourceError, match=message):
                act()
    log._events.close()
