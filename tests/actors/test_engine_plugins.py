"""An inference engine of another package is added by an entry point alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.worker import build_worker
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.plugins import plugins
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.errors import ConfigError
from tlpo_ray.flow.records import Outcome, Prompt

MODULE = "outside_engine"
SOURCE = '''
from typing import ClassVar

from actors.hf_engine import TransformersEngine


class OutsideEngine:
    """Counts requests and forwards them."""

    display_name: ClassVar[str] = "an engine from outside"
    supports_broadcast: ClassVar[bool] = False
    needs_own_process: ClassVar[bool] = False

    def __init__(self, model, rollout, options):
        self.options = options
        self.num_requests = 0
        self._engine = TransformersEngine(model, rollout, options)

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def submit(self, request, on_done):
        self.num_requests += 1
        self._engine.submit(request, on_done)
'''
PROMPTS = [
    Prompt(index=number, id=str(number), language="ko", text="일본의 통화는 무엇입니까?") for number in range(6)
]  # fmt: skip


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with an engine called `outside` and one called `broken`."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    metadata = tmp_path / "outside_engine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-engine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[tlpo_ray.rollout_engines]\noutside = {MODULE}:OutsideEngine\nbroken = {MODULE}:Missing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plugins.cache_clear()
    yield
    sys.modules.pop(MODULE, None)
    plugins.cache_clear()


@pytest.fixture
def model(tiny_model: Path) -> ModelConfig:
    return ModelConfig(path=str(tiny_model), dtype="float32", max_context=96)


@pytest.mark.usefixtures("installed")
def test_an_engine_of_another_package_rolls_out_a_batch(model: ModelConfig) -> None:
    rollout = RolloutConfig(engine="outside", max_new_tokens=16)
    worker = build_worker(model, rollout, DetectorConfig(), seed=5, sleeps=True)
    report = worker.run_batch(PROMPTS)
    assert [result.prompt_index for result in report.results] == [prompt.index for prompt in PROMPTS]
    assert all(result.outcome is not Outcome.SKIPPED for result in report.results)
    assert report.groups, "a random model is confused"

    engine = worker.engine
    assert engine.display_name == "an engine from outside"
    assert engine.num_requests >= len(PROMPTS) + 2 * len(report.groups)  # type: ignore[attr-defined]
    assert engine.options.seed == 5 and engine.options.sleeps  # type: ignore[attr-defined]
    own = build_worker(model, RolloutConfig(engine="transformers", max_new_tokens=16), DetectorConfig(), seed=5)
    assert [group.response for group in own.run_batch(PROMPTS).groups] == [group.response for group in report.groups]


@pytest.mark.usefixtures("installed")
def test_an_engine_that_cannot_be_imported_is_named(model: ModelConfig) -> None:
    rollout = RolloutConfig(engine="broken")
    with pytest.raises(ConfigError, match=r"rollout\.engine broken is outside_engine:Missing, .*cannot be imported"):
        build_worker(model, rollout, DetectorConfig(), seed=0)


def test_an_engine_that_is_not_installed_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(ValueError, match="expected one of transformers, vllm; did you mean vllm"):
        RolloutConfig(engine="vlm")
