"""One-line summaries of errors that other libraries raise."""

from __future__ import annotations

import pytest

from tlpo_ray.errors import first_line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("one\ntwo", "one"),
        ("", "OSError"),
        ("wrong field:\n    expected int\nelse", "wrong field: expected int"),
        ("at http://me:hunter2@host:5000/a@b and s3://k:s@c", "at http://host:5000/a@b and s3://c"),
        ("C://x, me@example.org", "C://x, me@example.org"),
    ],
)
def test_the_summary_is_one_line_without_credentials(message: str, line: str) -> None:
    assert first_line(OSError(message)) == line
