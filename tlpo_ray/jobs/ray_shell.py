"""Runs as jobs of a Ray cluster, through the jobs API of its dashboard."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError, RpcError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from tlpo_ray.errors import DeadlineError, ResourceError, UserError, first_line
from tlpo_ray.jobs.connection import connection_problem
from tlpo_ray.jobs.upload import Job

FOLDER, RUN = "tlpo_folder", "tlpo_run"
"""Keys of a job's metadata: folder and name of its run."""
GRACE_S = 30
"""How long a stopped run may take to end before it is killed, in seconds."""
STOP_DEADLINE_S = GRACE_S + 15.0
RUN_ONCE_DEADLINE_S = 120.0
"""Longest wait for a short command, in seconds: the cluster may have to start a process for it first."""
POLL_S = 0.3
REQUEST_TIMEOUT_S = 30.0
"""Longest wait for an answer of the dashboard, in seconds."""
SILENCE_S = 60.0
"""Seconds without output of a job after which the connection is checked."""
UNREACHABLE_S = 600.0
"""Seconds without an answer of the cluster after which its jobs are no longer followed."""
STOPPED = 143
"""Exit code of a process that ends by SIGTERM."""
JOB_ENV = {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_S)}

Write = Callable[[str], None]
"""Receives output of a job, in pieces."""


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's own client, with a timeout: without it, a request waits forever."""

    def _do_request(self, *args: Any, **kwargs: Any) -> Any:
        return super()._do_request(*args, timeout=REQUEST_TIMEOUT_S, **kwargs)


