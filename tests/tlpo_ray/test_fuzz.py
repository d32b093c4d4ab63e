"""Nearly twenty thousand damaged inputs: each is read or refused in one line; none gives a traceback, hangs or is half
taken."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from actors import chat
from learner import checkpoint
from tests.records import make_group
from tlpo_ray.config.load import dump_config, load_config
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.prompts import read_prompts
from tlpo_ray.errors import TlpoError
from tlpo_ray.flow import tokenizer
from tlpo_ray.flow.exchange import Exchange, Snapshot
from tlpo_ray.flow.models import load_causal_lm
from tlpo_ray.flow.records import (
    Outcome,
    Prompt,
    PromptResult,
    decode,
    decode_prompts,
    decode_results,
    encode,
    encode_prompts,
    encode_results,
)
from tlpo_ray.run import trackers
from tlpo_ray.run.control import MAX_ACTORS, RunControl, status
from tlpo_ray.run.journal import Journal, State
from tlpo_ray.run.metrics_log import truncate_metrics
from tlpo_ray.run.resume import record_prompts, verify_prompts

pytestmark = pytest.mark.slow

Read = Callable[[bytes], object]
Damage = Callable[[bytes, random.Random], bytes]
ODD = (None, True, -1, 0, 1e308, 10**30, "", "\x00", "nan", "../..", [], {}, [[]], {"a": 1}, "ä" * 10_000)
"""Values of wrong types and sizes."""


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Cut, bits flipped, a piece doubled, taken out or replaced by noise."""
    at, length = chance.randrange(len(content) + 1), chance.randrange(1, 64)
    match chance.randrange(5):
        case 0:
            return content[:at]
        case 1:
            found = bytearray(content)
            for _ in range(chance.randrange(1, 8)):
                if found:
                    found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
            return bytes(found)
        case 2:
            return content[:at] + content[at : at + length] * chance.randrange(2, 50) + content[at:]
        case 3:
            return content[:at] + content[at + length :]
        case _:
            return content[:at] + chance.randbytes(length) + content[at + length :]


def fuzz(
    content: bytes, read: Read, times: int, seed: int, *, forgiving: bool = False, damage: Damage = damaged
) -> Counter[str]:
    """Read many damaged versions of something that can be read; how often it was taken and refused."""
    chance, found = random.Random(seed), Counter[str]()
    read(content)
    for _ in range(times):
        try:
            read(damage(content, chance))
        except TlpoError as error:
            assert "\n" not in str(error), error
            found["refused"] += 1
        else:
            found["taken"] += 1
    assert forgiving or found["refused"] > times / 20, "the damage does nothing"
    return found


def test_configurations(tmp_path: Path) -> None:
    """1,500 with damaged text, 1,000 with values that cannot be."""
    file = tmp_path / "run.yaml"
    config = load_config("quickstart", ["model.path=a", "data.prompts=b"])

    def read(content: bytes) -> None:
        file.write_bytes(content)
        dump_config(load_config(str(file)))

    text = dump_config(config).encode()
    fuzz(text, read, 1_500, seed=0)
    chance = random.Random(1)
    for _ in range(1_000):
        values = yaml.safe_load(text)
        section = chance.choice(list(values))
        if isinstance(values[section], dict) and values[section] and chance.random() < 0.9:
            values[section][chance.choice(list(values[section]))] = chance.choice(ODD)
        else:
            values[section] = chance.choice(ODD)
        try:
            read(yaml.safe_dump(values, allow_unicode=True).encode())
        except TlpoError as error:
            assert "\n" not in str(error)


def odd(content: bytes, chance: random.Random) -> bytes:
    """A JSON object with a value, at any depth, that cannot be."""
    values = inner = json.loads(content)
    while isinstance(inner, dict) and inner:
        key = chance.choice(list(inner))
        if not isinstance(inner[key], dict) or chance.random() < 0.3:
            inner[key] = chance.choice(ODD)
            break
        inner = inner[key]
    return json.dumps(values).encode()


def side_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[object, Callable[[], object]]]:
    """Small files of a run folder: what is in them, and who reads them."""
    config = load_config("quickstart", ["model.path=a", "data.prompts=b", f"folder={folder}", "trackers=[mlflow]"])
    (folder / "config.yaml").write_text(dump_config(config))
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", lambda config, run_id: Mock(id=run_id))
    prompts = [Prompt(index=n, id=f"p{n}", language="ko", text="질문?") for n in range(4)]
    record_prompts(prompts, folder)

    def requested() -> int | None:
        control._request_time = 0.0  # it is asked more often than the time of a file changes
        return control.requested_actors()

    def of_trackers() -> None:
        with trackers.start_trackers(config):
            pass

    control = RunControl(folder)
    control.write_status({"seconds": 1.5, "progress": 0.5, "actors": {"healthy": 2, "stale": 0}, "rollout_actors": 2})
    reported = json.loads((folder / "status.json").read_text())
    return {
        "status.json": (reported, lambda: status(folder)),
        "scale.json": ({"rollout_actors": 3}, requested),
        "metrics.jsonl": (
            {"step": 1, "time": 1.5, "loss": 0.25},
            lambda: truncate_metrics(folder / "metrics.jsonl", 1),
        ),
        "trackers.json": ({"mlflow": "0123abcd"}, of_trackers),
        "prompts.json": (
            json.loads((folder / "prompts.json").read_text()),
            lambda: verify_prompts(prompts, folder),
        ),
    }


