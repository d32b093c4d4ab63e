"""Fixtures of the tests on real vocabularies and models, and their counts at the end of a test run."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.real.vocabularies import lay_out
from tlpo_ray.errors import UserError

ASKED = os.environ.get("TLPO_REAL", "")
"""Real models that `make test-real` was asked for, by name; empty in every other test run."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("large") and not ASKED:
        pytest.skip("downloads tens of megabytes or more: make test-real")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder with the tokenizer files of a published model; skip where they cannot be downloaded."""

    @cache
    def folder(name: str) -> Path:
        try:
            return lay_out(name, tmp_path_factory.mktemp("published") / name)
        except UserError as error:
            pytest.skip(str(error))

    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report what the tests have counted."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    counted = {report.nodeid: report.user_properties for report in reports if getattr(report, "user_properties", None)}
    for nodeid, properties in counted.items():
        named = ", ".join(f"{name} {value}" for name, value in properties)
        terminalreporter.write_line(f"{nodeid.rpartition('::')[2]}: {named}")