class Jobs:
    """The jobs of one cluster.

    Args:
        address: Address of the dashboard, e.g. `http://127.0.0.1:8265`; None takes RAY_API_SERVER_ADDRESS or
            RAY_ADDRESS.

    Raises:
        ResourceError: No dashboard answers there, or it does not accept the token.
    """

    def __init__(self, address: str | None) -> None:
        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.ERROR)  # it logs every closed socket
        self._address = address
        # Ray asks over two connections, and that of a job's output does not know requests' variables.
        authorities = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        with self._request_errors():
            self._client = _Client(address, verify=authorities or True)

    def submit(self, job: Job) -> str:
        """Start a run; return the name of its job."""
        return self._submit(f"tlpo-{job.name}", job.command, {FOLDER: str(job.folder), RUN: job.name}, job.upload)

    def follow(self, name: str, write: Write) -> int:
        """Pass a job's output to `write`, from its beginning, until the job ends; return its exit code.

        Raises:
            UserError: The job does not exist.
            DeadlineError: The cluster does not answer; the job may still be running.
        """
        self._details(name)
        return _exit_code(asyncio.run(self._follow(name, write)))

    def folder(self, target: str) -> Path:
        """Return the folder of a run that is given by the name of its job, or by its folder.

        Raises:
            UserError: The job does not exist, or it is not a run.
        """
        if target.startswith("/"):
            return Path(target)
        metadata = self._details(target).metadata or {}
        if FOLDER not in metadata:
            raise UserError(f"job {target} was not started by `tlpo submit`: name the run by its folder on the cluster")
        return Path(metadata[FOLDER])

    def state(self, name: str) -> str:
        """Return Ray's state of a job, e.g. RUNNING."""
        return str(self._details(name).status.value)

    def run_once(self, command: str) -> tuple[int, str]:
        """Run a short command on the cluster's head; return its exit code and its last line of output.

        It leaves no entry in the list of jobs.

        Raises:
            DeadlineError: The command does not end in time.
        """
        name = self._submit("tlpo-command", f"exec {command}", {}, None)
        self._wait(name, RUN_ONCE_DEADLINE_S, "to run its command")
        with self._request_errors():
            code, output = _exit_code(self._details(name)), self._client.get_job_logs(name)
            self._client.delete_job(name)
        return code, output.strip().rpartition("\n")[2]

    def stop(self, name: str) -> None:
        """Stop a run; everything that it has done is in its folder.

        Raises:
            UserError: The job does not exist, or it has ended.
            DeadlineError: The job does not end in time.
        """
        if self._details(name).status.is_terminal():
            raise UserError(f"job {name} has already ended: {self.state(name)}")
        with self._request_errors():
            self._client.stop_job(name)
        self._wait(name, STOP_DEADLINE_S, "to end")

    def _submit(self, name: str, command: str, metadata: dict[str, str], upload: Path | None) -> str:
        environment: dict[str, Any] = {"env_vars": JOB_ENV}
        if upload is not None:
            environment["working_dir"] = str(upload)
        with self._request_errors():
            return str(
                self._client.submit_job(
                    entrypoint=command,
                    submission_id=f"{name}-{secrets.token_hex(3)}",
                    runtime_env=environment,
                    metadata=metadata,
                )
            )

    async def _follow(self, name: str, write: Write) -> JobDetails:
        """Pass a job's output to `write` until the job ends; return its final details."""
        written, last_answer = 0, time.monotonic()
        while True:
            seen = 0
            async for text in self._tail(name):
                seen += len(text)
                if seen > written:  # after a lost connection the output starts from its beginning
                    write(text[-(seen - written) :])
                    written = seen
            try:
                details = self._details(name)
                last_answer = time.monotonic()
                if details.status.is_terminal():
                    with self._request_errors():
                        rest = self._client.get_job_logs(name)[written:]
                    write(rest)
                    return details
            except ResourceError as error:
                if time.monotonic() - last_answer > UNREACHABLE_S:
                    raise DeadlineError(f"the cluster did not answer for {UNREACHABLE_S:g} s: {error}") from error
            await asyncio.sleep(POLL_S)

    async def _tail(self, name: str) -> AsyncIterator[str]:
        """Yield a job's output from its beginning, up to its end, a lost connection or a silence."""
        texts = aiter(self._client.tail_job_logs(name))
        while True:
            try:
                text = await asyncio.wait_for(anext(texts), SILENCE_S)
            except (StopAsyncIteration, TimeoutError, RuntimeError, OSError, aiohttp.ClientError):
                return
            yield text

    def _wait(self, name: str, deadline_s: float, what: str) -> None:
        began = time.monotonic()
        while not self._details(name).status.is_terminal():
            if time.monotonic() - began > deadline_s:
                raise DeadlineError(f"tlpo waited {deadline_s:g} s for job {name} {what}; see its log in the dashboard")
            time.sleep(POLL_S)

    def _details(self, name: str) -> JobDetails:
        try:
            with self._request_errors():
                return self._client.get_job_info(name)
        except ResourceError as error:
            if "does not exist" in str(error):
                raise UserError(f"job {name} does not exist on this cluster") from error
            raise

    @contextmanager
    def _request_errors(self) -> Iterator[None]:
        """Turn whatever a request to the dashboard raises into one line.

        Raises:
            ResourceError: The request in the block failed.
        """
        where = self._address or "RAY_ADDRESS"
        try:
            yield
        except (OSError, requests.RequestException, RpcError) as error:
            raise ResourceError(connection_problem(where, error)) from error
        except AuthenticationError as error:
            raise ResourceError(
                f"the Ray dashboard at {where} does not accept this command's token: set RAY_AUTH_MODE=token and the "
                f"cluster's token in RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
            ) from error
        except (RuntimeError, ValueError) as error:
            raise ResourceError(f"the Ray dashboard at {where} refuses: {first_line(error)}") from error


def _exit_code(details: JobDetails) -> int:
    """Return the exit code of a job that has ended."""
    if details.driver_exit_code is not None:
        code = int(details.driver_exit_code)
        return code if code >= 0 else 128 - code  # Python gives the signal as a negative code, a shell as 128 + signal
    return {JobStatus.SUCCEEDED: 0, JobStatus.STOPPED: STOPPED}.get(details.status, 1)
