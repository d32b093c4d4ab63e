"""The folder that a run leaves behind.

config.yaml        the configuration as it was used
metrics.jsonl      one line an update; tensorboard/ holds the same
experiences/       every candidate group that was learned from, Parquet
checkpoints/       weights and optimizer state
journal/           the updates since, and how things were after each: what --resume goes on from
stacks/            where processes hung that missed a deadline
status.json        what the run is at (tlpo_ray/run/control.py)
model/             the trained policy, Hugging Face format; adapter/ beside it with learner.lora
result.json        how it ended
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from tlpo_ray.config.load import dump_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.files import replacing, write_json, written
from tlpo_ray.flow.records import SCHEMA, decode_table
from tlpo_ray.run.control import Outside
from tlpo_ray.run.journal import Journal
from tlpo_ray.run.metrics_log import MetricsLog, truncate_metrics

MARK = ".quickstart"
"""File by which a run that goes on is known to be a quickstart."""
GROUPS_PER_FILE = 512
"""Experiences per Parquet file: large enough to compress, small enough to lose little with a crash."""


def is_quickstart(folder: Path) -> bool:
    """Whether the run in a folder is a quickstart, which has more to do than to train."""
    return (folder / MARK).exists()


class RunFolder:
    """Creates a run's folder and writes what belongs into it.

    Args:
        resumed: policy version to go on from in a folder that is there; 0 if no update was made.
        examined: a new run has more to do than to train: it is a quickstart (`is_quickstart`).

    Raises:
        UserError: the folder holds another run.
        ResourceError: the folder cannot be written.
    """

    @staticmethod
    def refuse_unusable(path: Path) -> None:
        """A second run never writes into the first one's folder, and none begins that could not be kept.

        Raises:
            UserError: the folder holds a run.
            ResourceError: it cannot be made or written.
        """
        if (path / "config.yaml").exists():
            raise UserError(f"{path} holds a run already: choose another with folder=…, or move it away")
        RunFolder.refuse_unwritable(path)

    @staticmethod
    def refuse_unwritable(path: Path) -> None:
        """Nothing begins that could not be kept.

        Raises:
            ResourceError: a run folder cannot be made there or written.
        """
        there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise ResourceError(f"cannot write the run folder {path}: {there} is no folder that you may write")

    def __init__(self, config: RunConfig, resumed: int | None = None, *, examined: bool = False) -> None:
        self.path = config.folder
        if resumed is None:
            self.refuse_unusable(self.path)
        with written(f"the run folder {self.path}"):
            for name in ("experiences", "checkpoints", "tensorboard"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            if examined:
                (self.path / MARK).touch()
            with replacing(self.path / "config.yaml") as partial:
                partial.write_text(dump_config(config), encoding="utf-8")
            self.outside = Outside(self.path, resumed=resumed is not None)
        self.journal = Journal(self.path / "journal")
        if resumed is not None:
            truncate_metrics(self.path / "metrics.jsonl", resumed)
        self.metrics = MetricsLog(self.path / "metrics.jsonl", self.path / "tensorboard")
        self._experiences: list[pa.Table] = []
        self._kept_until = self._written_until = 0
        if resumed is not None:
            self._take_up(resumed)

    @property
    def checkpoints(self) -> Path:
        """Folder of the learner's checkpoints."""
        return self.path / "checkpoints"

    def keep_experiences(self, version: int, payload: bytes) -> None:
        """Keep the groups (an Arrow stream) that policy version `version` was made from for the experiences files."""
        self._experiences.append(decode_table(payload))
        self._kept_until = version
        if sum(table.num_rows for table in self._experiences) >= GROUPS_PER_FILE:
            self.flush_experiences()

    def flush_experiences(self) -> None:
        """Write the experiences kept so far as one Parquet file, whole or not at all."""
        if not self._experiences:
            return
        file = self.path / "experiences" / f"until-{self._kept_until:08d}.parquet"
        with written(f"experiences to {file.parent}"), replacing(file) as partial:
            pq.write_table(pa.concat_tables(self._experiences).cast(SCHEMA), partial, compression="zstd")
        self._experiences.clear()
        self._written_until = self._kept_until

    def prune_journal(self, version: int) -> None:
        """Forget updates up to `version`, which a checkpoint holds, if their experiences are written."""
        self.journal.prune(min(version, self._written_until))

    def _take_up(self, version: int) -> None:
        """Experiences as they were after an update: files that go beyond it are taken back from the journal."""
        files = {
            int(file.stem.rpartition("-")[2]): file for file in (self.path / "experiences").glob("until-*.parquet")
        }
        self._written_until = max((until for until in files if until <= version), default=0)
        updates = tuple(self.journal.updates(self._written_until, version))  # before anything is removed
        for until, file in files.items():
            if until > version:
                file.unlink()
        for update in updates:
            self.keep_experiences(update.version, update.payload)

    def write_result(self, result: Mapping[str, object]) -> None:
        """`result.json`, whole or not at all."""
        with written(f"the result to {self.path}"):
            write_json(self.path / "result.json", result)

    def close(self) -> None:
        """Flush everything."""
        self.outside.close()
        try:
            self.flush_experiences()
        finally:
            self.metrics.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            return self.close()
        with suppress(ResourceError, OSError):  # what has ended the run says more; the journal has what is not written
            self.close()
