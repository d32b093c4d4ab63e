"""Runs on a Ray cluster, through the door for jobs that its dashboard has."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from tlpo_ray.errors import DeadlineError, ResourceError, UserError, first_line
from tlpo_ray.jobs.upload import Job

FOLDER, RUN = "tlpo_folder", "tlpo_run"
"""What a job's metadata say of its run."""
GRACE_S = 30
"""How long a run that is stopped may take to end, before it is killed."""
STOP_S = GRACE_S + 15.0
ERRAND_S = 120.0
"""How long something asked of a run may take: a cluster may have to start a process for it first."""
LOOK_S = 0.3
ANSWER_S = 30.0
"""How long a dashboard may take to answer."""
QUIET_S = 60.0
"""After so long without output of a job, whether the connection still is one is looked at."""
AWAY_S = 600.0
"""How long a cluster may be out of reach before its jobs are followed no more."""
STOPPED = 143
"""Exit code of who ends by SIGTERM."""
JOB_ENV = {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_S)}

Write = Callable[[str], None]


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's own, which would wait for an answer for ever."""

    def _do_request(self, *args: Any, **kwargs: Any) -> Any:
        return super()._do_request(*args, timeout=ANSWER_S, **kwargs)


class Jobs:
    """The jobs of one cluster.

    Args:
        address: of its dashboard, e.g. `http://127.0.0.1:8265`; none takes RAY_API_SERVER_ADDRESS or RAY_ADDRESS.

    Raises:
        ResourceError: nobody answers there, or not to this token.
    """

    def __init__(self, address: str | None) -> None:
        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.ERROR)  # it tells of each closed socket
        self._address = address
        with self._told():
            self._client = _Client(address)

    def submit(self, job: Job) -> str:
        """Start a run; its job's name."""
        return self._submit(f"tlpo-{job.name}", job.command, {FOLDER: str(job.folder), RUN: job.name}, job.upload)

    def follow(self, name: str, write: Write) -> int:
        """Write a job's output from its beginning, as it comes, until the job ends; its exit code.

        Raises:
            UserError: there is no such job.
            DeadlineError: the cluster is out of reach; the job may well go on.
        """
        self._info(name)
        return _exit_code(asyncio.run(self._follow(name, write)))

    def folder(self, target: str) -> Path:
        """Of a run that is named by its job or its folder.

        Raises:
            UserError: there is no such job, or it is no run.
        """
        if target.startswith("/"):
            return Path(target)
        found = self._info(target).metadata or {}
        if FOLDER not in found:
            raise UserError(f"job {target} was not started by `tlpo submit`: name the run by its folder on the cluster")
        return Path(found[FOLDER])

    def state(self, name: str) -> str:
        """What Ray says of a job, e.g. RUNNING."""
        return str(self._info(name).status.value)

    def errand(self, command: str) -> tuple[int, str]:
        """Run a short command on the cluster's head; its exit code and last line. It leaves no entry among the jobs."""
        name = self._submit("tlpo-errand", f"exec {command}", {}, None)
        self._wait(name, ERRAND_S, "to do what it was asked")
        with self._told():
            code, output = _exit_code(self._info(name)), self._client.get_job_logs(name)
            self._client.delete_job(name)
        return code, output.strip().rpartition("\n")[2]

    def stop(self, name: str) -> None:
        """End a run; what it has done is in its folder.

        Raises:
            UserError: there is no such job, or it has ended.
            DeadlineError: it does not end.
        """
        if self._info(name).status.is_terminal():
            raise UserError(f"job {name} has ended already: {self.state(name)}")
        with self._told():
            self._client.stop_job(name)
        self._wait(name, STOP_S, "to end")

    def _submit(self, name: str, command: str, metadata: dict[str, str], upload: Path | None) -> str:
        environment: dict[str, Any] = {"env_vars": JOB_ENV}
        if upload is not None:
            environment["working_dir"] = str(upload)
        with self._told():
            return str(
                self._client.submit_job(
                    entrypoint=command,
                    submission_id=f"{name}-{secrets.token_hex(3)}",
                    runtime_env=environment,
                    metadata=metadata,
                )
            )

    async def _follow(self, name: str, write: Write) -> Any:
        """As `follow`; what Ray says of the job in the end."""
        written, heard = 0, time.monotonic()
        while True:
            seen = 0
            async for text in self._tail(name):
                seen += len(text)
                if seen > written:  # after a lost connection it begins anew
                    write(text[-(seen - written) :])
                    written = seen
            try:
                info = self._info(name)
                heard = time.monotonic()
                if info.status.is_terminal():
                    with self._told():
                        rest = self._client.get_job_logs(name)[written:]
                    write(rest)
                    return info
            except ResourceError as error:
                if time.monotonic() - heard > AWAY_S:
                    raise DeadlineError(f"nothing was heard of the cluster for {AWAY_S:g} s: {error}") from error
            await asyncio.sleep(LOOK_S)

    async def _tail(self, name: str) -> AsyncIterator[str]:
        """A job's output from its beginning, up to its end, a lost connection or a silence."""
        texts = aiter(self._client.tail_job_logs(name))
        while True:
            try:
                text = await asyncio.wait_for(anext(texts), QUIET_S)
            except (StopAsyncIteration, TimeoutError, RuntimeError, OSError, aiohttp.ClientError):
                return
            yield text

    def _wait(self, name: str, deadline_s: float, what: str) -> None:
        began = time.monotonic()
        while not self._info(name).status.is_terminal():
            if time.monotonic() - began > deadline_s:
                raise DeadlineError(f"tlpo waited {deadline_s:g} s for job {name} {what}; see its log in the dashboard")
            time.sleep(LOOK_S)

    def _info(self, name: str) -> Any:
        try:
            with self._told():
                return self._client.get_job_info(name)
        except ResourceError as error:
            if "does not exist" in str(error):
                raise UserError(f"there is no job {name} on this cluster") from error
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong on the way, in one line."""
        where = self._address or "RAY_ADDRESS"
        try:
            yield
        except (ConnectionError, requests.RequestException) as error:
            raise ResourceError(
                f"no Ray dashboard answers at {where}: is the cluster there, and the port forwarded?"
            ) from error
        except AuthenticationError as error:
            raise ResourceError(
                f"the Ray dashboard at {where} does not let this command in: set RAY_AUTH_MODE=token and the cluster's "
                f"token in RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
            ) from error
        except (RuntimeError, ValueError) as error:
            raise ResourceError(f"the Ray dashboard at {where} refuses: {first_line(error)}") from error


def _exit_code(info: Any) -> int:
    """Of a job that has ended."""
    if info.driver_exit_code is not None:
        code = int(info.driver_exit_code)
        return code if code >= 0 else 128 - code  # Python's way to say by which signal
    return {JobStatus.SUCCEEDED: 0, JobStatus.STOPPED: STOPPED}.get(info.status, 1)
