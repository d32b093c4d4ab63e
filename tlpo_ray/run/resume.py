"""Going on with a run that was stopped or died: what must be as it was, and where it was."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from detectors import build_detector
from tlpo_ray.config.load import load_config, sets
from tlpo_ray.config.run import DetectorConfig, RunConfig
from tlpo_ray.errors import StoppedError, UserError, first_line
from tlpo_ray.files import held, read_json, write_json, written
from tlpo_ray.flow.records import Prompt, decode_table
from tlpo_ray.run.control import forget_scale, scale_asked_for
from tlpo_ray.run.journal import Journal, State, Update

MAY_CHANGE = {
    "folder": True, "name": True, "stack": True, "cluster": True, "checkpoint": True,
    "trackers": True,
    "rollout": (
        "engine", "num_actors", "lease_size", "concurrency", "kv_cache_mib", "gpu_memory_utilization",
        "tensor_parallel", "enforce_eager",
    ),
    "learner": ("engine", "num_ranks", "zero_stage", "micro_batch_size", "activation_checkpointing"),
    "flow": (
        "queue_capacity", "bucket_mib", "weight_transfer", "full_sync_interval", "canary_tolerance", "start_deadline_s",
        "rollout_deadline_s", "update_deadline_s", "checkpoint_deadline_s", "sync_deadline_s", "max_restarts",
        "min_healthy", "restart_backoff_s", "heartbeat_s",
    ),
}  # fmt: skip
"""Settings that say how a run is carried out, not what comes of it."""
SAMPLED = 1_000
"""Prompts of which a fingerprint is taken."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 25.0
"""How long a run that was asked to stop may take to end; `ray job stop` and Kubernetes kill after 30 s."""


def resumed_config(folder: Path, overrides: Sequence[str]) -> RunConfig:
    """The configuration of the run in `folder`, with settings laid over it that do not change what comes of it.

    A number of rollout actors among them takes the place of the one that `tlpo scale` last asked for; without it a run
    that was scaled down begins small.

    Raises:
        UserError: there is no run to go on with, or a setting would change what it does.
        ConfigError: a setting is wrong.
    """
    file = folder / "config.yaml"
    if not file.exists():
        raise UserError(f"{folder} holds no run to go on with: there is no config.yaml in it")
    if (folder / "result.json").exists():
        raise UserError(f"{folder} is complete, see result.json in it: there is nothing to go on with")
    here = f"folder={folder.resolve()}"
    before, now = load_config(str(file), [here]), load_config(str(file), [here, *overrides])
    changed = list(_changed(before.model_dump(mode="json"), now.model_dump(mode="json"), MAY_CHANGE, ""))
    if changed:
        key, old, new = changed[0]
        raise UserError(
            f"{key} is {old} in {folder} and would be {new} now: a run goes on with the settings that decide what "
            f"comes of it; leave {key} as it is, or begin a new run"
        )
    if sets(overrides, "rollout.num_actors"):
        with held(folder), written(f"the run folder {folder}"):
            forget_scale(folder)
    elif (asked := scale_asked_for(folder)) is not None and now.flow.min_healthy <= asked < now.rollout.num_actors:
        return load_config(str(file), [here, *overrides, f"rollout.num_actors={asked}"])
    return now


def where_it_was(journal: Journal, detector: DetectorConfig) -> State | None:
    """A run after its last update; None if it has made none.

    Raises:
        UserError: its journal is damaged, or the detector has another version than the one that the last update's
            groups were rewarded by.
        DetectorError: its detector is not installed any more.
    """
    state = journal.last()
    if state is not None:
        for update in journal.updates(state.version - 1, state.version):
            _check_detectors(detector, update)
    return state


def _check_detectors(config: DetectorConfig, update: Update) -> None:
    groups = decode_table(update.payload).select(["language", "detector_version"]).to_pylist()
    for language, before in sorted({(group["language"], group["detector_version"]) for group in groups}):
        now = build_detector(config.name, language, config.english, config.settings).version
        if now != before:
            raise UserError(
                f"the run has learned with version {before} of the detector {config.name} for {language}, and here "
                f"is {now}: put back the packages and files that it began with, or begin a new run"
            )


def _changed(before: Any, now: Any, may_change: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    for key in before:
        rule = may_change.get(key, ()) if isinstance(may_change, dict) else key in may_change
        if rule is True or before[key] == now[key]:
            continue
        below = f"{name}{key}"
        if isinstance(before[key], dict) and isinstance(now[key], dict) and isinstance(rule, tuple):
            yield from _changed(before[key], now[key], rule, f"{below}.")
        else:
            yield below, before[key], now[key]


def check_prompts(prompts: Sequence[Prompt], kept: Path, *, resumed: bool) -> None:
    """Keep a fingerprint of a run's prompts, or compare them with the one that was kept.

    Raises:
        UserError: they are others.
    """
    step = max(1, len(prompts) // SAMPLED)
    content = [[prompts[n].id, prompts[n].language, prompts[n].text] for n in range(0, len(prompts), step)]
    found = {
        "prompts": len(prompts),
        "digest": hashlib.blake2b(json.dumps(content).encode("utf-8", "replace"), digest_size=16).hexdigest(),
    }
    before = _fingerprint(kept) if resumed else None
    if before is not None:
        if before != found:
            raise UserError(
                f"the prompts are not those that the run began with ({before['prompts']:,} then, {len(prompts):,} now, "
                f"or of another content): put back what data.prompts names"
            )
        return
    with written(f"{kept}"):
        write_json(kept, found)


def _fingerprint(kept: Path) -> dict[str, Any] | None:
    """Of the prompts that a run began with; None if none was kept.

    Raises:
        UserError: the file is damaged.
    """
    try:
        found = read_json(kept)
        return {"prompts": int(found["prompts"]), "digest": found["digest"]}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"{kept} is damaged ({first_line(error)}): remove it if you are sure that the prompts are the same"
        ) from error


@contextmanager
def stoppable(folder: Path) -> Iterator[None]:
    """SIGTERM and SIGINT end the block with StoppedError: what counts is in the journal already. A second one ends the
    process at once, and so does one whose block takes longer than `GRACE_S` to end."""
    timers: list[threading.Timer] = []

    def stop(number: int, frame: FrameType | None) -> None:
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        timers.append(threading.Timer(GRACE_S, os._exit, (128 + number,)))
        timers[0].daemon = True
        timers[0].start()
        name = signal.Signals(number).name
        if not (folder / "config.yaml").exists():
            raise StoppedError(f"stopped by {name} before anything was done", number)
        raise StoppedError(f"stopped by {name}; nothing is lost, go on with: tlpo train --resume {folder}", number)

    before = {name: signal.signal(name, stop) for name in SIGNALS}
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for name, handler in before.items():
            signal.signal(name, handler)
