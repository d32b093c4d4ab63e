"""Ray clusters for tests, as processes of their own: a test connects to them as a user would."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
PATIENCE_S = 240.0
"""Longest wait for a condition, in seconds."""


@contextmanager
def head(environment: Mapping[str, str], *arguments: str, log: Path, port: int) -> Iterator[Path]:
    """Start a head node, and yield its folder for temporary files; node and folder end with the block.

    Args:
        environment: Environment variables of the node.
        arguments: Further arguments of `ray start`.
        log: File for the output.
        port: Port of the cluster.
    """
    temporary = Path("/tmp") / f"tlpo-{secrets.token_hex(3)}"  # Ray's sockets need a short path
    ports = (f"--port={port}", f"--dashboard-agent-listen-port={free_port()}")
    command = ["ray", "start", "--head", "--block", *ports, f"--temp-dir={temporary}", *arguments]
    paths = {"PATH": f"{BIN}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
    with (
        log.open("wb") as file,
        subprocess.Popen(command, env={**environment, **paths}, stdout=file, stderr=file) as process,
    ):
        try:
            wait_until(lambda: "Ray runtime started" in log.read_text() or process.poll() is not None, "a head node")
            assert process.poll() is None, log.read_text()
            yield temporary
        finally:
            process.terminate()
            process.wait(timeout=60)
            shutil.rmtree(temporary, ignore_errors=True)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; fail after `PATIENCE_S` seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE_S, f"waited {PATIENCE_S:g} s for {what}"
        time.sleep(0.3)


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
