"""What the terminal shows of a phase."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tlpo_ray.commands import display
from tlpo_ray.commands.display import TerminalProgress


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts of the spinner, in order."""
    texts: list[str] = []

    class Spinner:
        def update(self, text: str) -> None:
            texts.append(text)

    @contextmanager
    def step(description: str) -> Iterator[Spinner]:
        texts.append(description)
        yield Spinner()

    monkeypatch.setattr(display, "step", step)
    return texts


def test_a_description_that_is_updated_with_a_share_gets_no_percentage(shown: list[str]) -> None:
    with TerminalProgress().phase("64 prompts · m (vllm)") as update:
        update("40 of 64 prompts · m (vllm)", 40 / 64)
    assert set(shown) == {"64 prompts · m (vllm)", "40 of 64 prompts · m (vllm)"}


def test_a_share_alone_is_shown_behind_the_description(shown: list[str]) -> None:
    with TerminalProgress().phase("loading") as update:
        update(share=0.5)
        update("converting")
        update(share=0.25)
    assert shown == ["loading", "loading · 50%", "converting", "converting · 25%", "converting"]
