"""How somebody outside speaks with a run that goes on: two small files in its folder.

status.json   what the run is at, written about once a second
wanted.json   what it is asked to be: how many rollout actors
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from tlpo_ray.config.load import load_config
from tlpo_ray.errors import DeadlineError, UserError, first_line
from tlpo_ray.files import read_json, write_json, written
from tlpo_ray.flow.metrics import METRICS

logger = logging.getLogger(__name__)

STATUS, WANTED = "status.json", "wanted.json"
ANSWER_S = 30.0
"""How long a run may take to notice what it is asked: an update in turns may be under way."""
BEAT_S = 10.0
"""Between two signs of life of a run that tells nothing, because a checkpoint or an evaluation takes its time."""
LOOK_S = 0.2
MOST = 10_000
"""Rollout actors that can be asked for: more is a slip, and only their bookkeeping would fill the memory."""


class Outside:
    """The run's side of it.

    Args:
        resumed: the run goes on: what it was last asked to be, it becomes again.
    """

    def __init__(self, folder: Path, *, resumed: bool = False) -> None:
        self._folder = folder
        self._seen = 0.0
        self._told: Mapping[str, Any] = {}
        self._telling, self._over = Lock(), Event()
        (folder / STATUS).unlink(missing_ok=True)
        if not resumed:
            forget_scale(folder)
        Thread(target=self._beat, daemon=True).start()

    def wanted(self) -> int | None:
        """How many rollout actors there are to be, if somebody has asked since the last look."""
        try:
            written = (self._folder / WANTED).stat().st_mtime
        except OSError:
            return None
        if written == self._seen:
            return None
        self._seen = written
        return scale_asked_for(self._folder)

    def tell(self, status: Mapping[str, Any]) -> None:
        """Write the status."""
        self._told = status
        self._write()

    def close(self) -> None:
        """No sign of life from now on."""
        self._over.set()

    def _write(self) -> None:
        who = {"time": round(time.time(), 3), "host": socket.gethostname(), "pid": os.getpid()}
        try:
            with self._telling:
                write_json(self._folder / STATUS, who | dict(self._told))
        except OSError as error:  # the run itself may need no more room
            logger.warning("%s cannot be written: %s", self._folder / STATUS, first_line(error))

    def _beat(self) -> None:
        before: Mapping[str, Any] = {}
        while not self._over.wait(BEAT_S):
            if self._told and self._told is before:
                self._write()
            before = self._told


def scale(folder: Path, actors: int) -> dict[str, int]:
    """Ask a run for so many rollout actors and wait until it has noticed; its actors by what they are at.

    Raises:
        UserError: there is no run that could be asked, or it is asked for too many.
        ResourceError: its folder cannot be written.
        DeadlineError: it does not answer.
    """
    require_run(folder)
    if (folder / "result.json").exists():
        raise UserError(f"{folder} is complete, see result.json in it: there is nothing to scale")
    if load_config(str(folder / "config.yaml")).stack == "local":
        raise UserError(f"{folder} is a run of one process (stack: local), which cannot be scaled")
    if not 1 <= actors <= MOST:
        raise UserError(f"{actors:,} rollout actors are not possible: a run has 1 to {MOST:,}")
    with written(str(folder / WANTED)):
        write_json(folder / WANTED, {"rollout_actors": actors})
    began, asked = time.monotonic(), time.time()
    while time.monotonic() - began < ANSWER_S:
        status = read_status(folder)
        if status.get("rollout_actors") == actors and status["time"] > asked:
            states: dict[str, int] = status.get("actors", {})
            return states
        time.sleep(LOOK_S)
    raise DeadlineError(
        f"the run in {folder} did not notice within {ANSWER_S:g} s: is it going on? see {STATUS} in it. If it is "
        f"resumed later, what was asked for holds then"
    )


def scale_asked_for(folder: Path) -> int | None:
    """How many rollout actors `tlpo scale` last asked a run for; none if nobody has, or in no way that counts."""
    file = folder / WANTED
    try:
        found = read_json(file)["rollout_actors"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s cannot be read and is ignored: %s", file, first_line(error))
        return None
    if type(found) is int and 1 <= found <= MOST:
        return found
    logger.warning("%s asks for %.40r rollout actors and is ignored: a run has 1 to %d", file, found, MOST)
    return None


def forget_scale(folder: Path) -> None:
    """What `tlpo scale` asked of a run counts no more."""
    (folder / WANTED).unlink(missing_ok=True)


def look(folder: Path) -> dict[str, Any]:
    """What a run last told, and whether it is complete.

    Raises:
        UserError: there is none.
    """
    require_run(folder)
    found = read_status(folder)
    age = {"age": round(time.time() - found["time"], 3)} if found else {}  # whoever asks may have another clock
    return {"folder": str(folder), "complete": (folder / "result.json").exists(), **found, **age}


def require_run(folder: Path) -> None:
    """Refuse a folder that is no run's.

    Raises:
        UserError: it is not.
    """
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder} holds no run: there is no config.yaml in it, which comes when its engines are up")


def read_status(folder: Path) -> dict[str, Any]:
    """What the run last told; nothing if it has told nothing, or what it told is damaged."""
    try:
        found = read_json(folder / STATUS)
    except (OSError, ValueError):
        return {}
    return found if all(_fits(name, value) for name, value in ({"time": None} | found).items()) else {}


def _fits(name: str, value: Any) -> bool:
    """Whether a status can say this: figures are numbers, of those with a label one for each."""
    if name in METRICS and METRICS[name].label:
        return isinstance(value, dict) and all(isinstance(one, int | float) for one in value.values())
    return isinstance(value, int | float) or name not in {"time", "seconds", "prompts_total", *METRICS}
