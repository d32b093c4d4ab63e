"""Every figure has a meaning; the log takes those that it keeps."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from tlpo_ray.errors import ResourceError
from tlpo_ray.flow.metrics import METRICS
from tlpo_ray.run.counters import Pace
from tlpo_ray.run.metrics_log import MetricsLog, truncate_metrics

NO_ROOM = OSError(28, "No space left on device")


def test_every_figure_says_what_it_is_also_where_only_ascii_is_understood() -> None:
    for name, one in METRICS.items():
        assert name.isidentifier() and one.help and one.plain.isascii(), name
        assert one.label is None or not one.kept, f"{name}: the log has one value an update"


def test_the_log_takes_what_it_keeps_and_nothing_else(tmp_path: Path) -> None:
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
def test_lines_that_are_damaged_are_dropped(line: str, tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n{{"step": 4}}\n')
    truncate_metrics(file, 3)
    assert file.read_text() == '{"step": 1}\n{"step": 3}\n'


def test_a_log_without_room_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"^cannot write metrics to .*; free space there or make it writable$"):
        MetricsLog(tmp_path / "file" / "metrics.jsonl", tmp_path / "tensorboard")
    with pytest.raises(ResourceError, match=r"^cannot write metrics to .*; free space there or make it writable$"):
        MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "file" / "tensorboard")
    log = MetricsLog(Path("/dev/full"), tmp_path / "tensorboard")
    told = r"^cannot write metrics to /dev/full: .*; free space there or make it writable$"
    with pytest.raises(ResourceError, match=told):
        log.write(1, {"loss": 0.5})


def test_events_without_room_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard")
    told = r"^cannot write metrics to .*tensorboard: .*No space left on device; free space there or make it writable$"
    for name, act in (("add_event", lambda: log.write(1, {"loss": 0.5})), ("close", log.close)):
        with monkeypatch.context() as full:
            full.setattr(log._events, name, Mock(side_effect=NO_ROOM))
            with pytest.raises(ResourceError, match=told):
                act()
    log._events.close()


def test_a_pace_is_that_of_the_last_minute() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.note(0) == 0
    for second in range(10, 201, 10):
        now[0] = second
        found = pace.note(2 * second if second <= 100 else 200)
    assert found == 0
    now[0] = 210
    assert pace.note(270) == pytest.approx(1.0, abs=0.2)
