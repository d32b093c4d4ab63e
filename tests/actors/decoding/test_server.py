"""A user's own `vllm serve` loads the rules by their entry point, and answers in two languages at once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from actors.vllm_env import ON_CPU
from detectors import script_characters

pytestmark = pytest.mark.slow
DEADLINE_S = 300
ROOT = Path(__file__).resolve().parents[3]


def serve(folder: Path, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name",
        "tiny", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "64",
        "--max-num-seqs", "16", "--kv-cache-memory-bytes", str(64 << 20), "--no-enable-chunked-prefill", *options,
    ]  # fmt: skip
    environment = os.environ | ON_CPU | {"VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": str(ROOT)}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    return server, port


@pytest.fixture(scope="module")
def port(tiny_model: Path) -> Iterator[int]:
    server, port = serve(tiny_model)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
            break
        except OSError:
            assert server.poll() is None, (tiny_model / "server.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(1)
    yield port
    server.terminate()
    server.wait(60)


def complete(port: int, number: int, **rule: str) -> str:
    body: dict[str, Any] = {
        "model": "tiny", "prompt": [5 + number, 6, 7], "max_tokens": 40, "temperature": 1.0, "seed": number,
        "ignore_eos": True, "vllm_xargs": {f"tlpo_{key}": value for key, value in rule.items()},
    }  # fmt: skip
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return str(json.load(response)["choices"][0]["text"])


def test_two_languages_are_answered_at_once(port: int) -> None:
    languages = ["ko", "ar"] * 8
    with ThreadPoolExecutor(16) as pool:
        masked = list(pool.map(lambda n: complete(port, n, decoding="mask", language=languages[n]), range(16)))
        plain = list(pool.map(lambda n: complete(port, n), range(16)))
    own = [script_characters(language).own for language in languages]
    foreign = [script_characters(language).foreign for language in languages]
    assert not any(pattern.search(text) for pattern, text in zip(foreign, masked, strict=True))
    assert sum(bool(pattern.search(text)) for pattern, text in zip(own, masked, strict=True)) > 8
    assert sum(bool(pattern.search(text)) for pattern, text in zip(foreign, plain, strict=True)) > 8


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ({"decoding": "mask"}, "tlpo_language is missing"),
        ({"decoding": "mask", "language": "tlh"}, "no detector for it"),
        ({"decoding": "retry", "language": "ko"}, "vLLM can apply mask, gate, boost"),
        ({"decoding": "mask", "language": "ko", "englisch": "neutral"}, "tlpo_englisch: expected"),
    ],
)
def test_a_wrong_rule_is_refused_with_a_line(port: int, rule: dict[str, str], line: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        complete(port, 0, **rule)
    assert caught.value.code == 400
    assert line in caught.value.read().decode()
