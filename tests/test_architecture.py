"""The structure that ARCHITECTURE.md and CONTRIBUTING.md promise: import directions, no cycles, sizes, public names.

Reads every import statement, also those inside functions and for type checkers only.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tlpo_ray", "actors", "learner", "detectors")

LAYERS: dict[str, int] = {
    "detectors": 0,
    "tlpo_ray.errors": 0,
    "tlpo_ray.lazy": 0,
    "tlpo_ray.loading": 0,
    "tlpo_ray.files": 0,
    "tlpo_ray.progress": 0,
    "tlpo_ray.stopping": 0,
    "tlpo_ray.config": 0,
    "tlpo_ray.cluster": 1,
    "tlpo_ray.flow": 2,
    "actors": 3,
    "learner": 3,
    "tlpo_ray.data": 3,
    "tlpo_ray.report": 3,
    "tlpo_ray.detect": 4,
    "tlpo_ray.evaluation": 4,
    "tlpo_ray.run": 5,
    "tlpo_ray.baselines": 6,
    "tlpo_ray.quickstart": 6,
    "tlpo_ray.jobs": 6,
    "tlpo_ray.experiment": 7,
    "tlpo_ray.commands": 8,
    "tlpo_ray.cli": 9,
    "tlpo_ray": 10,
    "tlpo_ray.__main__": 10,
}
"""Layer of each package: imports point to lower layers, or stay inside the package."""
WITHIN_LAYER = {
    "tlpo_ray.files": {"tlpo_ray.errors"},
    "tlpo_ray.stopping": {"tlpo_ray.errors"},
    "tlpo_ray.config": {"tlpo_ray.errors", "tlpo_ray.loading", "detectors"},
}
"""The ground floor has an order of its own."""
ONLY_IN: dict[str, tuple[str, ...]] = {
    "ray": (
        "actors.ray_shell",
        "learner.ray_ranks",
        "learner.ray_shell",
        "tlpo_ray.cluster",
        "tlpo_ray.experiment.ray_shell",
        "tlpo_ray.flow.ray_shell",
        "tlpo_ray.jobs.ray_shell",
        "tlpo_ray.run.ray_metrics",
    ),
    "vllm": (
        "actors.decoding.vllm_processor",
        "actors.vllm_engine",
        "actors.vllm_requests",
        "tlpo_ray.flow.vllm_transfer",
    ),
    "deepspeed": ("learner.deepspeed_engine",),
    "peft": ("tlpo_ray.flow.lora",),
    "wandb": ("tlpo_ray.run.trackers",),
    "mlflow": ("tlpo_ray.run.trackers",),
    "trl": ("tlpo_ray.baselines.trainers",),
    "rich": ("tlpo_ray.commands", "tlpo_ray.cli"),
    "typer": ("tlpo_ray.cli",),
}
"""Libraries that only these modules and packages may import."""
WITHOUT_TORCH = (
    "detectors",
    "tlpo_ray.config",
    "tlpo_ray.data",
    "tlpo_ray.report",
    "tlpo_ray.run.loop",
    "tlpo_ray.commands",
    "tlpo_ray.cli",
)
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60


def source_modules() -> Iterator[tuple[str, str]]:
    """Yield (module name, source) of every module."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file.read_text(encoding="utf-8")


SOURCES = dict(source_modules())
MODULES = {name: ast.parse(source) for name, source in SOURCES.items()}


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of everything that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            # `from a import b`: b may be a module of its own.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_inside(name: str, package: str) -> bool:
    """Return whether a dotted name is a package or something in it."""
    return f"{name}.".startswith(f"{package}.")


def package_of(name: str) -> str | None:
    """Return the package of LAYERS that a dotted name belongs to: the longest one that fits."""
    return max((package for package in LAYERS if is_inside(name, package)), key=len, default=None)


def module_of(name: str) -> str | None:
    """Return the module of ours that a dotted name is, or is defined in."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_to_lower_layers(name: str) -> None:
    here = package_of(name)
    assert here is not None
    assert here != "tlpo_ray" or name == "tlpo_ray", f"{name} has no layer: give it one here and in ARCHITECTURE.md"
    for target in imports(MODULES[name]):
        there = package_of(target)
        if there in (None, here):
            continue
        allowed = LAYERS[there] < LAYERS[here] or there in WITHIN_LAYER.get(here, ())
        assert allowed, f"{name} (layer {LAYERS[here]}) imports {target} (layer {LAYERS[there]})"


def test_no_import_cycles() -> None:
    graph = {name: {module_of(target) for target in imports(tree)} - {None, name} for name, tree in MODULES.items()}
    # A package's own modules import through it without depending on what its __init__ exports lazily.
    for name, targets in graph.items():
        targets -= {target for target in targets if target is not None and is_inside(name, target)}
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    assert not graph, f"these modules import each other in a circle, or import one that does: {sorted(graph)}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_imported_in_its_modules_only(library: str) -> None:
    importing = {name for name, tree in MODULES.items() if any(is_inside(target, library) for target in imports(tree))}
    assert importing, f"{library} is imported nowhere"
    assert {name for name in importing if not any(is_inside(name, allowed) for allowed in ONLY_IN[library])} == set()


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_no_torch(package: str) -> None:
    inside = [tree for name, tree in MODULES.items() if is_inside(name, package)]
    assert inside
    assert not any(is_inside(target, "torch") for tree in inside for target in imports(tree))


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_functions_are_small(name: str) -> None:
    lines = len(SOURCES[name].splitlines())
    assert lines <= MAX_MODULE_LINES, f"{name} has {lines} lines"
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{name}: {node.name} has {length} lines"


PACKAGE_NAMES = [name for name in MODULES if (ROOT / name.replace(".", "/") / "__init__.py").exists()]


@pytest.mark.parametrize("name", PACKAGE_NAMES)
def test_every_package_lists_its_public_names(name: str) -> None:
    """A package lists either what it exports, or all of its modules; ruff keeps the order."""
    package, folder = importlib.import_module(name), ROOT / name.replace(".", "/")
    public = set(package.__all__)
    assert len(public) == len(package.__all__)
    modules = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    modules |= {file.parent.name for file in folder.glob("*/__init__.py")}
    if public <= modules:
        assert public == modules, f"{name}.__all__ leaves out {sorted(modules - public)}"
    else:
        for member in public:
            assert hasattr(package, member), f"{name}.__all__ lists {member}, which does not exist"


def test_the_checks_find_a_wrong_import() -> None:
    tree = ast.parse("def f():\n    from learner import worker\n")
    assert list(imports(tree)) == ["learner.worker"]
    assert package_of("learner.worker") == "learner"
    assert package_of("tlpo_ray.flow.records.Prompt") == "tlpo_ray.flow"
    assert module_of("tlpo_ray.flow.records.Prompt") == "tlpo_ray.flow.records"
