"""Who may import whom (ARCHITECTURE.md). Reads every import statement, also those inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tlpo_ray", "actors", "learner", "detectors")

# Most specific name first: a module belongs to the first prefix that fits.
LAYERS: tuple[tuple[str, int], ...] = (
    ("detectors", 0),
    ("tlpo_ray.config", 0),
    ("tlpo_ray.errors", 0),
    ("tlpo_ray.flow", 1),
    ("tlpo_ray.cluster.connect", 1),
    ("actors", 2),
    ("learner", 2),
    ("tlpo_ray.data", 2),
    ("tlpo_ray.report", 2),
    ("tlpo_ray.evaluation", 3),
    ("tlpo_ray.baselines", 3),
    ("tlpo_ray.quickstart", 3),
    ("tlpo_ray.run.loop", 4),
    ("tlpo_ray.run.build", 4),
    ("tlpo_ray.run.folder", 4),
    ("tlpo_ray.run.journal", 4),
    ("tlpo_ray.run.components", 4),
    ("tlpo_ray.run.control", 4),
    ("tlpo_ray.run.counters", 4),
    ("tlpo_ray.run.reporter", 4),
    ("tlpo_ray.run.trackers", 4),
    ("tlpo_ray.run.resume", 4),
    ("tlpo_ray.experiment", 6),
    ("tlpo_ray.jobs", 5),
    ("tlpo_ray.doctor", 5),
    ("tlpo_ray.commands", 6),
    ("tlpo_ray.run.capacity", 2),
    ("tlpo_ray.cli", 7),
)
ALLOWED_BESIDE = {
    "tlpo_ray.baselines": {"tlpo_ray.evaluation"},
    "tlpo_ray.cluster.connect": {"tlpo_ray.flow"},
    "tlpo_ray.config": {"tlpo_ray.errors"},
}
"""Packages of one layer do not import each other, but for these."""
ONLY_IN: dict[str, tuple[str, ...]] = {
    "ray": (
        "actors.ray_shell",
        "learner.ray_shell",
        "tlpo_ray.flow.ray_shell",
        "tlpo_ray.experiment.ray_shell",
        "tlpo_ray.jobs.ray_shell",
        "tlpo_ray.cluster.connect",
    ),
    "vllm": ("actors.vllm_engine", "tlpo_ray.flow.vllm_transfer"),
    "deepspeed": ("learner.deepspeed_engine",),
    "peft": ("tlpo_ray.flow.lora",),
    "wandb": ("tlpo_ray.run.trackers",),
    "mlflow": ("tlpo_ray.run.trackers",),
    "trl": ("tlpo_ray.baselines.trainers",),
}
WITHOUT_TORCH = (
    "detectors",
    "tlpo_ray.config",
    "tlpo_ray.data",
    "tlpo_ray.report",
    "tlpo_ray.run.loop",
    "tlpo_ray.cli",
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, ast.parse(file.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            # `from a import b`: b may be a module of its own.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = dict(modules())


def room(name: str) -> tuple[str, int] | None:
    """The package of LAYERS that a name lies in, with its layer."""
    return next(((prefix, layer) for prefix, layer in LAYERS if f"{name}.".startswith(f"{prefix}.")), None)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name: str) -> None:
    here = room(name)
    if here is None:
        assert name == "tlpo_ray", f"{name} has no layer: give it one here and in ARCHITECTURE.md"
        return
    for target in imports(MODULES[name]):
        there = room(target)
        if there is None or there[0] == here[0]:
            continue
        allowed = there[1] < here[1] or there[0] in ALLOWED_BESIDE.get(here[0], ()) or here[1] >= 4
        assert allowed and there[1] <= here[1], f"{name} (layer {here[1]}) imports {target} (layer {there[1]})"


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_imported_in_its_rooms_only(library: str) -> None:
    found = {name for name, tree in MODULES.items() if any(f"{t}.".startswith(f"{library}.") for t in imports(tree))}
    assert found, f"{library} is imported nowhere"
    assert found <= set(ONLY_IN[library])


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_no_torch(package: str) -> None:
    inside = [tree for name, tree in MODULES.items() if f"{name}.".startswith(f"{package}.")]
    assert inside
    assert not any(f"{target}.".startswith("torch.") for tree in inside for target in imports(tree))


def test_the_check_sees_a_wrong_import() -> None:
    tree = ast.parse("def f():\n    from learner import worker\n")
    assert list(imports(tree)) == ["learner.worker"]
    assert room("learner.worker") == ("learner", 2)
    assert room("tlpo_ray.flow.records") == ("tlpo_ray.flow", 1)
