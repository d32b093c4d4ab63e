"""What happened to a run and its processes, as `events.jsonl` in its folder.

Each line is an event: `time` (seconds since 1970), `kind`, `text`, and where they are known `process`, the name of the
process that it concerns, and `details`, what its error said beyond the first line.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tlpo_ray.errors import StoppedError, UserError, details_of, first_line

EVENTS = "events.jsonl"
STATUS = "status.json"
"""File that a run rewrites every few seconds (`tlpo_ray.run.control`)."""
SILENT_S = 30.0
"""Seconds without that after which a run no longer counts as running."""
RESERVE = ".events-reserve"
"""File that is removed when the disk is full, so that this can still be written down."""
RESERVE_BYTES = 1 << 16
BEGUN, COMPLETE, STOPPED, FAILED, WARNING = "begun", "complete", "stopped", "failed", "warning"
"""Kinds of events."""
PACKAGES = ("actors", "detectors", "learner", "tlpo_ray")
"""Our loggers."""
MAX_DETAILS = 4000
"""Most characters of an error's details."""


def require_run(folder: Path) -> None:
    """Refuse a folder that does not hold a run.

    Raises:
        UserError: It does not.
    """
    if not (folder / "config.yaml").exists():
        raise UserError(
            f"{folder} does not hold a run: there is no config.yaml in it; a run writes it once its engines are up"
        )


class EventLog(logging.Handler):
    """Writes events, and what our loggers report meanwhile, to a run's folder.

    A record of a logger may have `process_name` and `error` (an exception) as extra attributes.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.WARNING)
        self._file, self._reserve = folder / EVENTS, folder / RESERVE
        with suppress(OSError):
            self._reserve.write_bytes(bytes(RESERVE_BYTES))
            if self._file.exists() and not self._file.read_bytes().endswith(b"\n"):
                with self._file.open("a") as file:  # a driver was killed while it wrote
                    file.write("\n")

    def add(self, kind: str, text: str, *, process: str | None = None, error: BaseException | None = None) -> None:
        """Write an event.

        Args:
            kind: One of the kinds above.
            text: A line.
            process: Name of the process that it concerns.
            error: What was raised.
        """
        event: dict[str, Any] = {"time": round(time.time(), 3), "kind": kind, "text": text}
        if process is not None:
            event["process"] = process
        if error is not None and (details := details_of(error, MAX_DETAILS)):
            event["details"] = details
        line = json.dumps(event, ensure_ascii=False) + "\n"
        for _ in range(2):
            try:
                with self._file.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(line)
                return
            except OSError:  # the disk is full
                self._reserve.unlink(missing_ok=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write what a logger reports."""
        process, error = getattr(record, "process_name", None), getattr(record, "error", None)
        self.add(WARNING, record.getMessage(), process=process, error=error)

    def close(self) -> None:
        """Remove the reserve."""
        self._reserve.unlink(missing_ok=True)
        super().close()


@contextmanager
def recorded_events(folder: Path, begun: str) -> Iterator[EventLog]:
    """Record what happens until the block ends, and how it ends.

    Args:
        folder: The run's folder.
        begun: Where the run begins, in words.
    """
    log = EventLog(folder)
    loggers = [logging.getLogger(name) for name in PACKAGES]
    for logger in loggers:
        logger.addHandler(log)
    log.add(BEGUN, begun)
    try:
        yield log
    except StoppedError as error:
        log.add(STOPPED, first_line(error))
        raise
    except BaseException as error:
        log.add(FAILED, f"{type(error).__name__}: {first_line(error)}", error=error)
        raise
    else:
        log.add(COMPLETE, "every prompt has its outcome")
    finally:
        for logger in loggers:
            logger.removeHandler(log)
        log.close()


def read_events(folder: Path) -> list[Mapping[str, Any]]:
    """Return the events of a run in their order; none if nothing was recorded. A line that is cut off is left out."""
    events = []
    with suppress(FileNotFoundError):
        for line in (folder / EVENTS).read_bytes().split(b"\n"):
            with suppress(ValueError):
                events.append(json.loads(line))
    return events
