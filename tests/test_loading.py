"""What each process of a run imports, and how."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import make_tiny_model
from tlpo_ray.loading import heavy_imports

ROOT = Path(__file__).parents[1]
LARGE = {"torch", "transformers", "vllm", "deepspeed", "trl", "mlflow", "wandb", "matplotlib", "sklearn"}
"""Libraries that take a process seconds."""
ROLES = {
    "a rollout actor before setup": ("actors.process", set()),
    "a learner rank before setup": ("learner.process", set()),
    "the exchange": ("tlpo_ray.flow.ray_shell", set()),
    "the driver": ("tlpo_ray.run.training, actors.ray_shell, learner.ray_shell", {"torch"}),
    "a rollout actor": ("actors.worker, actors.vllm_engine", {"torch"}),
    "a learner rank": ("learner.worker, learner.deepspeed_engine", {"torch"}),
}
"""Each role's modules, and those of the large libraries that importing them loads."""


@pytest.mark.parametrize("role", ROLES)
def test_a_role_imports_only_what_it_needs(role: str) -> None:
    modules, expected = ROLES[role]
    assert _loaded(f"import {modules}") == expected


@pytest.mark.slow
def test_a_learner_that_has_loaded_a_model_has_not_imported_vllm_nor_torchs_compiler(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path)
    start = f"""
from learner.process import LearnerProcess
from learner.ray_ranks import COMMON_ENV, CPU_ENV
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import FlowConfig, LearnerConfig
process = LearnerProcess(lambda bucket: bucket, COMMON_ENV | CPU_ENV)
model, learner = ModelConfig(path={str(model)!r}, dtype="float32"), LearnerConfig(num_ranks=1, zero_stage=1)
assert process.setup(model, learner, FlowConfig(), 0, 0, process.address(), 60.0, colocated=False) == 0
"""
    loaded = _loaded(start, LARGE | {"torch._inductor.compile_fx"})
    assert {"torch", "transformers", "deepspeed"} <= loaded
    assert not loaded & {"vllm", "trl", "matplotlib", "torch._inductor.compile_fx"}


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_during_heavy_imports_and_is_as_before_after_an_error(enabled: bool) -> None:
    was_enabled, frozen = gc.isenabled(), gc.get_freeze_count()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ImportError), heavy_imports():
            assert not gc.isenabled()
            with heavy_imports():
                pass
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        (gc.enable if was_enabled else gc.disable)()


def _loaded(code: str, names: set[str] = LARGE) -> set[str]:
    """Return which of some modules a new process has imported after a piece of code."""
    check = f"{code}\nimport sys; print(*({names!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())
