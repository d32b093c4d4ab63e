"""Ray clusters of tests: as processes of their own, so that what comes from outside comes from outside."""

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


@contextmanager
def head(environment: Mapping[str, str], *arguments: str, log: Path, port: int) -> Iterator[Path]:
    """A head node at that port and its folder for temporary files; both end with the block."""
    temporary = Path("/tmp") / f"tlpo-{secrets.token_hex(3)}"  # Ray's sockets need a short path
    doors = (f"--port={port}", f"--dashboard-agent-listen-port={free_port()}")
    command = ["ray", "start", "--head", "--block", *doors, f"--temp-dir={temporary}", *arguments]
    paths = {"PATH": f"{BIN}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
    with (
        log.open("wb") as file,
        subprocess.Popen(command, env={**environment, **paths}, stdout=file, stderr=file) as process,
    ):
        try:
            until(lambda: "Ray runtime started" in log.read_text() or process.poll() is not None, "a head node")
            assert process.poll() is None, log.read_text()
            yield temporary
        finally:
            process.terminate()
            process.wait(timeout=60)
            shutil.rmtree(temporary, ignore_errors=True)


def until(holds: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE_S, f"waited {PATIENCE_S:g} s for {what}"
        time.sleep(0.3)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