def test_side_files_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 of each with damaged text, 500 with values that cannot be; a wish that is taken is one for some actors."""
    for seed, (name, (values, read_file)) in enumerate(side_files(tmp_path, monkeypatch).items()):
        file = tmp_path / name

        def read(content: bytes, file: Path = file, read_file: Callable[[], object] = read_file) -> None:
            file.write_bytes(content)
            found = read_file()
            assert not isinstance(found, int) or 1 <= found <= MAX_ACTORS

        content = json.dumps(values).encode()
        fuzz(content, read, 1_000, seed=20 + seed, forgiving=name in ("status.json", "scale.json", "metrics.jsonl"))
        fuzz(content, read, 500, seed=30 + seed, forgiving=True, damage=odd)


def test_model_folders(tiny_model: Path, tmp_path: Path) -> None:
    """300 of each file with damaged text, 200 with values that cannot be; 200 with weights damaged at their head."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    model = ModelConfig(path=str(folder), max_context=64)
    for seed, name in enumerate(("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")):
        file = folder / name
        content = file.read_bytes()

        def read(damaged_content: bytes, file: Path = file) -> None:
            file.write_bytes(damaged_content)
            tokenizer._load.cache_clear()
            tokenizer._rows.cache_clear()
            chat.check_model(model)

        fuzz(content, read, 300, seed=40 + seed, forgiving=True)
        if file.suffix == ".json":
            fuzz(content, read, 200, seed=50 + seed, forgiving=True, damage=odd)
        file.write_bytes(content)
    weights = (folder / "model.safetensors").read_bytes()

    def load(damaged_content: bytes) -> None:
        (folder / "model.safetensors").write_bytes(damaged_content)
        load_causal_lm(model, torch.float32)

    fuzz(weights[:4_000], lambda head: load(head + weights[4_000:]), 200, seed=60)


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.json.gz", "p.parquet"])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_prompt_files(name: str, skip_bad: bool, tmp_path: Path) -> None:
    """300 of each kind; what is skipped is counted."""
    rows = [{"id": f"p{n}", "language": ("ko", "ja")[n % 2], "prompt": f"질문 {n}?" * 3} for n in range(20)]
    file = tmp_path / name
    table = pa.Table.from_pylist(rows)
    match file.suffixes:
        case [".jsonl"]:
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        case [".json"]:
            content = json.dumps(rows).encode()
        case [".json", ".gz"]:
            content = gzip.compress(json.dumps(rows).encode())
        case _:
            pq.write_table(table, file)
            content = file.read_bytes()
    data = DataConfig(prompts=str(file), skip_bad=skip_bad)

    def read(damaged_content: bytes) -> None:
        file.write_bytes(damaged_content)
        found = read_prompts(data, 0, None)
        assert found.total == len(found.prompts) + sum(found.skipped.values())

    fuzz(content, read, 300, seed=len(name) + skip_bad, forgiving=skip_bad)


def test_records_on_the_wire() -> None:
    """1,000 of each kind; no group, prompt or result is half there, and an exchange that refuses has taken nothing."""
    prompts = [Prompt(index=n, id=f"p{n}", language="ko", text="질문?") for n in range(4)]
    results = [PromptResult(prompt_index=n, outcome=Outcome.CONFUSED) for n in range(4)]
    fuzz(encode([make_group(n) for n in range(4)]), decode, 1_000, seed=2)
    fuzz(encode_prompts(prompts), decode_prompts, 1_000, seed=3)
    fuzz(encode_results(results), decode_results, 1_000, seed=4)
    exchange = Exchange(prompts, {}, groups_per_update=2, lease_size=4, capacity=8, max_staleness=0)
    exchange.lease("a", 1)
    chance, payload = random.Random(5), encode([make_group(n) for n in range(4)])
    for _ in range(500):
        bad = damaged(payload, chance)
        try:
            decode(bad)
        except TlpoError:
            with pytest.raises(TlpoError):
                exchange.submit("a", results, bad, 0)
            assert exchange.status().accounting.leased == 4


def test_journals(tmp_path: Path) -> None:
    """1,500: a damaged last state is never taken for a whole one, the one before is."""
    journal = Journal(tmp_path)
    snapshot = Snapshot(state={"ledger": {}}, queue=encode([make_group(1)]))
    for version in (1, 2):
        journal.write_groups(version, encode([make_group(version)]))
        journal.commit(State(version=version, progress=0.1 * version, exchange=snapshot, counters={"sampled": version}))
    whole = journal.last()
    assert whole is not None and whole.version == 2
    chance = random.Random(6)
    for file in sorted(tmp_path.glob("*-00000002.*")):
        content = file.read_bytes()
        for _ in range(500):
            bad = damaged(content, chance)
            file.write_bytes(bad)
            found = journal.last()
            assert found is not None
            assert found.version == (2 if bad.strip() == content.strip() else 1)
        file.write_bytes(content)


def test_checkpoints(tmp_path: Path) -> None:
    """400: a damaged checkpoint is never loaded."""
    for version in (1, 2):
        checkpoint.begin(tmp_path, version)
        tensors = {"weight/a": torch.full((64,), float(version)), "steps": torch.ones(())}
        checkpoint.write_shard(checkpoint.partial_folder(tmp_path, version), 0, tensors)
        checkpoint.commit(tmp_path, version, "all weights", keep_last=2)
    first, second = checkpoint.checkpoints(tmp_path)
    chance = random.Random(7)
    for name in ("state-00000.safetensors", "state.json"):
        content = (second / name).read_bytes()
        for _ in range(200):
            bad = damaged(content, chance)
            (second / name).write_bytes(bad)
            found = checkpoint.newest(tmp_path, "all weights", 2)
            assert found == (second if bad.strip() == content.strip() else first)
        (second / name).write_bytes(content)
    assert checkpoint.newest(tmp_path, "all weights", 2) == second
    assert checkpoint.newest(tmp_path, "all weights", 1) == first
