"""Resuming a run that was stopped or crashed: what must not have changed, and the state it resumes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.fields import RESUMABLE
from tlpo_ray.config.load import is_overridden, load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import UserError, first_line
from tlpo_ray.files import disk_errors, lock_folder, read_json, write_json
from tlpo_ray.flow.records import Prompt, decode_table
from tlpo_ray.run.control import clear_scale_request, read_scale_request
from tlpo_ray.run.journal import Journal, State, Update

FINGERPRINT = "prompts.json"
"""File of a run folder with a fingerprint of the run's prompts."""
FINGERPRINT_SAMPLE = 1_000
"""Prompts that the fingerprint is taken of."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a run is resumed: its state after the last update, or None if it has made none."""

    state: State | None

    @property
    def version(self) -> int:
        """Policy version to resume from."""
        return 0 if self.state is None else self.state.version


def resumed_config(folder: Path, overrides: Sequence[str]) -> RunConfig:
    """Return the configuration of the run in `folder` with overrides that do not change its result.

    An override of `rollout.num_actors` replaces the number that `tlpo scale` last requested. Without one, a run that
    was scaled down starts small.

    Raises:
        UserError: The folder holds no run to resume, or an override would change its result.
        ConfigError: An override is invalid.
    """
    file = folder / "config.yaml"
    if not file.exists():
        raise UserError(f"{folder} does not hold a run to resume: there is no config.yaml in it")
    if (folder / "result.json").exists():
        raise UserError(f"{folder} is complete, see result.json in it: there is nothing to resume")
    here = f"folder={folder.resolve()}"
    before, now = load_config(str(file), [here]), load_config(str(file), [here, *overrides])
    for key, old, new in _changes(before, now):
        raise UserError(
            f"{key} is {old} in {folder} and would be {new} now: a resumed run keeps the settings that decide its "
            f"result; leave {key} as it is, or start a new run"
        )
    if is_overridden(overrides, "rollout.num_actors"):
        with lock_folder(folder), disk_errors(f"the run folder {folder}"):
            clear_scale_request(folder)
        return now
    requested = read_scale_request(folder)
    if requested is not None and now.flow.min_healthy <= requested < now.rollout.num_actors:
        return load_config(str(file), [here, *overrides, f"rollout.num_actors={requested}"])
    return now


def last_state(journal: Journal, detector: DetectorConfig) -> State | None:
    """Return the state after the run's last update, or None if it has made none.

    Raises:
        UserError: The journal is damaged, or the detector has another version than the one that the last update's
            groups were made with.
        DetectorError: The detector is not installed any more.
    """
    state = journal.last()
    if state is not None:
        for update in journal.updates(state.version - 1, state.version):
            _check_detectors(detector, update)
    return state


def record_prompts(prompts: Sequence[Prompt], folder: Path) -> None:
    """Write a fingerprint of a new run's prompts.

    Raises:
        ResourceError: It cannot be written.
    """
    with disk_errors(str(folder / FINGERPRINT)):
        write_json(folder / FINGERPRINT, _fingerprint(prompts))


def verify_prompts(prompts: Sequence[Prompt], folder: Path) -> None:
    """Compare prompts with those that the run in `folder` was started with.

    Raises:
        UserError: They differ, or the fingerprint is damaged.
    """
    before = _read_fingerprint(folder / FINGERPRINT)
    if before is not None and before != _fingerprint(prompts):
        raise UserError(
            f"the prompts differ from those that the run was started with ({before['prompts']:,} then, "
            f"{len(prompts):,} now, or other texts): restore what data.prompts names"
        )


def _fingerprint(prompts: Sequence[Prompt]) -> dict[str, Any]:
    step = max(1, len(prompts) // FINGERPRINT_SAMPLE)
    sample = (prompts[n] for n in range(0, len(prompts), step))
    content = [[prompt.id, prompt.language, prompt.key] for prompt in sample]
    digest = hashlib.blake2b(json.dumps(content).encode("utf-8", "replace"), digest_size=16).hexdigest()
    return {"prompts": len(prompts), "digest": digest}


def _read_fingerprint(file: Path) -> dict[str, Any] | None:
    """Return the recorded fingerprint; None if a run was stopped before it was written.

    Raises:
        UserError: The file is damaged.
    """
    try:
        recorded = read_json(file)
        return {"prompts": int(recorded["prompts"]), "digest": recorded["digest"]}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"{file} is damaged ({first_line(error)}): remove it if you are sure that the prompts are the same"
        ) from error


def _check_detectors(config: DetectorConfig, update: Update) -> None:
    groups = decode_table(update.groups).select(["language", "detector_version"]).to_pylist()
    detectors = config.detectors()
    for language, before in sorted({(group["language"], group["detector_version"]) for group in groups}):
        now = detectors[language].version
        if now != before:
            raise UserError(
                f"the run was trained with version {before} of the detector {config.name} for {language}, but "
                f"{now} is installed: restore the packages and files that it was started with, or start a new run"
            )


def _changes(before: BaseModel, now: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, old, new) of every changed setting that is not marked as resumable."""
    for name, field in type(before).model_fields.items():
        old, new = getattr(before, name), getattr(now, name)
        extra = field.json_schema_extra
        if old == new or (isinstance(extra, Mapping) and extra.get(RESUMABLE)):
            continue
        if isinstance(old, BaseModel) and isinstance(new, BaseModel):
            yield from _changes(old, new, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", to_jsonable_python(old), to_jsonable_python(new)
