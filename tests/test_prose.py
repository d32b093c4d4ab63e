"""The prose of docstrings and documents stays within the bounds that CONTRIBUTING.md promises (`tests/prose.py`)."""

from __future__ import annotations

import re

import pytest

from tests.prose import TICS, document_lines, source_docstrings

MOST_PER_1000 = {"tell": 2, "is no": 3, "bare preposition": 5}
"""Uses per 1,000 docstrings that may remain: some are idiomatic. All others, and all uses in documents: none."""
DOCSTRINGS = list(source_docstrings())
LINES = list(document_lines())


@pytest.mark.parametrize("name", TICS)
def test_docstrings_and_documents_are_plain_english(name: str) -> None:
    pattern = re.compile(TICS[name])
    places = [place for place, text in DOCSTRINGS if pattern.search(text)]
    assert 1000 * len(places) / len(DOCSTRINGS) <= MOST_PER_1000.get(name, 0), places
    if name != "bare preposition":  # which is about a docstring's first word
        assert [place for place, line in LINES if pattern.search(line)] == []


def test_the_count_finds_what_it_looks_for() -> None:
    found = {
        name
        for name, pattern in TICS.items()
        if re.search(pattern, "Of who is told: it goes on, a row a line, is no row")
    }
    assert found == set(TICS)
