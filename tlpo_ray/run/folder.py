"""The folder that a run leaves behind.

config.yaml        the configuration as it was used
metrics.jsonl      one line per update; tensorboard/ holds the same
experiences/       every candidate group that was learned from, Parquet
checkpoints/       weights and optimizer state
journal/           the updates since, and the state after each: what --resume starts from
events.jsonl       what happened to the run and its processes, and how it ended
logs/              what rollout actors and learner ranks printed
stacks/            stack dumps of processes that missed a deadline
status.json        the current state (tlpo_ray/run/control.py)
model/             the trained policy, Hugging Face format; adapter/ beside it with learner.lora
result.json        totals of the complete run
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from tlpo_ray.config.load import dump_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import RecordError, ResourceError, UserError, first_line
from tlpo_ray.files import atomic_write, disk_errors, write_json
from tlpo_ray.flow.records import SCHEMA, current_table, decode_table
from tlpo_ray.run.control import RunControl
from tlpo_ray.run.journal import Journal
from tlpo_ray.run.metrics_log import MetricsLog, truncate_metrics

logger = logging.getLogger(__name__)

QUICKSTART_MARK = ".quickstart"
"""File by which a run that is resumed is recognised as a quickstart."""
GROUPS_PER_FILE = 512
"""Experiences per Parquet file: large enough to compress, small enough to lose little in a crash."""


def is_quickstart(folder: Path) -> bool:
    """Return whether the run in a folder is a quickstart, which has more to do than to train."""
    return (folder / QUICKSTART_MARK).exists()


def refuse_used_folder(path: Path) -> None:
    """Refuse a folder that a new run cannot use: two runs never share one.

    Raises:
        UserError: The folder holds a run.
        ResourceError: It cannot be created or written.
    """
    if (path / "config.yaml").exists():
        raise UserError(f"{path} already holds a run: choose another with folder=…, or move it away")
    refuse_unwritable_folder(path)


def refuse_unwritable_folder(path: Path) -> None:
    """Refuse a folder that could not keep a run's results, before anything starts.

    Raises:
        ResourceError: It cannot be created or written.
    """
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ResourceError(f"cannot write the run folder {path}: {existing} is not a folder that you may write")


class RunFolder:
    """Creates a run's folder, or opens one to resume, and writes what belongs into it.

    Args:
        config: The run's configuration; `config.folder` is the folder.
        resumed_at: Policy version to resume from, 0 if no update was made; None for a new run.
        quickstart: Mark a new run as a quickstart (`is_quickstart`).

    Raises:
        UserError: The folder of a new run holds another one.
        ResourceError: The folder cannot be written.
    """

    def __init__(self, config: RunConfig, resumed_at: int | None = None, *, quickstart: bool = False) -> None:
        self.path = config.folder
        is_resumed = resumed_at is not None
        if not is_resumed:
            refuse_used_folder(self.path)
        with disk_errors(f"the run folder {self.path}"):
            for name in ("experiences", "checkpoints", "tensorboard"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            if quickstart:
                (self.path / QUICKSTART_MARK).touch()
            elif not is_resumed:  # a quickstart may have been stopped right here
                (self.path / QUICKSTART_MARK).unlink(missing_ok=True)
            with atomic_write(self.path / "config.yaml") as partial:
                partial.write_text(dump_config(config), encoding="utf-8")
            self.control = RunControl(self.path, keep_request=is_resumed)
        self.journal = Journal(self.path / "journal")
        if resumed_at is not None:
            truncate_metrics(self.path / "metrics.jsonl", resumed_at)
        self.metrics = MetricsLog(self.path / "metrics.jsonl", self.path / "tensorboard")
        self._experiences: list[pa.Table] = []
        self._kept_until = self._written_until = 0
        if resumed_at is not None:
            self._restore_experiences(resumed_at)

    @property
    def checkpoints(self) -> Path:
        """Folder of the learner's checkpoints."""
        return self.path / "checkpoints"

    def keep_experiences(self, version: int, groups: bytes) -> None:
        """Add the groups (an Arrow stream) that policy version `version` was made from to the experiences."""
        self._experiences.append(decode_table(groups))
        self._kept_until = version
        if sum(table.num_rows for table in self._experiences) >= GROUPS_PER_FILE:
            self.flush_experiences()

    def flush_experiences(self) -> None:
        """Write the experiences added since the last flush as one Parquet file."""
        if not self._experiences:
            return
        file = self.path / "experiences" / f"until-{self._kept_until:08d}.parquet"
        with disk_errors(f"experiences to {file.parent}"), atomic_write(file) as partial:
            pq.write_table(pa.concat_tables(self._experiences).cast(SCHEMA), partial, compression="zstd")
        self._experiences.clear()
        self._written_until = self._kept_until

    def prune_journal(self, version: int) -> None:
        """Remove updates up to `version` from the journal: a checkpoint holds them. Unwritten experiences stay."""
        self.journal.prune(min(version, self._written_until))

    def write_result(self, result: Mapping[str, object]) -> None:
        """Write `result.json`, by which a run is complete."""
        with disk_errors(f"the result to {self.path}"):
            write_json(self.path / "result.json", result)

    def close(self) -> None:
        """Flush everything and stop the heartbeat."""
        self.control.close()
        try:
            self.flush_experiences()
        finally:
            self.metrics.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            return self.close()
        with suppress(ResourceError, OSError):  # the error that ended the run says more; the journal has the rest
            self.close()

    def _restore_experiences(self, version: int) -> None:
        """Bring the experiences back to their state after an update.

        Files that reach beyond that update are replaced by what the journal holds of them, and files of an earlier
        release get this one's columns: a folder of Parquet files is read as one table.
        """
        files = {
            int(file.stem.rpartition("-")[2]): file for file in (self.path / "experiences").glob("until-*.parquet")
        }
        self._written_until = max((until for until in files if until <= version), default=0)
        updates = tuple(self.journal.updates(self._written_until, version))  # before anything is removed
        for until, file in files.items():
            if until > version:
                file.unlink()
            else:
                _upgrade_experiences(file)
        for update in updates:
            self.keep_experiences(update.version, update.groups)


def _upgrade_experiences(file: Path) -> None:
    """Give a file of an earlier release this one's columns; a damaged file stays as it is, with a warning."""
    try:
        table = pq.read_table(file)
        if table.schema.names == SCHEMA.names:
            return
        current = current_table(table)
    except (pa.ArrowException, OSError, RecordError) as error:
        logger.warning("%s is damaged and left as it is: %s", file, first_line(error))
        return
    with disk_errors(f"experiences to {file.parent}"), atomic_write(file) as partial:
        pq.write_table(current, partial, compression="zstd")
