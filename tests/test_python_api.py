"""The Python API: its page of the manual is true, and what `tlpo_ray` exports exists."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tlpo_ray

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
MARK = "# example: run by tests/test_python_api.py"
LAZY_PACKAGES = ("actors", "learner", "tlpo_ray")


@pytest.mark.slow
def test_the_example_runs_as_the_manual_shows_it(tmp_path: Path) -> None:
    (example,) = re.findall(rf"```python\n{MARK}\n(.+?)```", PAGE, re.DOTALL)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-4000:]
    first, second = run.stdout.splitlines()
    assert re.fullmatch(r"\d+ updates from \d+ confusion points: runs/python/model", first)
    assert second == "єна Cyrillic"


def test_every_function_of_the_page_exists() -> None:
    table = PAGE.partition("## Functions")[2].partition("## Progress")[0]
    names = set(re.findall(r"(?<!\)\.)\b(\w+)\(", table)) - {"to_json"}
    elsewhere = {
        "tlpo_ray.cluster.drain": {"drain_node"},
        "tlpo_ray.detect": {"detect", "DetectRequest"},
        "tlpo_ray.evaluation.perplexity": {"measure_perplexity", "PerplexityRequest"},
        "tlpo_ray.jobs": {"Jobs", "new_run"},
        "tlpo_ray.quickstart": {"cached_real_model"},
        "tlpo_ray.run.capacity": {"plan_split"},
    }
    for module, others in elsewhere.items():
        assert module in table and others <= names
        assert all(hasattr(importlib.import_module(module), name) for name in others)
        names -= others
    assert len(names) >= 19
    assert names <= set(tlpo_ray.__all__)


def test_every_method_of_the_page_exists() -> None:
    from tlpo_ray.jobs import Jobs

    table = PAGE.partition("## Functions")[2].partition("## Progress")[0]
    methods = set(re.findall(r"Jobs\(address\)\.(\w+)\(", table))
    assert methods == {"submit", "follow", "stop"} and all(hasattr(Jobs, method) for method in methods)
    results = set(re.findall(r"`(\w+)`", table.partition("`py.typed`")[2])) & set(tlpo_ray.__all__)
    assert results == {
        "RunResult", "EvaluationResult", "AccuracyResult", "BaselineResult", "RunStatus", "PostMortem",
    }  # fmt: skip
    assert all(hasattr(getattr(tlpo_ray, result), "to_json") for result in results)


@pytest.mark.parametrize("package", LAZY_PACKAGES)
def test_type_checkers_and_the_interpreter_see_the_same_names(package: str) -> None:
    """The imports for type checkers, the lazy exports and `__all__` name the same things."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    (call,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_exports"
    )
    lazy = {
        name: (target.partition(":")[0], target.partition(":")[2] or name)
        for name, target in ast.literal_eval(call.args[1]).items()
    }
    assert lazy == imports
    assert set(lazy) == set(__import__(package).__all__)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"torch", "ray", "transformers", "pydantic"}
    check = f"import sys, tlpo_ray, actors, learner; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
